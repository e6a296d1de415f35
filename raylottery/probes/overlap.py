"""What two masks have in common, against what chance would have them share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

from raylottery.errors import UsageError
from raylottery.probes.finished import Finished, FinishedRounds
from raylottery.pruning import Masks


class Common(NamedTuple):
    """What two masks keep."""

    both: int
    either: int
    expected: float
    """Of both, if the entries of each layer were drawn independently."""

    @property
    def overlap(self) -> float:
        """Intersection over union."""
        return self.both / self.either

    @property
    def chance(self) -> float:
        """The same of masks with as many entries in each layer, drawn independently."""
        return self.expected / (self.both + self.either - self.expected)


class Masked(NamedTuple):
    """A ticket and its mask."""

    ticket: Finished
    masks: Masks


def rows(found: FinishedRounds) -> list[dict[str, Any]]:
    tickets = [one for one in found.rounds if one.is_ticket and one.round.index]
    if not tickets:
        raise UsageError(
            f"overlap compares masks, and no pruned round of {found.sweep.name} is finished yet. "
            f"Run it on."
        )
    places = {place_of(one): number for number, one in enumerate(tickets)}
    by_index: dict[int, list[Finished]] = defaultdict(list)
    for one in tickets:
        by_index[one.round.index].append(one)
    ordered = []
    before: dict[str, Masked] = {}
    for index in found.each(sorted(by_index), len(by_index)):
        now = [
            Masked(one, Masks(sections["mask"]))
            for one, sections in found.tickets(by_index[index])
        ]
        for kind, one, other in couples(now, before):
            place = places[place_of(one.ticket)], kind, places[place_of(other.ticket)]
            ordered.append((place, row(kind, one, other)))
        before = {one.ticket.lineage.id: one for one in now}
    return [said for _, said in sorted(ordered, key=lambda each: each[0])]


def couples(now: list[Masked], before: dict[str, Masked]) -> Iterator[tuple[str, Masked, Masked]]:
    """Which masks of a round are compared: all seeds of an arm, all arms of a seed where they
    prune the same layers, and each with that of the round before."""
    for one, other in combinations(now, 2):
        a, b = one.ticket.lineage, other.ticket.lineage
        if a.arm.id == b.arm.id:
            yield "seeds", one, other
        elif a.seed == b.seed and shapes(one.masks) == shapes(other.masks):
            yield "arms", one, other
    for one in now:
        if earlier := before.get(one.ticket.lineage.id):
            yield "rounds", one, earlier


def row(kind: str, one: Masked, other: Masked) -> dict[str, Any]:
    found = common(one.masks, other.masks)
    return {
        **one.ticket.head(),
        "kind": kind,
        "other_lineage": other.ticket.lineage.id,
        "other_round": other.ticket.round.index,
        "kept_both": found.both,
        "kept_either": found.either,
        "overlap": found.overlap,
        "chance": found.chance,
    }


def common(one: Masks, other: Masks) -> Common:
    """What two masks over the same layers share."""
    both = sum(int((mask & other[name]).sum()) for name, mask in one.items())
    expected = sum(
        int(mask.sum()) * int(other[name].sum()) / mask.numel() for name, mask in one.items()
    )
    return Common(both, one.kept + other.kept - both, expected)


def place_of(ticket: Finished) -> tuple[str, int]:
    return ticket.lineage.id, ticket.round.index


def shapes(masks: Masks) -> dict[str, tuple[int, ...]]:
    return {name: tuple(mask.shape) for name, mask in masks.items()}
