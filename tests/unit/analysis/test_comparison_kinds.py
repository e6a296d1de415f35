"""Comparisons by several fields, at equal FLOPs, of many densities, of sweeps half done."""

from __future__ import annotations

import csv
import io
import math

import pandas as pd
import pytest

import raylottery
from raylottery.analysis import compare
from raylottery.analysis.export import comparison_cells, comparison_text
from raylottery.errors import NotFoundError, UsageError


SCOPES = {"prune.scope": ["global", "layerwise"]}
SCOPE_BY_REWIND = SCOPES | {"rewind.weights": ["init", "1ep"]}
LEAD = {"global": 0.04, "layerwise": 0.0, "init": 0.0, "1ep": -0.01}


def leads(values, seed, control, density):
    """Each value adds its lead; seeds echo a little."""
    lead = sum(LEAD[value] for value in values.values())
    return 0.6 + 0.05 * seed + lead + 0.002 * math.cos(3 * seed + 5 * len(str(values)))


def refusal(frame, by, **options) -> str:
    with pytest.raises(UsageError) as caught:
        compare(frame, by, **options)
    return str(caught.value)


def test_of_several_fields_each_combination_is_a_value(study):
    study.write(leads, axes=SCOPE_BY_REWIND)
    by = ["prune.scope", "rewind.weights"]
    found = compare(study.load(), by, at_density=0.25)
    assert found.by == "prune.scope, rewind.weights"
    assert [one.value for one in found.effects] == [
        "scope=global weights=1ep",
        "scope=layerwise weights=init",
        "scope=layerwise weights=1ep",
    ]
    assert {one.reference for one in found.effects} == {"scope=global weights=init"}
    assert [one.effect for one in found.effects] == pytest.approx([-0.01, -0.04, -0.05], abs=0.004)
    assert {(one.n, one.pairs) for one in found.effects} == {(3, 3)}
    assert found.notes == ("The 3 pairs of values are not corrected for each other.",)
    against = compare(study.load(), by, at_density=0.25, against="scope=layerwise weights=1ep")
    assert [one.effect for one in against.effects] == pytest.approx([0.05, 0.04, 0.01], abs=0.004)


def test_one_field_alone_is_the_same_asked_for_as_a_list_or_twice(study):
    study.write(leads, axes=SCOPE_BY_REWIND)
    frame = study.load()
    once = compare(frame, "prune.scope")
    assert compare(frame, ["prune.scope"]) == compare(frame, ["prune.scope"] * 2) == once


def test_of_several_fields_each_must_vary_and_none_is_control(study):
    study.write(leads, axes=SCOPE_BY_REWIND, controls=["reinit"])
    frame = study.load()
    assert "trainer.lr is 0.002 in every" in refusal(frame, ["prune.scope", "trainer.lr"])
    assert "Ask for it alone" in refusal(frame, ["prune.scope", "control"])
    assert "Did you mean 'prune.scope'?" in refusal(frame, ["rewind.weights", "prune.scop"])
    assert "Name one" in refusal(frame, [])


def test_a_clock_that_follows_the_weights_is_where_they_are_written_out_or_not(study):
    """Two sweeps, one of which writes the clock out: no difference between them."""
    weights = {"rewind.weights": ["init", "1ep"]}
    study.write(leads, name="short", axes=SCOPES, spec={"rewind.weights": "1ep"})
    study.write(
        leads, name="long", axes=SCOPES, spec={"rewind.weights": "1ep", "rewind.clock": "1ep"},
        seeds=[3, 4],
    )  # fmt: skip
    both = study.load("short", "long")
    assert "rewind.clock is 1ep in every lineage" in refusal(both, "rewind.clock")
    found = compare(both, "prune.scope", at_density=0.25)
    assert (found.effects[0].n, found.notes) == (5, ())
    study.write(leads, axes=weights)
    assert compare(study.load(), "rewind.weights", at_density=0.25).notes == ()


