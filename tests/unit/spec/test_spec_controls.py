"""Controls in a sweep file: where they are drawn, how often, and what they stand on."""

from __future__ import annotations

import json

import pytest

from raylottery.spec import CONTROLS, Control, Sweep, dump_sweep, lineage_rounds, parse_sweep
from tests.unit.spec.samples import AGENT, agent, alone, altered, refusal, study


def controls(*said: str, sets: tuple[str, ...] = ()) -> list:
    """The rounds of controls of a lineage with ten rounds."""
    sweep = alone("prune.rounds=10", *sets, f"controls=[{', '.join(said)}]")
    return [round for round in lineage_rounds(sweep, 0) if round.control != "ticket"]


def tickets(*sets: str) -> list:
    rounds = lineage_rounds(alone("prune.rounds=10", *sets), 0)
    return [round for round in rounds if round.control == "ticket"]


@pytest.mark.parametrize(
    ("at", "indices"),
    [
        ("every 1", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("every 3", [3, 6, 9]),
        ("every 10", [10]),
        ("[3, 6]", [3, 6]),
        ("[6, 3]", [3, 6]),
        ("[0.2]", [7]),
        ("[0.5, 0.107, 0.1]", [3, 10]),  # 0.512 and 0.1074
        ("[0.8]", [1]),
        ("[0.89]", [1]),
    ],
)
def test_where_a_control_is_drawn(at, indices):
    assert [r.index for r in controls(f"{{kind: reinit, at: {at}}}")] == indices


def test_a_control_that_is_drawn_at_some_rounds_is_the_one_drawn_there_among_all():
    every = {r.key: r.index for r in controls("permuted-both")}
    some = {r.key: r.index for r in controls("{kind: permuted-both, at: every 4}")}
    assert some.items() <= every.items()
    assert sorted(some.values()) == [4, 8]


def test_a_name_is_a_section_that_says_nothing_else():
    for kind, sources in CONTROLS.items():
        section = f"{{kind: {kind}, lineage: {sources.modes[0]}, at: every 1, draws: 1}}"
        assert [r.key for r in controls(section)] == [r.key for r in controls(kind)]


def test_draws_are_apart_and_the_first_is_the_one_alone():
    one, three = controls("permuted-both"), controls("{kind: permuted-both, draws: 3}")
    assert [r.draw for r in three] == [0, 1, 2] * 10
    assert [r.key for r in three if r.draw == 0] == [r.key for r in one]
    assert len({r.key for r in three}) == 30
    assert len({r.parent for r in three}) == 10
    assert [r.name for r in three[:3]] == [
        "permuted-both", "permuted-both, draw 1", "permuted-both, draw 2",
    ]  # fmt: skip


def test_a_replicate_is_the_ticket_but_for_the_order_of_the_data():
    late = ("rewind.weights=1ep",)
    said = controls("{kind: replicate, draws: 2, at: [4]}", sets=late)
    ticket = tickets(*late)[4]
    assert [r.replicate for r in said] == [1, 2]
    for draw, round in enumerate(said):
        assert round.spec == {**ticket.spec, "control": {"name": "replicate", "draw": draw}}
        assert round.parent == ticket.parent
        same = ("mask_source", "weight_source", "rewind_step", "clock", "end", "length", "prune")
        assert [getattr(round, name) for name in same] == [getattr(ticket, name) for name in same]


def test_an_own_lineage_stands_on_itself():
    own = controls("{kind: permuted-both, lineage: own, draws: 2}")
    line = tickets()
    for draw in (0, 1):
        chain = [r for r in own if r.draw == draw]
        assert [r.index for r in chain] == list(range(1, 11))
        parents = [line[0].key, *(r.key for r in chain[:-1])]
        assert [r.parent for r in chain] == parents
        assert {r.lineage_mode for r in chain} == {"own"}
    assert own[0].name == "permuted-both (own)"
    assert {r.trunk for r in own} == {line[0].key}


def test_an_own_lineage_is_as_long_as_its_last_point():
    assert [
        r.index for r in controls("{kind: reinit, lineage: own, at: [0.5]}")
    ] == [1, 2, 3]  # fmt: skip


def test_the_first_round_of_an_own_lineage_is_the_control_that_branches_off_the_dense_network():
    """Both prune the dense network and are altered alike: it is trained once."""
    branch, own = controls("permuted-mask", "{kind: permuted-mask, lineage: own}")[:2]
    assert (branch.lineage_mode, own.lineage_mode) == ("branch", "own")
    assert branch.key == own.key
    assert branch.spec == own.spec


def test_where_a_rule_may_end_its_search_it_is_another():
    both = ("permuted-mask", "{kind: permuted-mask, lineage: own}")
    branch, own, *_ = controls(*both, sets=("stop.rule=patience",))
    assert branch.key != own.key
    assert own.spec["control"] == {"name": "permuted-mask", "draw": 0, "lineage": "own"}


@pytest.mark.parametrize(
    ("kind", "scope"), [("random-pruned", "layerwise"), ("erk-random", "erk")]
)
def test_what_is_pruned_at_random_prunes_by_no_score(kind, scope):
    chain = controls(kind, sets=("prune.output=full", "prune.conv=0.1"))
    assert {r.lineage_mode for r in chain} == {"own"}
    for round in chain:
        assert (round.prune.score, round.prune.scope) == ("random", scope)
        assert round.spec["prune"]["score"] == "random"
        assert ("output" in round.spec["prune"]) == (scope == "layerwise")
        assert round.prune.fraction == 0.2
    assert [r.key for r in tickets("prune.output=full", "prune.conv=0.1")] == [
        r.key for r in tickets()
    ]


@pytest.mark.parametrize("kind", ["sign-constant", "sign-kept-reinit", "small-dense"])
def test_weights_that_no_training_saw_are_trained_over_the_whole_schedule(kind):
    first = controls(kind, sets=("rewind={weights: final, retrain: 2ep}",))[0]
    assert (first.clock, first.end) == (0, 525)


@pytest.mark.parametrize("kind", ["sign-constant", "sign-kept-reinit"])
def test_signs_are_those_of_the_rewind_point(kind):
    assert controls(kind, sets=("rewind.weights=1ep",))[0].rewind_step == 35


SAID = """[random-ticket, {kind: permuted-both, lineage: own, at: every 3, draws: 2},
  {kind: reinit, at: [0.8, 0.6]}, {kind: reinit, lineage: own, at: [2, 3]}, erk-random]"""


def test_controls_are_kept_as_they_were_written():
    sweep = study(("[random-ticket]", SAID))
    said = [
        "random-ticket",
        {"kind": "permuted-both", "lineage": "own", "at": "every 3", "draws": 2},
        {"kind": "reinit", "at": [0.8, 0.6]},
        {"kind": "reinit", "lineage": "own", "at": [2, 3]},
        "erk-random",
    ]
    assert json.loads(sweep.model_dump_json())["controls"] == said
    assert parse_sweep(dump_sweep(sweep)) == sweep
    assert Sweep.model_validate_json(sweep.model_dump_json()) == sweep
    assert [Control.model_validate(control).in_words for control in said] == [
        "random-ticket",
        "permuted-both (own) (at every 3, 2 draws)",
        "reinit (at [0.8, 0.6])",
        "reinit (own) (at [2, 3])",
        "erk-random (own)",
    ]


NEAREST = "the nearest are 0.64 (round 2) and 0.512 (round 3). Say one of them, or raise"
FORMS = "say every 3, densities such as [0.2, 0.05], or rounds such as [3, 6]."


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{kind: reinit, drawss: 3}", ".drawss: no such field. Did you mean 'draws'?"),
        ("{kind: reinitt}", ".kind: no such control: 'reinitt'. Did you mean 'reinit'?"),
        ("{kind: reinit, lineage: onw}", ".lineage: no such value: 'onw'. Did you mean 'own'?"),
        (
            "{kind: small-dense, lineage: own}",
            ".lineage: small-dense has no search of its own, so it branches; leave it out, or say "
            "branch.",
        ),
        (
            "{kind: erk-random, lineage: branch}",
            ".lineage: erk-random prunes at random from the dense network on, along lineages of "
            "its own; leave it out, or say own.",
        ),
        ("{kind: reinit, at: 3}", f".at: 3 picks no rounds; {FORMS}"),
        ("{kind: reinit, at: often}", f".at: 'often' picks no rounds; {FORMS}"),
        ("{kind: reinit, at: []}", f".at: [] picks no rounds; {FORMS}"),
        ("{kind: reinit, at: [0.5, 2]}", f".at[1]: 2 does not belong there; {FORMS}"),
        ("{kind: reinit, at: [true]}", f".at[0]: true does not belong there; {FORMS}"),
        ("{kind: reinit, at: [0]}", ".at[0]: round 0 has no controls; say 1 or more."),
        (
            "{kind: reinit, at: [1.5]}",
            ".at[0]: a density of 1.5 has no controls; say one between 0 and 1.",
        ),
        ("{kind: reinit, at: [2, 2]}", ".at[1]: 2 is listed twice; take one out."),
        (
            "{kind: reinit, at: [4]}",
            ".at[0]: round 4 is never reached: prune.rounds is 3; say at most 3, or raise it.",
        ),
        (
            "{kind: reinit, at: every 4}",
            ".at: every 4 comes to none of the 3 rounds; say a lower number.",
        ),
        (
            "{kind: reinit, at: [0.05]}",
            f".at[0]: 0.05 is never reached: {NEAREST} prune.rounds to 13.",
        ),
        (
            "{kind: reinit, at: [0.95]}",
            ".at[0]: 0.95 is nearer to the dense round, which has no control; say 0.8 (round 1).",
        ),
        ("3", ": expected the name of a control, or a section such as {kind: reinit, draws: 3}, "
              "found 3."),
    ],
)  # fmt: skip
def test_a_control_that_cannot_be_meant_is_refused_at_its_place(said, message):
    [line] = refusal(altered(("[random-ticket]", f"[permuted-mask, {said}]")))
    assert line == f"study.yaml:16: controls[1]{message}"


