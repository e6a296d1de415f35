"""Controls of every kind in a finished sweep: what they share, and what they stand on."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from raylottery.analysis import compare, load
from raylottery.cli import main
from raylottery.driver.tickets import find_trained, pick, ticket_file
from raylottery.errors import TrainingError
from raylottery.pruning import Masks
from raylottery.spec import CONTROLS, DQNTrainer, lineages, parse_sweep
from raylottery.store import Store
from raylottery.store.tickets import unpack
from raylottery.tickets import harvest
from tests.e2e.conftest import TINY


PERMUTED = "{kind: permuted-both, draws: 2, at: [2]}, {kind: permuted-both, lineage: own, at: [3]}"
EVERY = TINY.replace(
    "[random-ticket]", f"[{', '.join(k for k in CONTROLS if k != 'permuted-both')}, {PERMUTED}]"
).replace("rounds: 2", "rounds: 3")
ALONE = ("axes={}", "eval.supermask=true")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A lineage of each of two seeds with all controls, and its store."""
    from raylottery.cli.progress import Diary
    from raylottery.driver.run import run

    root = tmp_path_factory.mktemp("controls")
    sweep = parse_sweep(EVERY, overrides=ALONE)
    store = Store.open(str(root))
    assert run(sweep, store, Diary(say=lambda line: None), inline=True).exit_code == 0
    return root, store, lineages(sweep)


def named(line, name: str) -> list:
    return [round for round in line.rounds if round.name == name]


def counts(masks: Masks) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


def test_the_table_has_a_row_for_each_and_says_what_it_is(finished, table):
    root, _, lines = finished
    rows = [row for row in table(root) if row["seed"] == 0]
    assert len(rows) == len(lines[0].rounds) == len({row["key"] for row in rows})
    assert {(row["lineage_mode"], row["draw"], row["round"])
            for row in rows if row["control"] == "permuted-both"} == {
        ("branch", 0, 2), ("branch", 1, 2), ("own", 0, 1), ("own", 0, 2), ("own", 0, 3),
    }  # fmt: skip
    said = {row["control"]: (row["score_fn"], row["scope"], row["mask_source"]) for row in rows}
    assert said["random-pruned"] == ("random", "layerwise", "random-layerwise")
    assert said["erk-random"] == ("random", "erk", "random-erk")
    assert said["small-dense"] == ("magnitude", "global", "dense")
    assert all(row["revived"] == 0 for row in rows)
    assert all(0 <= row["supermask_score"] <= 1 for row in rows)


def test_an_own_lineage_is_pruned_along_its_own_training(finished):
    _, store, lines = finished
    for line in lines:
        dense = line.rounds[0]
        for name, nested in {"random-pruned (own)": True, "permuted-both (own)": False}.items():
            before = harvest(dense.key, store)[1]
            for round in named(line, name):
                masks = harvest(round.key, store)[1]
                assert masks.nested_in(before) == nested or round.index == 1
                before = masks


def test_draws_differ_and_keep_the_tickets_counts(finished):
    _, store, lines = finished
    for line in lines:
        ticket, *draws = (
            harvest(pick(line, 2, name).key, store)[1]
            for name in ("ticket", "permuted-both", "permuted-both, draw 1")
        )
        assert counts(draws[0]) == counts(draws[1]) == counts(ticket)
        assert draws[0] != draws[1]


def test_a_small_dense_network_has_no_more_weights_than_the_ticket(finished, table):
    root, store, _ = finished
    rows = {(row["seed"], row["round"], row["control"]): row for row in table(root)}
    for (seed, index, control), row in rows.items():
        if control != "small-dense":
            continue
        ticket = rows[seed, index, "ticket"]
        assert row["prunable"] == ticket["prunable"] == 600
        assert 0 < row["kept"] <= ticket["kept"]
        assert row["density"] == row["kept"] / 600
        assert row["kept"] + 10 < row["total_params"] < ticket["total_params"]
        weights, masks = harvest(row["key"], store)
        assert masks.density == 1
        assert sum(weights[name].numel() for name in masks) == row["kept"]
    layers = [row for row in table(root, "layers") if row["control"] == "small-dense"]
    assert {row["density"] for row in layers} == {1.0}


def test_a_small_dense_ticket_can_be_taken_out_of_the_store(finished):
    _, store, lines = finished
    sections, about = unpack(ticket_file("tiny", lines[0].id, 2, "small-dense", store))
    assert about["control"] == "small-dense"
    shapes = {name: tensor.shape for name, tensor in sections["trained"].items()}
    assert shapes == {name: tensor.shape for name, tensor in sections["start"].items()}
    assert shapes["0.weight"][1] == 40
    assert shapes["0.weight"][0] < 12


def test_controls_of_a_round_start_from_the_same_chance(finished):
    """Those that permute the mask share it; those with fresh weights share these."""
    _, store, lines = finished
    for line in lines:
        masks = {
            name: harvest(pick(line, 2, name).key, store)[1]
            for name in ("permuted-mask", "permuted-both", "random-ticket")
        }
        assert len({str([m.tolist() for m in mask.values()]) for mask in masks.values()}) == 1


def test_comparisons_tell_own_from_branch_and_average_draws(finished, table):
    root, _, _ = finished
    found = compare(load("tiny", store=str(root)), "control", at_density=0.25)
    effects = {effect.reference: effect for effect in found.effects}
    assert {"permuted-both", "permuted-both (own)", "small-dense"} <= effects.keys()
    rows = [row for row in table(root) if row["control"] == "permuted-both" and row["round"] == 2]
    branch = [row["score"] for row in rows if row["lineage_mode"] == "branch"]
    own = [row["score"] for row in rows if row["lineage_mode"] == "own"]
    assert (len(branch), len(own)) == (4, 2)
    assert effects["permuted-both"].mean_reference == pytest.approx(np.mean(branch))
    assert effects["permuted-both (own)"].mean_reference == pytest.approx(np.mean(own))


