"""Writes docs/gallery.md and its figures from shipped sweeps that run on a laptop.

    python docs/gallery.py [--store results] [SWEEP ...]

Without names, runs those that take minutes, which trains nothing that the store already has, and
draws all that the store holds; sweeps that are named are drawn and not run. What the page says of
other sweeps stays.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from raylottery.analysis import Frame, compare, figures, load
from raylottery.analysis.stats import holm, paired_difference
from raylottery.analysis.words import p_value, percent


ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/gallery.md"
FOLDER = ROOT / "docs/gallery"
MOST = 150_000
"""bytes of a figure"""

HEAD = """# Gallery

Figures of shipped sweeps, with what `raylottery compare` says of them. This page is made by
`make gallery`, which runs the sweeps.
"""


@dataclass(frozen=True, kw_only=True)
class Page:
    """What to show of one sweep."""

    asks: str
    shows: tuple[str, ...]
    by: tuple[str, ...]
    needs: tuple[str, ...] = ()
    """kinds of `raylottery analyse` that its figures are drawn from"""
    minutes: bool = True
    """whether it runs in minutes on two cores"""


SHOWN = {
    "quickstart": Page(
        asks="Layerwise or global? Rewind to initialisation or to the first epoch? Do tickets "
        "beat random tickets?",
        shows=("score_by_density", "critical_densities", "rewind_curve", "layer_densities"),
        by=("control", "prune.scope", "rewind.weights"),
    ),
    "mnist1d-early-stop": Page(
        asks="Do tickets learn faster than the dense network, until they are too sparse?",
        shows=("training_speed", "learning_curves", "score_by_density"),
        by=("control",),
    ),
    "cifarlike-scope-rewind": Page(
        asks="Layerwise or global, and where to rewind to, for a convolutional network?",
        shows=("score_by_density", "score_by_flops", "layer_densities"),
        by=("prune.scope", "rewind.weights"),
        minutes=False,
    ),
    "decomposition-mnist1d": Page(
        asks="Is it the mask or the weights?",
        shows=("control_ladder",),
        by=("control",),
    ),
    "stability-mnist1d": Page(
        asks="From which rewind point on does a ticket train to one place, whatever the order of "
        "the data?",
        shows=("barriers",),
        by=("rewind.weights",),
        needs=("connectivity",),
    ),
    "decomposition-cartpole": Page(
        asks="Is it the mask or the weights, for a DQN?",
        shows=("control_ladder",),
        by=("control",),
        minutes=False,
    ),
    "minimal-inputs-cartpole": Page(
        asks="Do tickets find the inputs that a task needs, among noise and copies?",
        shows=("input_survival",),
        by=("prune.scope",),
        needs=("inputs",),
        minutes=False,
    ),
    "acrobot-erk": Page(
        asks="ERK or uniform, for a DQN in Acrobot?",
        shows=("score_by_density", "layer_densities"),
        by=("prune.scope",),
        minutes=False,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "sweeps", nargs="*", choices=[*SHOWN, []], metavar="SWEEP", help="sweeps of the store"
    )
    parser.add_argument("--store", default="results")
    asked = parser.parse_args()
    names = asked.sweeps
    if not names:
        for name in (name for name, page in SHOWN.items() if page.minutes):
            sweep = str(ROOT / f"sweeps/{name}.yaml")
            raylottery("run", sweep, "--store", asked.store)
        names = [name for name in SHOWN if (Path(asked.store) / "sweeps" / name).is_dir()]
    parts = standing()
    for name in names:
        for kind in SHOWN[name].needs:
            raylottery("analyse", name, kind, "--store", asked.store)
        parts[name] = section(name, load(name, store=asked.store))
    kept = [parts[name] for name in SHOWN if name in parts]
    PAGE.write_text("\n".join([HEAD, *kept]), encoding="utf-8")


def raylottery(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "raylottery", *words], check=True)


def standing() -> dict[str, str]:
    """What the page says of each sweep."""
    _, *parts = re.split(r"^(?=## )", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {part.splitlines()[0].removeprefix("## "): f"{part.rstrip()}\n" for part in parts}


def section(name: str, frame: Frame) -> str:
    """One sweep: its question, the answers, its figures with their captions."""
    page = SHOWN[name]
    lines = [f"## {name}", "", page.asks, ""]
    for by in page.by:
        found = compare(frame, by)
        lines += [f"`raylottery compare {name} --by {by}`:", ""]
        lines += [f"- {sentence}" for sentence in found.sentences]
        lines += ["", *(f"{note}\n" for note in found.notes)]
    if "training_speed" in page.shows:
        lines += [*speed(frame), ""]
    for figure in page.shows:
        drawn = (figures.FIGURES | figures.FURTHER)[figure](frame)
        text = figures.svg(drawn)
        if len(text) > MOST:
            raise SystemExit(f"{name}: {figure} has {len(text):,} bytes, over {MOST:,}")
        (FOLDER / f"{name}-{figure}.svg").write_text(text, encoding="utf-8")
        alt = figure.replace("_", " ")
        lines += [f"![{alt}](gallery/{name}-{figure}.svg)", "", f"*{drawn.caption}*", ""]
    return "\n".join(lines)


def speed(frame: Frame) -> list[str]:
    """How much sooner or later than the dense network each ticket's validation loss is lowest."""
    tickets = frame.rounds[frame.rounds["control"] == "ticket"]
    steps = tickets.pivot(index="seed", columns="round", values="min_loss_step").dropna()
    density = tickets.groupby("round")["density"].median()
    found = {number: paired_difference(steps[number], steps[0]) for number in steps if number}
    ps = holm([estimate.p for estimate in found.values()])
    lines = [
        f"Updates until the validation loss is lowest, {steps[0].mean():.0f} for the dense "
        f"networks: tickets minus the dense network of the same seed, {len(steps)} paired seeds, "
        f"p corrected over {len(found)} densities (Holm).",
        "",
        "| density | updates | minus dense | 95 % interval | p |",
        "|---|---|---|---|---|",
    ]
    for (number, estimate), p in zip(found.items(), ps, strict=True):
        ends = "" if estimate.low is None else f"{estimate.low:.0f} to {estimate.high:.0f}"
        cells = (
            percent(density[number]),
            f"{steps[number].mean():.0f}",
            f"{estimate.mean:+.0f}",
            ends,
            "" if p is None else p_value(p).removeprefix("p ").removeprefix("= "),
        )
        lines.append(f"| {' | '.join(cells)} |")
    sides = {
        word: [
            percent(density[number])
            for (number, estimate), p in zip(found.items(), ps, strict=True)
            if p is not None and p < 0.05 and (estimate.mean > 0) == late
        ]
        for word, late in (("sooner", False), ("later", True))
    }
    told = [f"{word} at {', '.join(where)}" for word, where in sides.items() if where]
    verdict = " and ".join(told) or "no sooner and no later that these seeds could tell"
    return [*lines, "", f"Verdict: tickets learn {verdict} of the weights."]


if __name__ == "__main__":
    main()
