"""Mangled sweep files: each is a sweep after all, or one SpecError that says where and what.

Two thousand at each run: the samples, and every sweep that is shipped.
"""

from __future__ import annotations

import re
import string
from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raylottery.errors import SpecError
from raylottery.spec import dump_sweep, expand, parse_sweep
from tests.unit.spec.samples import AGENT, STUDY


SHIPPED = sorted((Path(__file__).parents[3] / "sweeps").glob("*.yaml"))
assert SHIPPED


def mangled(times: int) -> settings:
    """A hang is caught by the suite's own timeout."""
    return settings(
        deadline=None, max_examples=times, suppress_health_check=[HealthCheck.too_slow]
    )


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(
        ["init", "final", "0it", "1ep", "5%", "99999999ep", "1e400", "1ts", "global", "adam",
         "random-ticket", "mlp-0", "mlp-99999-99999", "zip", "prune.scope", "../x", "{name}",
         "dqn", "classifier", "3sync", "1000ts", "mask-distance", "solved", "kept", "mlp"]
    ),
)  # fmt: skip
STUDIES = st.sampled_from([STUDY, AGENT, *(file.read_text() for file in SHIPPED)])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(string.ascii_lowercase + ".", max_size=6)
            | st.sampled_from(["zip", "prune.scope", "rewind.weights", "kind", "rounds"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def check(text: str, sets: tuple[str, ...] = ()) -> None:
    """The one promise: a SpecError whose every line has a place, or a sweep that stands."""
    try:
        sweep = parse_sweep(text, "study.yaml", sets)
    except SpecError as error:
        refusal = error
    else:
        assert parse_sweep(dump_sweep(sweep)) == sweep
        arms = expand(sweep)
        assert len({arm.id for arm in arms}) == len(arms) > 0
        return
    for line in str(refusal).splitlines():
        assert re.match(r"study\.yaml(:\d+)?: .|--set .|\.\.\. and \d+ more\.$", line), line
    assert str(refusal).encode("utf-8")
    lines = re.split(r"\r\n|[\n\r\x85\u2028\u2029]", text)
    assert refusal.line is None or 1 <= refusal.line <= len(lines)


@st.composite
def texts(draw) -> str:
    """A study with a few slips of the hand."""
    lines = draw(STUDIES).splitlines()
    for _ in range(draw(st.integers(1, 4))):
        i = draw(st.integers(0, len(lines) - 1))
        slip = draw(st.sampled_from(["delete", "double", "move", "swap", "type", "cut", "indent"]))
        at = draw(st.integers(0, len(lines[i])))
        if slip == "delete" and len(lines) > 1:
            del lines[i]
        elif slip == "double":
            lines.insert(draw(st.integers(0, len(lines))), lines[i])
        elif slip == "move":
            lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(i))
        elif slip == "swap":
            line = lines[i]
            lines[i] = line[:at] + line[at : at + 2][::-1] + line[at + 2 :]
        elif slip == "type":
            typed = draw(st.text("{}[],:#&*!|>'\"%@`- \t\n0a~?\\", min_size=1, max_size=3))
            lines[i] = lines[i][:at] + typed + lines[i][at:]
        elif slip == "cut":
            lines[i] = lines[i][:at]
        else:
            lines[i] = " " * draw(st.integers(0, 4)) + lines[i].lstrip()
    return "\n".join(lines) + draw(st.sampled_from(["", "\n"]))


@given(texts())
@mangled(750)
def test_slips_of_the_hand(text):
    check(text)


def places(tree, here=()) -> list[tuple]:
    """Every key and entry of a tree."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in inner:
        found.append((*here, key))
        if isinstance(value, dict | list):
            found += places(value, (*here, key))
    return found


@st.composite
def trees(draw) -> str:
    """A study with a few values that belong elsewhere."""
    tree = yaml.safe_load(draw(STUDIES))
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(places(tree) or [("name",)]))
        part = tree
        for key in above:
            part = part[key]
        change = draw(st.sampled_from(["replace", "delete", "add", "misspell"]))
        if change == "replace":
            part[last] = draw(VALUES)
        elif change == "delete":
            del part[last]
        elif change == "add" and isinstance(part, dict):
            part[draw(st.text(max_size=8))] = draw(VALUES)
        elif change == "misspell" and isinstance(part, dict):
            at = draw(st.integers(0, len(last)))
            part[last[:at] + draw(st.text(max_size=2)) + last[at + 1 :]] = part.pop(last)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=draw(st.booleans()))


@given(trees())
@mangled(750)
def test_values_that_belong_elsewhere(text):
    check(text)


@given(
    STUDIES,
    st.lists(
        st.one_of(
            st.builds(
                "{}={}".format,
                st.sampled_from(
                    ["prune.rounds", "trainer", "trainer.lr", "axes", "axes.zip", "seeds", "name",
                     "axes.prune.scope", "axes.zip.rewind.weights", "rewind", "x.y", "axes.", ".",
                     "trainer.kind", "trainer.env_args", "trainer.hidden", "trainer.rollout",
                     "keep", "cohort", "timeout", "resources.memory", "stop", "stop.rule",
                     "stop.length_power", "reset", "reset.replay"]
                ),
                VALUES.map(lambda v: yaml.safe_dump(v, default_flow_style=True).split("\n...")[0]),
            ),
            st.text(max_size=20),
        ),
        min_size=1,
        max_size=3,
    ),
)  # fmt: skip
@mangled(250)
def test_overrides_of_any_kind(study, sets):
    check(study, tuple(sets))


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
@mangled(250)
def test_any_text_at_all(text):
    check(text)
