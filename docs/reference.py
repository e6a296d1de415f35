"""Writes docs/sweep.md, the reference of the sweep file, from the models themselves.

Run it with `python docs/reference.py`; a test compares what it would write with what is there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from raylottery.spec import CONTROLS, DATASETS, Sweep


PAGE = Path(__file__).parent / "sweep.md"

HEAD = """# The sweep file

One YAML file says what to compare. Unknown or misspelt keys, wrong units and impossible
combinations are refused before anything starts, with file, line and the nearest valid name.
`--set prune.rounds=3` overrides any field from the command line. This page is made from the
models by `python docs/reference.py`.

Extents are lengths with a unit: `500it` (updates), `2ep` (epochs), `5%` (of the training length).

"""

TAIL = """## Axes

`axes` maps fields to lists of values; the arms are their product, and each arm is run with every
seed.

```yaml
axes:
  prune.scope: [global, layerwise]      # a product of the lists ...
  rewind.weights: [init, 1ep]
  zip:                                  # ... in which zipped lists go together
    trainer.model: [mlp-100-100, mlp-300-100]
    resources.cpus: [1, 2]              # resources are no axis, but may follow one
```

A sweep that gains values, seeds, rounds or controls is extended: run it again, and only what is
new is trained.
"""


def page() -> str:
    """The whole reference."""
    return HEAD + section(Sweep, "The sweep", "") + lists() + TAIL


def section(model: type[BaseModel], title: str, path: str) -> str:
    """A table of a model's fields, then the models below it."""
    rows = [f"## {title}\n", "| field | default | |", "|---|---|---|"]
    below = ""
    for name, field in model.model_fields.items():
        full = f"{path}.{name}" if path else name
        inner = group(field.annotation)
        help_text = re.sub(r"\s+", " ", field.description or "")
        if inner is not None:
            rows.append(f"| `{full}` | | {help_text} See below. |")
            below += section(inner, f"`{full}`", full)
        else:
            rows.append(f"| `{full}` | {default(field)} | {help_text}{choices(field)} |")
    return "\n".join(rows) + "\n\n" + below


def group(annotation: Any) -> type[BaseModel] | None:
    """The model behind a field that is a group of fields."""
    return (
        annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    )


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    plain = str(value).lower() if isinstance(value, bool) else value
    return f"`{list(plain) if isinstance(plain, tuple) else plain}`"


def choices(field: FieldInfo) -> str:
    """The words a field may hold, where there are only a few."""
    words = [word for word in get_args(field.annotation) if isinstance(word, str)]
    return f" One of {', '.join(f'`{word}`' for word in words)}." if words else ""


def lists() -> str:
    names = ", ".join(f"`{name}`" for name in DATASETS)
    controls = ", ".join(f"`{name}`" for name in CONTROLS)
    return f"Data sets: {names}. Controls: {controls} (see [the words](concepts.md#controls)).\n\n"


if __name__ == "__main__":
    PAGE.write_text(page())
