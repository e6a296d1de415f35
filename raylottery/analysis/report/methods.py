"""The methods paragraph of a sweep, written from its specification and its provenance.

Whatever differs between the arms is named with all its values; whatever the specification holds at
its usual setting and nobody would ask about is left out. The resolved sweep file has the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raylottery.analysis.fields import in_order, leaves, say
from raylottery.analysis.frame import Frame
from raylottery.analysis.words import percent
from raylottery.errors import Damaged
from raylottery.spec import Control
from raylottery.store.provenance import read_provenance


@dataclass(frozen=True, kw_only=True)
class Method:
    """How one sweep was made: sentences, in paragraphs."""

    sweep: str
    training: str
    pruning: str
    comparing: str
    made: str


class Fields:
    """What the specs of a sweep's arms say, field by field."""

    def __init__(self, specs: Sequence[dict]):
        # What only bookkeeping would leave out is wanted here too.
        whole = [dict(leaves(spec)) | {"prune.rounds": spec["prune"]["rounds"]} for spec in specs]
        self.names = list(dict.fromkeys(name for spec in whole for name in spec))
        self._cells = {
            name: in_order(json.dumps(spec.get(name)) for spec in whole) for name in self.names
        }

    def __contains__(self, name: str) -> bool:
        return name in self._cells

    def values(self, name: str) -> list:
        """The distinct values, as people list them; none where no spec has the field."""
        return [json.loads(cell) for cell in self._cells.get(name, ["null"])]

    def only(self, name: str):
        """The value that all arms share, or None."""
        values = self.values(name)
        return values[0] if len(values) == 1 else None

    def said(self, name: str) -> str:
        """The value, or all of them and that they vary."""
        texts = [say(cell) for cell in self._cells.get(name, ["null"])]
        return texts[0] if len(texts) == 1 else f"{joined(texts, 'or')} (varied)"


def methods(frame: Frame) -> tuple[Method, ...]:
    """One for each sweep."""
    return tuple(_method(frame, name) for name in frame.names)


def _method(frame: Frame, sweep: str) -> Method:
    lineages = frame.lineages[frame.lineages["sweep"] == sweep]
    specs = [json.loads(text) for text in lineages["spec"].unique()]
    fields = Fields(specs)
    given = [Control.model_validate(said) for spec in specs for said in spec.get("controls", ())]
    controls = sorted({control.in_words for control in given})
    seeds = sorted({int(seed) for seed in lineages["seed"]})
    return Method(
        sweep=sweep,
        training=" ".join(_training(fields)),
        pruning=" ".join(_pruning(fields, controls)),
        comparing=" ".join(_comparing(seeds, lineages["arm"].nunique(), len(lineages))),
        made=_made(frame, sweep),
    )


def _training(fields: Fields) -> Iterator[str]:
    said = fields.said
    if fields.only("trainer.kind") == "dqn":
        yield (
            f"A DQN agent (engine {said('trainer.engine')}, network {said('trainer.model')}) "
            f"learns {said('trainer.env')}; a training is {said('trainer.length')} long, with "
            f"learning rate {said('trainer.lr')}, batches of {said('trainer.batch_size')}, "
            f"a replay buffer of {said('trainer.buffer')} and discount {said('trainer.gamma')}."
        )
        yield (
            f"The score is the mean return of {said('eval.final')} greedy episodes of the last "
            "weights, in environments of their own."
        )
    else:
        decay = said("trainer.weight_decay") if "trainer.weight_decay" in fields else "0.0"
        yield (
            f"Networks {said('trainer.model')} learn {said('trainer.dataset')}; a training is "
            f"{said('trainer.length')} long"
            + (
                f", with {said('trainer.optimizer')} at learning rate {said('trainer.lr')} "
                f"({said('trainer.schedule')}), weight decay {decay} and batches of "
                f"{said('trainer.batch_size')}."
                if "trainer.optimizer" in fields
                else f", at learning rate {said('trainer.lr')}."
            )
        )
        yield "The score is the held-out test accuracy of the last weights, read once a round."
    if "stop.rule" in fields and fields.only("stop.rule") != "length":
        yield (
            f"The search for a ticket ends by the rule {said('stop.rule')}; the score is taken "
            f"at the {'stop' if fields.only('stop.evaluate') == 'at-stop' else 'full length'}."
        )


