"""`keep`: one word or a section, in no id, and refused by name where it cannot be meant."""

from __future__ import annotations

import pytest

from raylottery.spec import dump_sweep, lineages, parse_sweep
from tests.unit.spec.samples import altered, refusal


def with_keep(text: str) -> str:
    return altered(("retries: 3", f"keep: {text}"))


@pytest.mark.parametrize(
    ("text", "what", "densities", "shown"),
    [
        ("all", "all", (), "all"),
        ("tickets", "tickets", (), "tickets"),
        ("last", "last", (), "last"),
        ("{what: tickets}", "tickets", (), "tickets"),
        ("{what: last, densities: [0.2, 1]}", "last", (0.2, 1.0),
         "{what: last, densities: [0.2, 1]}"),
    ],
)  # fmt: skip
def test_what_is_kept_is_a_word_or_a_section(text, what, densities, shown):
    sweep = parse_sweep(with_keep(text))
    assert (sweep.keep.what, sweep.keep.densities, str(sweep.keep)) == (what, densities, shown)
    assert parse_sweep(dump_sweep(sweep)) == sweep
    assert parse_sweep(with_keep(shown)) == sweep, "what is shown can be written"


def test_all_is_kept_unless_something_is_said():
    assert parse_sweep(altered()).keep.what == "all"


def test_an_override_sets_it():
    assert parse_sweep(altered(), "study.yaml", ("keep=last",)).keep.what == "last"
    whole = ("keep={what: last, densities: [0.5]}",)
    assert parse_sweep(altered(), "study.yaml", whole).keep.densities == (0.5,)


def test_it_renames_no_arm_no_lineage_and_no_round():
    def names(text: str) -> list[tuple]:
        found = lineages(parse_sweep(text))
        return [(line.arm.id, line.id, [r.key for r in line.rounds]) for line in found]

    assert names(with_keep("last")) == names(altered())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lst", "keep: no such value: 'lst'. Did you mean 'last'?"),
        ("7", "keep: expected one of all, tickets, last, or a section such as {what: last, "
              "densities: [0.2]}, found 7."),
        ("", "keep: expected one of all, tickets, last, or a section such as {what: last, "
             "densities: [0.2]}, found nothing."),
        ("[last]", "keep: expected one of all, tickets, last, or a section such as {what: last, "
                   "densities: [0.2]}, found ['last']."),
        ("{what: lost}", "keep.what: no such value: 'lost'. Did you mean 'last'?"),
        ("{wat: last}", "keep.wat: no such field. Did you mean 'what'?"),
        ("{what: tickets, densities: [0.2]}",
         "keep.densities: keep: tickets keeps every ticket; leave them out."),
        ("{what: last, densities: [0.2, 0.2]}",
         "keep.densities[1]: 0.2 is listed twice; take one out."),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_its_place_and_the_mend(text, message):
    assert refusal(with_keep(text)) == [f"study.yaml:18: {message}"]


@pytest.mark.parametrize(
    ("density", "bound"), [("0", "above 0, not 0"), ("1.5", "at most 1, not 1.5")]
)
def test_a_density_lies_above_none_and_not_above_all(density, bound):
    [line] = refusal(with_keep(f"{{what: last, densities: [{density}]}}"))
    assert line.startswith(f"study.yaml:18: keep.densities[0]: must be {bound}")


@pytest.mark.parametrize("path", ["keep", "keep.what", "keep.densities"])
def test_it_is_no_axis(path):
    text = altered(("prune.scope: [global, layerwise]", f"{path}: [all, last]"))
    assert refusal(text) == [
        f"study.yaml:14: axes.{path}: cannot be an axis: it changes no result; set keep itself."
    ]
