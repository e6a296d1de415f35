"""Controls on shuffled data: the ticket itself, on data that were shuffled for it alone."""

from __future__ import annotations

import pytest
import torch

from raylottery.driver.tickets import pick, ticket_file
from raylottery.spec import ClassifierTrainer, lineages, parse_sweep
from raylottery.store import Store
from raylottery.store.tickets import unpack
from raylottery.tickets import harvest
from raylottery.trainers.shuffled import shuffled
from tests.e2e.conftest import TINY


KINDS = ("shuffled-pixels", "shuffled-labels")
CONTROLS = "controls=[{kind: shuffled-pixels, draws: 2}, shuffled-labels]"


@pytest.mark.parametrize("engine", ["torch", "compiled"])
@pytest.mark.parametrize("score", ["magnitude", "snip"])
def test_the_ticket_is_the_same_to_the_bit(tmp_path, run_inline, table, engine, score):
    """Also where a score looks at the data: it looks at them as they are."""
    sets = ("axes={}", f"trainer.engine={engine}", f"prune.score={score}", "rewind.weights=1ep")
    run_inline(tmp_path, *sets, CONTROLS)
    store = Store.open(str(tmp_path))
    for line in lineages(parse_sweep(TINY, overrides=(*sets, CONTROLS))):
        trained = {}
        for name in ("ticket", "shuffled-pixels", "shuffled-pixels, draw 1", "shuffled-labels"):
            key = pick(line, 2, name).key
            weights, masks = harvest(key, store)
            start = unpack(ticket_file("tiny", line.id, 2, name, store))[0]["start"]
            if name == "ticket":
                own, beginning = masks, start
            assert masks == own
            assert all(torch.equal(w, beginning[n]) for n, w in start.items())
            trained[name] = weights["0.weight"]
        names = list(trained)
        for i, one in enumerate(names):
            assert not any(torch.equal(trained[one], trained[other]) for other in names[:i])
    rows = [row for row in table(tmp_path) if row["control"] in KINDS]
    assert {(row["mask_source"], row["weight_source"], row["lineage_mode"]) for row in rows} == {
        ("imp", "step:35", "branch")
    }
    assert all(row["revived"] == 0 for row in rows)


def test_an_interrupted_sweep_goes_on_with_what_would_have_come(
    tmp_path, run_inline, table, fixed
):
    """The shuffling follows from the seed, the round and the draw, not from what ran before."""
    run_inline(tmp_path / "one", "axes={}", CONTROLS)
    run_inline(tmp_path / "two", "axes={}", "controls=[shuffled-labels]", "prune.rounds=1")
    run_inline(tmp_path / "two", "axes={}", CONTROLS)
    one, two = (fixed(table(tmp_path / name)) for name in ("one", "two"))
    assert one == two


def test_every_seed_round_and_draw_is_shuffled_by_another_chance():
    seeds = {}
    for line in lineages(parse_sweep(TINY, overrides=(CONTROLS,))):
        for round in line.rounds:
            if round.control in KINDS:
                trainer = shuffled(line.arm.study, round).trainer
                assert isinstance(trainer, ClassifierTrainer)
                assert trainer.shuffle == round.control.removeprefix("shuffled-")
                place = (round.seed, round.index, round.draw)
                assert seeds.setdefault(place, trainer.shuffle_seed) == trainer.shuffle_seed
    assert len(set(seeds.values())) == len(seeds) == 2 * 2 * 2


def test_after_a_control_the_lineage_is_trained_on_its_own_data(tmp_path, run_inline, table):
    run_inline(tmp_path / "with", "axes={}", CONTROLS)
    run_inline(tmp_path / "without", "axes={}", "controls=[]")
    scores = [
        {r["key"]: r["score"] for r in table(tmp_path / name) if r["control"] == "ticket"}
        for name in ("with", "without")
    ]
    assert scores[0] == scores[1]