def test_one_of_each_kind_and_lineage():
    twice = "[{kind: reinit, at: [1]}, reinit, {kind: reinit, lineage: own}]"
    assert refusal(altered(("[random-ticket]", twice))) == [
        "study.yaml:16: controls[1]: the control reinit is listed twice; take one out."
    ]


@pytest.mark.parametrize("model", ["lenet-300-100", "residual-mlp-20-20", "mlp-7"])
def test_dense_layers_can_be_narrowed(model):
    assert controls("small-dense", sets=(f"trainer.model={model}",))


def test_what_has_other_layers_cannot():
    text = altered(("[random-ticket]", "[small-dense]"), ("mlp-300-100", "cnn-8-16"),
                   ("mnist1d", "cifar-like"))  # fmt: skip
    assert refusal(text) == [
        "study.yaml:16: controls[0]: small-dense narrows hidden dense layers, and cnn-8-16 has "
        "others; take another control, or an mlp."
    ]


def test_a_replicate_of_an_agent_needs_some_chance_to_differ_in():
    text = altered(("[random-ticket]", "[replicate]"), text=AGENT)
    same = "reset={env_seed: same, exploration_seed: same}"
    assert refusal(text, (same, "axes={}", "stop={}")) == [
        "study.yaml:22: controls[0]: a replicate differs from its ticket in chance alone, and "
        "reset.env_seed and reset.exploration_seed leave it none; say new for one of them."
    ]
    assert agent("controls=[replicate]", "reset={env_seed: same}")


