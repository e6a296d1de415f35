from __future__ import annotations

import json

import pandas as pd
import pytest

from raylottery.analysis import check, references
from raylottery.analysis.fields import spec_fields
from raylottery.analysis.reference import matching
from raylottery.errors import UsageError
from raylottery.spec import expand, read_sweep
from raylottery.store.schemas import ROUNDS
from tests.conftest import ROOT


LENET = references()["frankle2019-lenet"]
EXACT = 0.8
"""Rounds at these densities: 0.8 ** round."""


def densities(_) -> list[float]:
    return [EXACT**index for index in range(20)]


def published(values, seed, control, density):
    """Scores that are what the paper says of LeNet, within a hundredth of a point."""
    gain = {9: 0.005, 15: 0.0}.get(round_of(density), 0.002)
    fresh = -0.005 if control == "reinit" else 0.0
    return 0.97 + 0.001 * seed + (gain if density < 1 else 0.0) + fresh


def round_of(density: float) -> int:
    return next(index for index, kept in enumerate(densities(None)) if kept == density)


def write(study, score=published, *, faster=0.62, controls=("reinit",), spec=None, **options):
    """LeNet's sweep with made-up scores and steps of the lowest validation loss."""
    setting = dict(LENET.setting) | (spec or {})
    study.write(
        score, spec=setting, densities=densities, controls=controls,
        prunable=lambda _: 266_200, **options,
    )  # fmt: skip
    rounds = study.load().rounds
    steps = {"ticket": 10_000 * faster, "reinit": 10_000 * faster * 2.51}
    rounds["min_loss_step"] = rounds["control"].map(steps).where(rounds["round"] > 0, 10_000)
    rounds["score_at_stop"] = rounds["score"]
    study.put("study", "rounds", rounds)


def verdicts(study, name="frankle2019-lenet") -> dict[str, str]:
    return {found.claim.id: found.verdict for found in check(study.load(), name)}


def test_what_is_as_published_is_reproduced(study):
    write(study)
    found = {one.claim.id: one for one in check(study.load(), "frankle2019-lenet")}
    assert {one.verdict for one in found.values()} == {"reproduced"}
    rows = {name: one.to_row() for name, one in found.items()}
    assert rows["faster"]["ours"] == pytest.approx(0.62)
    assert rows["faster-than-reinit"]["ours"] == pytest.approx(1 / 2.51)
    assert rows["better"]["ours"] == pytest.approx(0.005)
    assert rows["better-than-reinit"]["ours"] == pytest.approx(0.005)
    assert rows["weights"]["ours"] == 266_200
    assert {row["n"] for row in rows.values()} == {3}


def test_what_is_not_differs_and_the_rest_stands(study):
    write(study, faster=1.2)
    assert verdicts(study)["faster"] == "differs"
    assert verdicts(study)["better"] == "reproduced"


def test_a_bound_is_passed_on_its_own_side_alone(study):
    def better(values, seed, control, density):
        return published(values, seed, control, density) + (0.02 if density < 1 else 0.0)

    write(study, better)
    told = verdicts(study)
    assert told["better"] == "reproduced", "at least 0.3 points"
    assert told["end"] == "differs", "at most 0.35 points"


def test_another_setting_is_not_comparable_and_the_fields_are_named(study):
    write(study, spec={"trainer.length": "200it", "trainer.lr": 0.1})
    for finding in check(study.load(), "frankle2019-lenet"):
        assert (finding.verdict, finding.ours) == ("not comparable", None)
        assert finding.why == (
            "trainer.length is 200it here, 50000it there; trainer.lr is 0.1 here, 0.0012 there"
        )


def test_of_many_differing_fields_three_are_named(study):
    study.write(published, densities=densities)
    (why,) = {finding.why for finding in check(study.load(), "frankle2019-lenet")}
    assert why.count(" here, ") == 3
    assert why.endswith("more fields")