def _pruning(fields: Fields, controls: Sequence[str]) -> Iterator[str]:
    said = fields.said
    share = fields.only("prune.fraction")
    pruned = percent(share) if share is not None else f"a share of {said('prune.fraction')}"
    yield (
        f"After the dense round 0 follow {said('prune.rounds')} rounds of iterative pruning. Each "
        f"removes {pruned} of the surviving weights, those lowest by {said('prune.score')}, "
        f"ranked in scope {said('prune.scope')}."
    )
    if "layerwise" in fields.values("prune.scope") and "prune.output" in fields:
        rate = "the same rate" if fields.only("prune.output") == "full" else "half the rate"
        yield f"Under scope layerwise the output layer is pruned at {rate}."
    excluded = fields.only("prune.exclude")
    biases = fields.only("prune.biases")
    yield "Biases are pruned too." if biases else "Biases are never pruned."
    if excluded:
        yield f"Left out of all pruning: {joined(excluded, 'and')}."
    yield (
        f"Before a round the surviving weights go back to {said('rewind.weights')}, and the clock "
        f"of the schedules {_clock(fields)}."
    )
    yield from _reset(fields)
    if controls:
        yield f"Beside each ticket its controls are trained: {joined(controls, 'and')}."


def _clock(fields: Fields) -> str:
    clocks = fields.values("rewind.clock")
    return (
        "with them"
        if clocks == [None]
        else f"to {fields.said('rewind.clock')}".replace("none", "where the weights go")
    )


def _reset(fields: Fields) -> Iterator[str]:
    """What else a round starts from."""
    if fields.only("trainer.kind") != "dqn":
        yield "The optimizer starts afresh in every round; the order of the data is drawn anew."
        return
    names = [name for name in fields.names if name.startswith("reset.")]
    settings = (f"{name.removeprefix('reset.')} {fields.said(name)}" for name in names)
    if names:
        yield f"Besides that a round finds: {', '.join(settings)}."


def _comparing(seeds: Sequence[int], arms: int, lineages: int) -> Iterator[str]:
    listed = ", ".join(map(str, seeds[:12])) + (", ..." if len(seeds) > 12 else "")
    yield (
        f"{arms:,} {'arm' if arms == 1 else 'arms'} with {len(seeds)} "
        f"{'seed' if len(seeds) == 1 else 'seeds'} ({listed}) make {lineages:,} "
        f"{'lineage' if lineages == 1 else 'lineages'}; the arms of a seed that train the same "
        "network share its dense round and are paired on it."
    )
    yield (
        "Arms are compared at equal realised density, by interpolation in its logarithm between "
        "neighbouring rounds and never outside them. Differences are taken within pairs of equal "
        "seed and averaged within each seed, so n counts seeds; intervals are 95 % Student t "
        "intervals over seeds and p is two-sided. Where several densities are compared, a "
        "difference is called one only if it stands after Holm's correction over them."
    )


def _made(frame: Frame, sweep: str) -> str:
    """With what and from which commit, as the run itself noted it down."""
    try:
        about = read_provenance(sweep, frame.files)
    except Damaged:
        return "What it was run with is not known: the sweep's provenance.json is damaged."
    if about is None:
        return "What it was run with is not recorded: the sweep has no provenance.json."
    packages = [f"{name} {version}" for name, version in about["packages"].items() if version]
    place = f"commit {about['commit']}" if about["commit"] else "no commit is recorded"
    return (
        f"Run with raylottery {about['raylottery']}, Python {about['python']}, "
        f"{', '.join(packages)}, on {about['platform']}; {place}; last run {about['at']}."
    )


def joined(words: Sequence[str], last: str) -> str:
    """Words as a list in a sentence."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
