"""What chance a control is drawn by: nothing that its key does not hold."""

from __future__ import annotations

import pytest

from raylottery.spec import CONTROLS, lineages
from raylottery.tickets import afresh, chance, data_seed, own_draw
from tests.unit.spec.samples import study


KINDS = ", ".join(f"{{kind: {kind}, draws: 2}}" for kind in CONTROLS)


@pytest.fixture(scope="module")
def rounds():
    """The rounds of controls of four arms and two seeds."""
    sweep = study(("[random-ticket]", f"[{KINDS}]"))
    return [r for line in lineages(sweep) for r in line.rounds if r.control != "ticket"]


def test_chance_follows_from_what_is_in_the_key(rounds):
    for round in rounds:
        said = round.spec
        drawn = (said["seed"], said["round"], 0, said["control"]["draw"])
        assert chance(round) == drawn, "a replicate would be in the key as well"


def test_controls_and_arms_of_a_round_have_one_chance_and_others_have_others(rounds):
    seeds = {(r.seed, r.index, r.draw): afresh(r) for r in rounds}
    assert len(set(seeds.values())) == len(seeds) == 2 * 3 * 2
    assert all(afresh(r) == seeds[r.seed, r.index, r.draw] for r in rounds)


def test_draws_prune_the_parent_alike_unless_each_has_its_own(rounds):
    """Random scores prune the lineage's ticket, whatever is drawn from it then."""
    for round in rounds:
        assert bool(own_draw(round)) == (round.lineage_mode == "own" and round.draw > 0)


def test_replicates_and_they_alone_have_an_order_of_the_data_of_their_own(rounds):
    orders = {(r.seed, r.index, 0): data_seed(r, r.index) for r in rounds if not r.replicate}
    trunks = {(r.seed): data_seed(r, 0) for r in rounds}
    for round in rounds:
        assert data_seed(round, 0) == trunks[round.seed]
        place = round.seed, round.index, round.replicate
        assert orders.setdefault(place, data_seed(round, round.index)) == data_seed(
            round, round.index
        )
        replicate = round.draw + 1 if round.control == "replicate" else 0
        assert round.replicate == replicate
    assert len({*orders.values(), *trunks.values()}) == 2 * (3 * 3 + 1)