def test_a_narrowed_agent_takes_nothing_that_has_other_shapes():
    assert agent("controls=[small-dense]")
    for reset in ("optimizer: kept", "replay: prefilled", "target: previous"):
        sets = (f"reset={{{reset}}}", "axes={}", "stop={}")
        [line] = refusal(altered(("[random-ticket]", "[small-dense]"), text=AGENT), sets)
        assert f"from which reset.{reset} takes something" in line


def test_an_own_lineage_of_other_weights_has_no_score_that_looks_at_the_seeds():
    own = "[{kind: permuted-both, lineage: own}]"
    [line] = refusal(altered(("[random-ticket]", own), ("magnitude", "synflow")))
    assert line == (
        "study.yaml:16: controls[0]: an own lineage of permuted-both begins with other weights "
        "than the seed's, which prune.score: synflow looks at; say lineage: branch."
    )
    assert controls("random-pruned", sets=("prune.score=synflow",))


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (("prune.score=snip",), "snip looks at training data, and an agent has none before it "
                                "plays; say synflow."),
        (("prune.score=grasp",), "grasp looks at training data, and an agent has none before it "
                                 "plays; say synflow."),
        (("prune.score=synflow", "trainer.dueling=true"),
         "synflow adds outputs up, and those of dueling streams cancel; say initial-magnitude."),
        (("prune.score=synflow", "trainer.atoms=51"), "synflow adds outputs up, and those of a "
         "distribution over atoms cancel; say initial-magnitude."),
    ],
)  # fmt: skip
def test_scores_that_cannot_be_worked_out_for_an_agent(sets, message):
    lines = refusal(AGENT, ("axes={}", *sets))
    assert [line for line in lines if line.endswith(f"prune.score: {message}")]


@pytest.mark.parametrize("score", ["initial-magnitude", "snip", "grasp", "synflow"])
def test_a_mask_that_training_does_not_change_ends_no_search(score):
    lines = refusal(altered(("magnitude", score)), ("stop.rule=mask-distance",))
    assert lines == [
        f"--set stop.rule: prune.score: {score} gives one mask whatever is trained; take another "
        f"rule."
    ]


def test_an_untrained_ticket_is_scored_where_it_is_asked_for():
    plain, asked = (alone(*sets) for sets in ((), ("eval.supermask=true",)))
    assert not plain.eval.supermask
    assert asked.eval.supermask
    assert "supermask" not in lineage_rounds(plain, 0)[0].spec["eval"]
    assert lineage_rounds(asked, 0)[0].spec["eval"]["supermask"] is True
    assert agent("eval.supermask=true").eval.supermask