def test_weights_and_clock_are_told_apart_where_they_are_two_places(study):
    zipped = [
        {"rewind.weights": "init", "rewind.clock": None},  # follows: init
        {"rewind.weights": "final", "rewind.clock": "init"},
        {"rewind.weights": "1ep", "rewind.clock": "1ep"},
        {"rewind.weights": "final", "rewind.clock": "1ep"},
    ]
    study.write(lambda values, seed, control, density: 0.5 + 0.01 * seed, zipped=zipped)
    found = compare(study.load(), "rewind.weights", at_density=0.25)
    assert [(one.value, one.reference) for one in found.effects] == [("final", "init")]
    assert found.notes == (
        "Differences are averaged over rewind.clock within each seed.",
        "weights=1ep is not compared with weights=init: no two lineages have the same seed and "
        "differ in rewind.weights alone.",
    )
    by_both = compare(study.load(), ["rewind.weights", "rewind.clock"], at_density=0.25)
    assert [one.value for one in by_both.effects] == [
        "weights=1ep clock=1ep",
        "weights=final clock=init",
        "weights=final clock=1ep",
    ]


def test_arms_are_compared_at_equal_flops_where_asked(study):
    """Scores depend on FLOPs alone; one scope keeps the dear layer twice as long."""
    layers = {"conv": (100, 9), "fc": (900, 1)}

    def kept(row, layer, size):
        dear = row["prune.scope"] == "global" and layer == "conv"
        return round(size * (math.sqrt(row["density"]) if dear else row["density"]))

    def flops(values, density):
        conv = math.sqrt(density) if values["prune.scope"] == "global" else density
        return (conv + density) / 2

    study.write(
        lambda values, seed, control, density: (
            0.6 + 0.1 * seed + 0.05 * math.log(flops(values, density))
        ),
        axes=SCOPES,
        densities=lambda _: (1.0, 0.64, 0.36, 0.25, 0.16, 0.09, 0.04),
    )
    study.put_layers(layers, kept)
    by_density = compare(study.load(), "prune.scope", at_density=0.2)
    by_flops = compare(study.load(), "prune.scope", at_density=0.2, matched="flops")
    assert abs(by_density.effects[0].effect or 0.0) > 0.01
    assert by_flops.effects[0].effect == pytest.approx(0.0, abs=1e-6)
    assert by_flops.matched == "flops"
    assert by_flops.sentences[0].startswith("At 20 % of the dense FLOPs ")
    assert next(iter(comparison_cells(by_flops)[0])) == "share of FLOPs"
    deepest = compare(study.load(), "prune.scope", matched="flops").effects[-1].density
    assert deepest == 0.2, "one scope stops at 12 %"


def test_a_lineage_that_two_sweeps_share_has_its_flops_once(study):
    layers = {"conv": (100, 9), "fc": (900, 1)}
    for name in ("study", "again"):
        study.write(leads, name=name, axes=SCOPES)
        study.put_layers(layers, lambda row, layer, size: round(size * row["density"]), name=name)
    once, both = (
        compare(frame, "prune.scope", matched="flops", at_density=0.25).effects
        for frame in (study.load(), study.load("study", "again"))
    )
    assert once == both


ONLY = {"prune.only": [["big.*"], ["small.*"]]}


def only_chosen(row, layer, size):
    chosen = f"{layer}.*" in row["prune.only"]
    return round(size * 0.5 ** row["round"]) if chosen else size


def write_only(study):
    sizes = {"big": 800, "small": 200}

    def density(values, index):
        chosen = values["prune.only"][0].removesuffix(".*")
        return 1 - sizes[chosen] * (1 - 0.5**index) / 1000

    study.write(
        lambda values, seed, control, density: (
            0.5 + 0.01 * seed**2 + 0.1 * (values["prune.only"] == ["small.*"])
        ),
        axes=ONLY,
        densities=lambda values: [density(values, index) for index in range(4)],
    )
    study.put_layers({name: (size, 1) for name, size in sizes.items()}, only_chosen)


def test_arms_that_prune_different_layers_compare_at_what_is_left_of_these(study):
    write_only(study)
    found = compare(study.load(), "prune.only", matched="pruned")
    assert [one.density for one in found.effects] == [0.5, 0.2]
    assert [one.n for one in found.effects] == [3, 3]
    assert found.sentences[0].startswith("At 50 % density of what each arm prunes only=")
    assert not [note for note in found.notes if "--matched" in note]


def test_at_equal_density_of_the_network_a_note_names_the_other_way(study):
    write_only(study)
    found = compare(study.load(), "prune.only")
    assert [one.density for one in found.effects] == [pytest.approx(0.825)]
    assert "At equal density of what each arm prunes: --matched pruned." in found.notes[0]


