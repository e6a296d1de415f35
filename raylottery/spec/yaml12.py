"""YAML as sweep files use it: plain data, each value with the line it stands on.

Scalars follow YAML 1.2: `1e-3` is a number, only true and false are booleans, `12:30` and
`2024-01-01` are text. Duplicate keys, tags and documents without end are refused, and numbers are
decimal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.nodes import MappingNode, Node, ScalarNode
from yaml.reader import ReaderError

from raylottery.spec.problems import Key, Problem


MAX_DEPTH = 20
MAX_VALUES = 100_000
MAX_CHARACTERS = 200_000
MAX_DIGITS = 100
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# Anchored at the end, since PyYAML's resolver only matches the beginning.
_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_UNTAGGED = "untagged"


class NotYaml(ValueError):
    """A text that is no sweep file's YAML, and the line where that shows."""

    def __init__(self, text: str, line: int | None = None):
        self.line = line
        super().__init__(text)


@dataclass
class Document:
    """A YAML text as data, with the line of each key and entry."""

    value: Any = None
    lines: dict[Key, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    """Faults that leave the rest readable, such as a key given twice."""


def load(text: str) -> Document:
    """The document in `text`; NotYaml where it cannot be read."""
    if len(text) > MAX_CHARACTERS:
        raise NotYaml(f"longer than {MAX_CHARACTERS} characters, which no sweep file is.")
    try:
        root = yaml.compose(text, Loader=_Composer)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise NotYaml(f"not YAML: {what}.", mark and mark.line + 1) from error
    except ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise NotYaml(f"not YAML: {error.reason}.", line) from error
    except (ValueError, OverflowError) as error:  # PyYAML's int() and chr() of absurd numbers
        raise NotYaml(f"not YAML: {error}.") from error
    document = Document()
    if root is not None:
        document.value = _data(root, (), document, ())
    return document


def dump(value: Any) -> str:
    """YAML of plain data, which `load` and any other reader take for the same data."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _data(node: Node, key: Key, document: Document, above: tuple[int, ...]) -> Any:
    line = node.start_mark.line + 1
    if id(node) in above:
        raise NotYaml("an alias stands inside what it names, which never ends.", line)
    if node.tag != _UNTAGGED:
        raise NotYaml(f"the tag {node.tag} has no place in a sweep file.", line)
    if len(key) > MAX_DEPTH:
        raise NotYaml("nested too deep.", line)
    document.lines.setdefault(key, line)
    if len(document.lines) > MAX_VALUES:
        raise NotYaml(f"its aliases make more than {MAX_VALUES} values of it.", line)
    above = (*above, id(node))
    if isinstance(node, ScalarNode):
        return _scalar(node, line)
    if isinstance(node, MappingNode):
        return _mapping(node, key, document, above)
    return [_data(part, (*key, i), document, above) for i, part in enumerate(node.value)]


def _mapping(node: MappingNode, key: Key, document: Document, above: tuple[int, ...]) -> Any:
    found: dict[str, Any] = {}
    for name, value in node.value:
        line = name.start_mark.line + 1
        if not isinstance(name, ScalarNode) or name.tag != _UNTAGGED:
            raise NotYaml("a key is a plain name, not a list or a mapping.", line)
        if not name.value.isprintable():
            raise NotYaml(f"the key {name.value!r} cannot be printed.", line)
        inner = (*key, name.value)
        if name.value in found:
            text = f"given twice, first on line {document.lines[inner]}; keep one of them."
            document.problems.append(Problem(inner, text))
        document.lines[inner] = line
        found[name.value] = _data(value, inner, document, above)
    return found


def _scalar(node: ScalarNode, line: int) -> Any:
    text = node.value
    if node.style is not None:  # quoted
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        if len(text) > MAX_DIGITS:
            raise NotYaml(f"a number of {len(text)} digits.", line)
        return int(text)
    if _FLOAT.match(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


class _Composer(yaml.SafeLoader):
    """Nodes only: scalars stay text, and nesting has an end."""

    depth = 0

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        return _UNTAGGED

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark
            raise ComposerError(None, None, "nested too deep", mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 would take for something other than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
