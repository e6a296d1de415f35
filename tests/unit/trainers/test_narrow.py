"""Networks as small as what a ticket keeps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.spec import Sweep, parse_sweep
from raylottery.spec.narrow import hidden_widths, of_widths
from raylottery.trainers.narrow import narrowed
from raylottery.trainers.survey import survey


TEXT = """
name: narrow
trainer: {kind: classifier, dataset: mnist1d, model: MODEL, length: 1ep, batch_size: 100, lr: 0.01}
prune: {fraction: 0.5, rounds: 1}
seeds: [0]
"""
AGENT = """
name: narrow
trainer: {kind: dqn, env: CartPole-v1, hidden: [64, 32], length: 2000ts}
prune: {fraction: 0.5, rounds: 1, biases: true}
seeds: [0]
"""
STUDIES = {
    **{
        model: parse_sweep(TEXT.replace("MODEL", model))
        for model in ("mlp-30", "mlp-100-20-50", "residual-mlp-40-40", "lenet-300-100")
    },
    "agent": parse_sweep(AGENT),
}


def size(study: Sweep) -> int:
    return sum(survey(study).prunable.values())


def hidden(study: Sweep) -> tuple[int, ...]:
    widths = hidden_widths(study.trainer)
    assert widths is not None
    return widths


@pytest.mark.parametrize("name", STUDIES)
@settings(deadline=None, max_examples=25)
@given(share=st.floats(0.0, 1.0))
def test_it_is_the_widest_that_has_no_more_weights_than_the_ticket(name, share):
    study = STUDIES[name]
    kept = round(share * size(study))
    small = narrowed(study, kept)
    widths, whole = hidden(small), hidden(study)
    assert len(widths) == len(whole)
    assert size(small) <= kept or max(widths) == 1
    assert narrowed(small, size(small)) == small, "what it is comes of its own size"
    if widths != whole:
        wide = max(widths) + 1
        scaled = [max(1, round(own * wide / max(whole))) for own in whole]
        trainer = of_widths(study.trainer, scaled)
        assert size(study.model_copy(update={"trainer": trainer})) > kept


def test_all_of_a_network_is_itself():
    for study in STUDIES.values():
        assert hidden(narrowed(study, size(study))) == hidden(study)


def test_nothing_else_of_the_study_changes():
    small = narrowed(STUDIES["mlp-100-20-50"], 1000)
    assert small.trainer.model == "mlp-19-4-10"
    back = small.trainer.model_copy(update={"model": "mlp-100-20-50"})
    assert small.model_copy(update={"trainer": back}) == STUDIES["mlp-100-20-50"]