def test_what_is_matched_must_be_known_and_its_table_there(study):
    study.write(leads, axes=SCOPES)
    assert refusal(study.load(), "prune.scope", matched="flop") == (
        "cannot match by 'flop'. Did you mean 'flops'?"
    )
    with pytest.raises(NotFoundError, match=r"no layers.parquet yet.*raylottery run"):
        compare(study.load(), "prune.scope", matched="flops")


def gains(*by_seed):
    return lambda values, seed, control, density: (
        0.6 + by_seed[seed] * (values["prune.scope"] == "global")
    )


def test_p_is_corrected_over_the_densities_of_a_pair(study):
    """At one density a difference; among four the same figures are none."""
    study.write(gains(0.02, 0.03, 0.0134), axes=SCOPES)
    (alone,) = compare(study.load(), "prune.scope", at_density=0.5).effects
    assert alone.p == alone.p_holm == pytest.approx(0.048, abs=1e-3)
    assert "global beats layerwise" in alone.sentence
    assert alone.sentence.endswith("(p = 0.048).")

    among = compare(study.load(), "prune.scope", at_density=[0.5, 0.4, 0.25, 0.2])
    assert [one.p_holm for one in among.effects] == pytest.approx([0.1935] * 4, abs=1e-4)
    assert "the data cannot tell layerwise from global" in among.sentences[0]
    assert "(p = 0.048, Holm p = 0.19)" in among.sentences[0]
    needed = among.effects[0].seeds_needed
    assert alone.seeds_needed is not None
    assert needed is not None
    assert alone.seeds_needed < needed, "to be as sure at each of four densities takes more"
    assert among.sentences[0].endswith(
        "Looked at alone it would count; among 4 densities it does not. "
        f"About {needed} seeds would tell a difference of this size 4 times in 5."
    )
    assert among.notes == (
        "p is corrected over the 4 densities (Holm); each interval stands for itself alone.",
    )


def test_pairs_are_corrected_each_by_itself_and_density_comes_before_pair(study):
    study.write(
        lambda values, seed, control, density: 0.5 + 0.01 * len(values["prune.scope"]) * seed**2,
        axes={"prune.scope": ["erk", "global", "layerwise"]},
    )
    found = compare(study.load(), "prune.scope", at_density=[0.5, 0.25])
    assert [(one.density, one.value) for one in found.effects] == [
        (0.5, "global"),
        (0.5, "layerwise"),
        (0.25, "global"),
        (0.25, "layerwise"),
    ]
    assert len(found.notes) == 2


def test_a_difference_too_small_for_any_number_of_seeds_is_said_to_be(study):
    study.write(gains(0.02, -0.0205, 0.0006), axes=SCOPES)
    (effect,) = compare(study.load(), "prune.scope", at_density=0.5).effects
    assert effect.seeds_needed is None
    assert effect.sentence.endswith(
        "It would take more than 1,000 seeds to tell so small a difference."
    )


def test_rounds_that_train_nothing_are_compared_too(study):
    study.write(leads, axes=SCOPE_BY_REWIND, steps=lambda _: 0)
    (effect,) = compare(study.load(), "rewind.weights", at_density=0.25).effects
    assert (effect.updates_value, effect.updates_reference) == (0.0, 0.0)
    assert effect.sentence.endswith("Updates trained a round: weights=1ep 0, weights=init 0.")


def half(values, seed, control, density):
    late = seed == 2 and values["prune.scope"] == "layerwise"
    return None if late and density < 0.5 else leads(values, seed, control, density)


def test_a_sweep_with_failures_says_so_where_pairs_are_missing(study):
    densities = (1.0, 0.5, 0.25, 0.125, 0.0625)
    study.write(half, axes=SCOPES, densities=lambda _: densities)
    lineage = study.load().lineages.iloc[-1]
    failure = {"sweep": "study", "lineage": lineage["lineage"], "control": "ticket", "round": 2,
               "attempt": 1, "error": "...", "first_line": "ValueError: no"}  # fmt: skip
    study.put("study", "failures", pd.DataFrame([failure]))
    found = compare(study.load(), "prune.scope", at_density=0.25)
    assert (found.effects[0].n, found.effects[0].missing) == (2, 1)
    assert found.notes == (
        "1 of 6 lineages is unfinished, 1 of them after failures (first: ValueError: no). See "
        "`raylottery status study`; `raylottery run` goes on with them.",
    )
    assert compare(study.load(), "prune.scope", at_density=0.5).notes == ()