def test_the_report_counts_what_is_planned(finished, capsys):
    root, _, _ = finished
    assert main(["report", "tiny", "--store", str(root), "--to", str(root / "r.html")]) == 0
    page = (root / "r.html").read_text(encoding="utf-8")
    assert "rounds are missing" not in page
    assert "permuted-both (own) (at [3])" in page


def test_a_plan_says_what_goes_to_controls(finished, capsys, tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(EVERY, encoding="utf-8")
    place = ["--store", str(tmp_path / "none"), "--set", "axes={}"]
    assert main(["plan", str(file), *place]) == 0
    controls = 13 * 3 + 5 - 1  # the own lineages' first rounds are those that branch off
    assert main(["plan", str(file), *place, "--json"]) == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if line.startswith("controls:"))
    found = json.loads(text[text.index("{") :])
    assert found["updates"] == 2 * 70 * (4 + controls + 1)
    assert found["updates_of_controls"] == 2 * 70 * (controls + 1)
    assert line == (
        f"controls: 92 % of all training, {found['updates_of_controls']} of {found['updates']} "
        f"updates"
    )
    assert not (tmp_path / "none").exists()


def test_an_own_lineage_that_fails_goes_no_further_and_holds_up_no_ticket(
    tmp_path, run_inline, table, monkeypatch
):
    from raylottery import tickets

    real = tickets.alter

    def refuse(control, *rest, **options):
        if control == "permuted-mask":
            raise TrainingError("this control cannot be drawn. Leave it out")
        return real(control, *rest, **options)

    monkeypatch.setattr(tickets, "alter", refuse)
    own = "controls=[{kind: permuted-mask, lineage: own}, random-ticket]"
    result = run_inline(tmp_path, "axes={}", "seeds=[0]", own)
    assert result.exit_code == 1
    assert {(row["control"], row["round"]) for row in table(tmp_path)} == {
        ("ticket", 0), ("ticket", 1), ("ticket", 2), ("random-ticket", 1), ("random-ticket", 2),
    }  # fmt: skip
    assert [note["round"] for note in table(tmp_path, "failures")] == [1]
    monkeypatch.undo()
    assert run_inline(tmp_path, "axes={}", "seeds=[0]", own).exit_code == 0


SCORES = "axes={prune.score: [initial-magnitude, magnitude-increase, snip, grasp, synflow]}"


def test_masks_at_initialisation_owe_nothing_to_the_training(tmp_path, run_inline, table):
    """The same network trained otherwise has other weights, and the same masks."""
    run_inline(tmp_path, SCORES, "seeds=[0]")
    run_inline(tmp_path, SCORES, "seeds=[0]", "trainer.lr=0.03", "name=other")
    store = Store.open(str(tmp_path))
    same = {}
    for one, other in zip(table(tmp_path), table(tmp_path, sweep="other"), strict=True):
        if (one["control"], one["round"]) == ("ticket", 2):
            (weights, masks), (changed, others) = (
                harvest(row["key"], store) for row in (one, other)
            )
            assert not torch.equal(weights["0.weight"], changed["0.weight"])
            same[one["score_fn"]] = masks == others
    assert same == {
        "initial-magnitude": True, "magnitude-increase": False, "snip": True, "grasp": True,
        "synflow": True,
    }  # fmt: skip


def test_a_sweep_that_is_run_again_after_more_controls_trains_only_these(tmp_path, run_inline):
    run_inline(tmp_path, "axes={}", "controls=[permuted-mask]")
    again = run_inline(tmp_path, "axes={}", "controls=[{kind: permuted-mask, draws: 2}]")
    rounds = [again.plan.rounds[key] for key in again.ledger.trained]
    assert sorted((r.seed, r.index, r.draw) for r in rounds) == [
        (0, 1, 1), (0, 2, 1), (1, 1, 1), (1, 2, 1),
    ]  # fmt: skip


def test_a_ticket_that_is_not_trained_is_its_own_supermask(tmp_path, run_inline, table):
    run_inline(
        tmp_path, "seeds=[0]", "controls=[permuted-weights]", "eval.supermask=true",
        "rewind={weights: final, retrain: 0it}",
    )  # fmt: skip
    rows = [row for row in table(tmp_path) if row["round"]]
    assert len(rows) == 2 * 4
    for row in rows:
        assert row["supermask_score"] == row["score"]


AGENT = """
name: tiny
trainer: {kind: dqn, engine: compiled, env: CartPole-v1, hidden: [8], length: 1400ts}
prune: {fraction: 0.5, rounds: 1, score: synflow}
eval: {supermask: true, every: 50%, final: 5}
seeds: [3]
controls: [small-dense, sign-constant]
"""


def test_the_supermask_of_an_agent_plays_its_final_episodes(tmp_path, run_inline, table):
    from raylottery.trainers.dqn.episodes import play_again

    assert run_inline(tmp_path, text=AGENT).exit_code == 0
    store = Store.open(str(tmp_path))
    [line] = lineages(parse_sweep(AGENT))
    rows = {row["key"]: row for row in table(tmp_path)}
    assert len(rows) == 4
    for round in line.rounds:
        file = ticket_file("tiny", line.id, round.index, round.name, store)
        study, _, _ = find_trained("tiny", line.id, round.index, round.name, store)
        assert isinstance(study.trainer, DQNTrainer)
        episodes = play_again(study.trainer, unpack(file)[0]["start"], 5, of=5)
        played = sum(episode.total for episode in episodes) / 5
        assert rows[round.key]["supermask_score"] == played