def test_without_the_control_or_the_density_only_those_claims_fall(study):
    write(study, controls=())
    told = {one.claim.id: one for one in check(study.load(), "frankle2019-lenet")}
    assert told["faster"].verdict == "reproduced"
    assert told["faster-than-reinit"].why == "no reinit is finished here: controls: [reinit]"

    def shallow(values, seed, control, density):
        return published(values, seed, control, density) if density > 0.2 else None

    write(study, shallow)
    told = {one.claim.id: one for one in check(study.load(), "frankle2019-lenet")}
    assert told["faster"].verdict == "reproduced"
    assert told["back"].why.startswith("no finished round of ticket is near 3.6 % density")


def test_one_seed_is_said_to_be_one(study):
    write(study, seeds=[0])
    assert {one.why for one in check(study.load(), "frankle2019-lenet")} == {"one seed"}


def test_a_wide_interval_is_said_to_go_beyond(study):
    def shaky(values, seed, control, density):
        noise = 0.0006 * (seed - 1) if density < 0.05 else 0.0
        return published(values, seed, control, density) + noise

    write(study, shaky)
    (back,) = [one for one in check(study.load(), "frankle2019-lenet") if one.claim.id == "back"]
    assert back.verdict == "reproduced"
    assert back.why == ""

    def shakier(values, seed, control, density):
        noise = 0.003 * (seed - 1) if density < 0.05 else 0.0
        return published(values, seed, control, density) + noise

    write(study, shakier)
    (back,) = [one for one in check(study.load(), "frankle2019-lenet") if one.claim.id == "back"]
    assert back.why == "the interval goes beyond the tolerance"


def test_one_shot_arms_are_taken_at_the_round_that_is_near(study):
    """Each arm has one round; none is read off between its dense network and that round."""
    kept = {0.324: 0.676, 0.824: 0.176, 0.05: 0.95, 0.9483: 0.0517}
    study.write(
        lambda values, seed, control, density: 0.97 + (0.005 if density < 1 else 0),
        axes={"prune.fraction": list(kept)},
        spec=dict(references()["frankle2019-lenet-oneshot"].setting),
        densities=lambda values: [1.0, kept[values["prune.fraction"]]],
    )
    rounds = study.load().rounds.drop(columns="prune.fraction")
    rounds["min_loss_step"] = 10_000 - 4_000 * (rounds["density"] < 0.9)
    study.put("study", "rounds", rounds.assign(score_at_stop=rounds["score"]))
    assert set(verdicts(study, "frankle2019-lenet-oneshot").values()) == {"reproduced"}


def test_an_unknown_reference_names_the_nearest(study):
    write(study)
    with pytest.raises(UsageError) as caught:
        check(study.load(), "frankle2019-lent")
    assert str(caught.value) == (
        "no published results called 'frankle2019-lent'. Did you mean 'frankle2019-lenet'?"
    )


def test_rows_are_plain(study):
    write(study, controls=())
    for finding in check(study.load(), "frankle2019-lenet"):
        json.dumps(finding.to_row(), allow_nan=False)


def test_every_claim_is_about_a_column_of_the_rounds_and_says_where_it_is_from():
    for reference in references().values():
        ids = [claim.id for claim in reference.claims]
        assert len(set(ids)) == len(ids)
        for claim in reference.claims:
            assert claim.quantity in ROUNDS.names
            assert claim.place
            assert claim.known
            assert claim.tolerance >= 0
            assert claim.than or claim.form == "difference"


SHIPPED = [name for name in references() if (ROOT / f"sweeps/{name}.yaml").exists()]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_sweep_has_the_setting_of_its_reference(name):
    """Of each claim, but for the task and the rates that the sweep's header says how to set."""
    arms = expand(read_sweep(ROOT / f"sweeps/{name}.yaml"))
    fields = spec_fields(pd.DataFrame({"spec": [arm.study.model_dump_json() for arm in arms]}))
    others = {"trainer.env", "trainer.lr", "trainer.warmup"}
    reference = references()[name]
    for claim in reference.claims:
        where = {path: value for path, value in claim.where.items() if path not in others}
        assert len(matching(fields, {**reference.setting, **where}))


def test_most_references_are_named_after_a_shipped_sweep():
    assert len(SHIPPED) >= 10