def test_one_arm_alone_has_nothing_to_stand_against(study):
    def one_arm(values, seed, control, density):
        absent = values["prune.scope"] == "layerwise" and density < 1
        return None if absent else leads(values, seed, control, density)

    study.write(one_arm, axes=SCOPES)
    found = compare(study.load(), "prune.scope")
    assert [one.density for one in found.effects] == [1.0]
    assert found.notes[0].startswith("3 of 6 lineages are unfinished. See `raylottery status")
    message = refusal(study.load(), "prune.scope", at_density=0.25)
    assert message.startswith("density 0.25 is outside the data")
    assert "at 1 alone" in message


def test_sweeps_whose_columns_clash_are_not_compared(study):
    study.write(leads, name="old", axes=SCOPES)
    study.write(leads, name="new", axes=SCOPES)
    rounds = study.load("old").rounds.drop(columns="prune.scope")
    study.put("old", "rounds", rounds.astype({"seed": "str"}))
    message = refusal(study.load("old", "new"), "prune.scope")
    assert message.startswith("the rounds of old and new have columns of different types")


def test_csv_holds_every_figure_whole(study):
    study.write(leads, axes=SCOPES)
    found = compare(study.load(), "prune.scope", at_density=[0.5, 0.25])
    rows = list(csv.DictReader(io.StringIO(comparison_text(found, "csv"))))
    assert list(rows[0]) == list(found.to_rows()[0])
    assert [float(row["effect"]) for row in rows] == [one.effect for one in found.effects]
    assert [row["sentence"] for row in rows] == list(found.sentences)


def test_markdown_is_a_table_and_the_sentences(study):
    study.write(leads, axes=SCOPES)
    found = compare(study.load(), "prune.scope", at_density=[0.5, 0.25])
    lines = comparison_text(found, "markdown").splitlines()
    assert lines[0] == (
        "| density | prune.scope | against | effect (points) | 95 % low | high | seeds | p "
        "| Holm p |"
    )
    assert lines[1] == "| --: | --- | --- | --: | --: | --: | --: | --: | --: |"
    assert lines[2].startswith("| 0.5 | layerwise | global | -")
    assert lines[5:7] == [f"- {sentence}" for sentence in found.sentences]
    assert lines[7].startswith("- Note: p is corrected")


def test_latex_is_a_tabular_with_the_sentences_as_comments(study):
    study.write(leads, axes={"prune.scope": ["global", "layerwise"]})
    found = compare(study.load(), "prune.scope", at_density=0.5)
    lines = comparison_text(found, "latex").splitlines()
    assert lines[0] == f"% {found.sentences[0]}"
    assert lines[1] == r"\begin{tabular}{rllrrrrr}"
    assert lines[3].startswith(r"density & prune.scope & against & effect (points) & 95 \% low")
    assert lines[5].startswith("0.5 & layerwise & global & $-")
    assert lines[5].endswith(r" \\")
    assert lines[-1] == r"\end{tabular}"


@pytest.mark.parametrize("form", ["latex", "markdown"])
def test_a_break_in_a_label_ends_no_row_and_no_comment(study, form):
    models = ["a", "b\n\\input{x}"]
    study.write(lambda values, seed, *_: 0.8 + 0.01 * seed, axes={"trainer.model": models})
    found = compare(study.load(), "trainer.model", at_density=0.5)
    for line in comparison_text(found, form).splitlines():
        assert not line.startswith(r"\input")


def test_an_unknown_form_is_refused(study):
    study.write(leads, axes=SCOPES)
    found = compare(study.load(), "prune.scope", at_density=0.5)
    with pytest.raises(UsageError, match="Did you mean 'markdown'"):
        comparison_text(found, "markdwn")


def test_load_is_a_name_of_the_package(study):
    study.write(leads)
    assert len(raylottery.load("study", store=study.store).rounds) == 12
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = raylottery.laod
