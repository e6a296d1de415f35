"""What a driver holds of each trial and each round does not add up over a long run."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.utils.log import Verbosity

from raylottery.driver.gather import Shelf
from raylottery.driver.plan import make_plan
from raylottery.driver.queue import WorkQueue
from raylottery.driver.tune import Asker, place
from raylottery.spec import parse_sweep
from raylottery.store import Record
from raylottery.store.record import StoredFile


SWEEP = """
name: small
trainer: {kind: classifier, dataset: mnist1d, model: mlp-8, length: 2ep, batch_size: 100, lr: 0.01}
prune: {fraction: 0.5, rounds: 1}
seeds: [0]
"""


def asker() -> Asker:
    queue = WorkQueue(make_plan(parse_sweep(SWEEP), None), lambda key: "free")
    return Asker(queue, lambda lineage, ready: 1, lambda lineages: None)  # ty: ignore


def trial() -> Trial:
    """One that reported, as Tune holds it when it is over."""
    config = {"sweep": SWEEP * 20, "bundles": [{"CPU": 1}]}
    made = Trial("small", stub=True, config=config, evaluated_params={"study": SWEEP * 20})
    for step in range(3):
        made.update_last_result({"said": [], "time": 1.0 * step, "config": dict(config)})
    return made


def test_of_a_trial_that_ended_tune_holds_little_and_can_still_tell_of_it(capsys, monkeypatch):
    ended, fresh = trial(), asker()
    assert "mnist1d" in "".join(trial().get_json_state())
    fresh.forgets(ended)
    said = ended.get_json_state()
    assert "mnist1d" not in "".join(said)
    assert [json.loads(part)["config"] for part in said[:1]] == [{}]
    assert ended.metric_analysis == {}
    assert ended.last_result["said"] == []
    monkeypatch.setattr("ray.tune.utils.log.verbosity", Verbosity.V0_MINIMAL)
    TrialProgressCallback().on_trial_complete(0, [ended], ended)
    assert capsys.readouterr() == ("", "")


def test_trials_that_ask_for_the_same_share_what_says_so():
    """Also where Tune has made each its own copy of the function that is asked."""
    assert place({"bundles": [{"CPU": 1.0}]}) is place({"bundles": [{"CPU": 1.0}]})
    assert place({"bundles": [{"CPU": 1.0}]}) != place({"bundles": [{"CPU": 2.0}]})


def test_a_record_comes_back_from_the_shelf_as_it_was():
    plan = make_plan(parse_sweep(SWEEP), None)
    round = plan.lineages[0].rounds[1]
    files = {name: StoredFile.of(f"1-{'ab' * 8}/{name}", b"x") for name in ("a", "b", "c")}
    result = {
        "density": 0.1 + 0.2, "prunable": 400, "kept": 200, "total_params": 418, "revived": 0,
        "metric": "accuracy", "score": 59.3, "score_at_stop": 1 / 3, "score_best": 2 / 3,
        "score_late": 1e-300, "score_area": 5e-324, "train_score": 100.0, "loss": float("inf"),
        "supermask_score": None, "steps": 70, "env_steps": None, "stopped_by": "length",
        "stop_step": None, "digests": {"0": "ef" * 32},
    }  # fmt: skip
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    record = Record.model_validate(
        {
            "schema": 1, "key": round.key, "parent": round.parent, "spec": round.spec,
            "trained_by": "small", "attempt": 1, "files": files, "result": result, "seconds": 1.5,
            "started_at": at, "finished_at": at, "host": "h", "device": "cpu", "version": "0.1.0",
        }
    )  # fmt: skip
    shelf = Shelf(plan)
    shelf[round.key] = record
    assert shelf[round.key] == record
    assert shelf[round.key].spec is plan.rounds[round.key].spec
    assert list(shelf) == [round.key]
    assert "0" * 32 not in shelf
    del shelf[round.key]
    assert not shelf
