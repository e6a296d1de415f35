"""What may go: never what an unfinished round needs, never what any sweep keeps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.driver.keep import Kept, Piece, Releases, kept, left, nearest_rounds, stands_on
from raylottery.spec import Prune, lineages, parse_sweep


def sweep(keep: str = "all", *changes: str) -> Kept:
    text = """
        name: s
        trainer: {kind: classifier, dataset: mnist1d, model: mlp-10, length: 2ep,
                  batch_size: 100, lr: 0.002}
        prune: {rounds: 2, fraction: 0.5}
        rewind: {weights: 5it}
        seeds: [0]
        axes: {prune.scope: [layerwise, global]}
        controls: [random-ticket]
    """
    parsed = parse_sweep(text, overrides=(f"keep={keep}", *changes))
    return Kept(lineages(parsed), parsed.keep)


def rounds_of(*sweeps: Kept):
    return {r.key: r for each in sweeps for line in each.lineages for r in line.rounds}


def of(sweep: Kept, index: int, control: str = "ticket") -> set[Piece]:
    return {
        Piece(r.key) for r in rounds_of(sweep).values() if (r.index, r.control) == (index, control)
    }


def snapshots(sweep: Kept, *steps: int) -> set[Piece]:
    return {Piece(line.rounds[0].key, step) for line in sweep.lineages for step in steps}


def test_what_a_sweep_leaves():
    found = left(sweep().lineages)
    assert {p for p in found if p.step is not None} == snapshots(sweep(), 0, 5)
    assert {p.key for p in found} == rounds_of(sweep()).keys()


@pytest.mark.parametrize("keep", ["all", "tickets", "last", "{what: last, densities: [1]}"])
def test_what_each_policy_keeps(keep):
    mine = sweep(keep)
    every, tickets = left(mine.lineages), {p for p in left(mine.lineages) if p.step is None}
    last = of(mine, 2) | snapshots(mine, 5)
    expected = {"all": every, "tickets": tickets, "last": last}.get(keep, last | of(mine, 0))
    assert kept(mine) == expected


@pytest.mark.parametrize(
    ("fraction", "rounds", "densities", "expected"),
    [
        (0.5, 3, [1, 0.5, 0.125], {0, 1, 3}),
        (0.5, 3, [0.001], {3}),
        (0.5, 3, [0.36, 0.35], {1, 2}),  # 0.3536 lies halfway between 0.5 and 0.25 on a log scale
        (0.2, 10, [0.2], {7}),
        (0.2, 10, [0.9, 0.89], {0, 1}),
    ],
)
def test_the_nearest_round_on_a_log_scale(fraction, rounds, densities, expected):
    how = Prune(fraction=fraction, rounds=rounds)
    assert nearest_rounds(how, densities) == expected


def test_of_two_that_are_equally_near_the_denser_stays():
    assert nearest_rounds(Prune(fraction=0.75, rounds=3), [0.5]) == {0}


def test_a_dense_ticket_waits_for_the_controls_of_all_arms():
    mine = sweep("last")
    dense = next(iter(of(mine, 0)))
    releases = Releases(mine, [], done={dense.key})
    firsts = sorted(r.key for r in rounds_of(mine).values() if r.index == 1)
    assert len(firsts) == 4
    for key in firsts[:-1]:
        assert dense not in releases.finished(key)
    assert dense in releases.finished(firsts[-1])


def test_nothing_goes_of_a_round_that_another_sweep_keeps_or_still_needs():
    mine, greedy = sweep("last"), sweep("all", "prune.rounds=1", "controls=[]")
    done = rounds_of(mine).keys()
    assert Releases(mine, [greedy], done).ready().isdisjoint(of(mine, 0) | of(mine, 1))
    needy = sweep("last", "prune.rounds=3")
    waits = Releases(mine, [needy], done)
    assert waits.ready().isdisjoint(of(mine, 2))
    assert of(mine, 1) <= waits.ready()


def test_a_round_that_is_trained_again_lets_its_ticket_go_again():
    mine = sweep("last")
    releases = Releases(mine, [], done=rounds_of(mine).keys())
    [dense] = of(mine, 0)
    assert dense in releases.ready()
    assert dense in releases.finished(dense.key)


KEEPS = st.sampled_from(["all", "tickets", "last", "{what: last, densities: [0.5]}"])
SWEEPS = st.builds(
    lambda keep, rounds, controls, step, seeds: sweep(
        keep, f"prune.rounds={rounds}", f"controls={controls}", f"rewind.weights={step}",
        f"seeds={seeds}",
    ),
    KEEPS,
    st.integers(1, 3),
    st.sampled_from(["[]", "[random-ticket]", "[reinit, permuted-mask]"]),
    st.sampled_from(["init", "5it", "final", "9it"]).map(
        lambda point: "init" if point == "final" else point
    ),
    st.sampled_from(["[0]", "[0, 1]"]),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(mine=SWEEPS, others=st.lists(SWEEPS, max_size=2), data=st.data())
def test_what_goes_is_needed_by_no_unfinished_round_and_kept_by_no_sweep(mine, others, data):
    """Rounds are finished in any order that lineages allow; in the end all goes that may."""
    every = rounds_of(mine, *others)
    ours = rounds_of(mine).keys()
    keeping = set().union(kept(mine), *map(kept, others))
    begun = data.draw(st.integers(0, len(every)))
    done: set[str] = set()
    gone: set[Piece] = set()
    releases = None

    def check(going: set[Piece]) -> None:
        for piece in going:
            assert piece.key in done, "its round is finished"
            assert piece.key in ours
            assert piece not in keeping
            assert all(piece not in stands_on(r) for r in every.values() if r.key not in done)
        gone.update(going)

    while len(done) < len(every):
        if len(done) == begun:
            releases = Releases(mine, others, set(done))
            check(releases.ready())
        free = sorted(
            key for key, r in every.items()
            if key not in done and (r.parent is None or r.parent in done)
        )  # fmt: skip
        key = data.draw(st.sampled_from(free))
        done.add(key)
        if releases is not None:
            check(releases.finished(key))
    if releases is None:
        releases = Releases(mine, others, done)
        check(releases.ready())
    assert gone == left(mine.lineages) - keeping
