"""The rows of a finished sweep obey the definitions they claim."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from raylottery.lineage import begin
from raylottery.pruning import Masks
from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store
from raylottery.store.tickets import unpack
from raylottery.tickets import harvest
from raylottery.trainers import make_trainer
from tests.e2e.conftest import TINY


TEXT = TINY.replace("[global, layerwise]", "[global, layerwise, erk]").replace(
    "controls:", "  rewind.weights: [init, 20it]\ncontrols:"
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A sweep over three scopes and two rewinds, its store and its lineages."""
    from raylottery.cli.progress import Diary
    from raylottery.driver.run import run

    root = tmp_path_factory.mktemp("science")
    sweep = parse_sweep(TEXT)
    store = Store.open(str(root))
    run(sweep, store, Diary(say=lambda line: None), inline=True)
    return root, store, lineages(sweep)


def tickets(lineage):
    return [round for round in lineage.rounds if round.control == "ticket"]


def test_masks_are_nested_and_counts_exact(finished, table):
    root, store, members = finished
    for lineage in members:
        masks = [harvest(round.key, store)[1] for round in tickets(lineage)]
        kept = [mask.kept for mask in masks]
        for before, after in pairwise(masks):
            assert after.nested_in(before)
        if lineage.arm.study.prune.scope == "layerwise":
            continue
        for before, after in pairwise(kept):
            assert after == before - round(0.5 * before)
    for row in table(root):
        assert row["revived"] == 0
        assert row["density"] == row["kept"] / row["prunable"]
        assert row["prunable"] == 40 * 12 + 12 * 10


def test_layerwise_prunes_each_layer_exactly_and_the_output_at_half_the_rate(finished, table):
    root, _, members = finished
    layerwise = {m.id for m in members if m.arm.study.prune.scope == "layerwise"}
    layers = [row for row in table(root, "layers") if row["lineage"] in layerwise]
    for row in layers:
        if row["control"] == "ticket":
            expected = {"0.weight": (480, 240, 120), "2.weight": (120, 90, 68)}
            assert row["kept"] == expected[row["layer"]][row["round"]]


def test_tickets_start_from_the_snapshot_bit_for_bit(finished):
    """Survivors and biases equal the weights at the rewind step; pruned entries are +0.0."""
    _, store, members = finished
    for lineage in members:
        trainer = make_trainer(lineage.arm.study, gpu=False)
        for round in tickets(lineage)[1:]:
            start = begin(round, trainer, store, {})
            snapshot = unpack(store.snapshot(round.trunk, round.rewind_step))[0]["weights"]
            for name, weight in start.ticket.weights.items():
                mask = start.ticket.masks.get(name)
                if mask is None:
                    assert torch.equal(weight, snapshot[name]), "biases are rewound too"
                else:
                    assert torch.equal(weight[mask], snapshot[name][mask])
                    assert not torch.signbit(weight[~mask]).any()
                    assert torch.count_nonzero(weight[~mask]) == 0


def test_a_seed_fixes_the_dense_network_whatever_the_arm(finished, table):
    root, store, members = finished
    for seed in (0, 1):
        trunks = {line.rounds[0].key for line in members if line.seed == seed}
        assert len(trunks) == 1
    seeds = {row["seed"]: row["score"] for row in table(root) if row["round"] == 0}
    first, second = (harvest(line.rounds[0].key, store)[0] for line in (members[0], members[-1]))
    assert members[0].seed != members[-1].seed
    assert not torch.equal(first["0.weight"], second["0.weight"])
    assert set(seeds) == {0, 1}


def test_random_tickets_keep_the_layers_counts_and_nothing_else(finished):
    """The control changes what it says: other positions, other weights, the same counts."""
    _, store, members = finished
    for lineage in members:
        trainer = make_trainer(lineage.arm.study, gpu=False)
        for index in (1, 2):
            ticket, control = (
                begin(r, trainer, store, {}) for r in lineage.rounds if r.index == index
            )
            assert control.data_seed == ticket.data_seed
            assert (control.clock, control.end) == (ticket.clock, ticket.end)
            for name, mask in ticket.ticket.masks.items():
                other = control.ticket.masks[name]
                assert int(other.sum()) == int(mask.sum())
                assert not torch.equal(other, mask)
                both = other & mask
                assert not torch.equal(
                    control.ticket.weights[name][both], ticket.ticket.weights[name][both]
                )


def test_scopes_prune_the_same_set_of_parameters(finished):
    _, store, members = finished
    names = {frozenset(harvest(line.rounds[-1].key, store)[1]) for line in members}
    assert names == {frozenset({"0.weight", "2.weight"})}


def test_late_rewinding_trains_the_rest_of_the_schedule(finished, table):
    root, _, _ = finished
    steps = {
        (row["rewind_weights"], row["round"] > 0): row["steps"] for row in table(root)
    }  # fmt: skip
    assert steps["init", True] == 70
    late = [row for row in table(root) if row["rewind_weights"] != "init" and row["round"] > 0]
    assert {row["steps"] for row in late} == {50}
    assert {row["weight_source"] for row in late if row["control"] == "ticket"} == {"step:20"}


def test_masks_in_the_store_are_what_the_layers_table_says(finished, table):
    root, store, members = finished
    kept = {
        (row["lineage"], row["round"], row["layer"]): row["kept"]
        for row in table(root, "layers")
        if row["control"] == "ticket"
    }
    for lineage in members:
        for round in tickets(lineage):
            masks: Masks = harvest(round.key, store)[1]
            for name, mask in masks.items():
                assert kept[lineage.id, round.index, name] == int(mask.sum())


def test_controls_of_a_round_are_paired_with_each_other(tmp_path):
    """What two controls both draw, they draw alike: they differ in what is named alone."""
    from raylottery.cli.progress import Diary
    from raylottery.driver.run import run

    names = ["reinit", "permuted-mask", "permuted-both", "random-ticket"]
    sweep = parse_sweep(TINY, overrides=(f"controls=[{', '.join(names)}]", "seeds=[0]"))
    store = Store.open(str(tmp_path))
    run(sweep, store, Diary(say=lambda line: None), inline=True)
    lineage = lineages(sweep)[0]
    trainer = make_trainer(lineage.arm.study, gpu=False)
    starts = {
        r.control: begin(r, trainer, store, {}).ticket for r in lineage.rounds if r.index == 2
    }
    assert starts["permuted-mask"].masks == starts["permuted-both"].masks
    assert starts["permuted-mask"].masks == starts["random-ticket"].masks
    for name in ("0.bias", "2.bias"):
        assert torch.equal(starts["reinit"].weights[name], starts["random-ticket"].weights[name])
    both = starts["reinit"].masks["0.weight"] & starts["random-ticket"].masks["0.weight"]
    assert both.any()
    assert torch.equal(
        starts["reinit"].weights["0.weight"][both],
        starts["random-ticket"].weights["0.weight"][both],
    )
