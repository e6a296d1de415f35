"""How often the intervals of `analysis.stats` hold the truth, on studies whose truth is known.

    python benchmarks/intervals.py [--quick] [--json FILE]

Each figure is of 2,000 studies (400 with --quick) drawn from a seeded generator and given to the
functions as users call them. Coverage counts the studies that got an interval; a dash says that
none did. With 2,000 studies a true 95 % comes out between 94 and 96 % nineteen times in twenty.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import numpy as np

from raylottery.analysis.stats import (
    Critical,
    Estimate,
    critical_density,
    group_mean,
    group_median,
    holm,
    iqm,
    paired_difference,
    permutation_p,
    probability_of_improvement,
    seeds_needed,
    stratified_iqm,
    unpaired_difference,
)
from raylottery.analysis.stats.bootstrap import bootstrap_t, percentiles, times_drawn


SEEDS = (3, 5, 10, 30)
EFFECT = 0.5
TASKS = 5
FAMILY = 6
RESAMPLES = 500
"""in place of 10,000, which costs a few tenths of a per cent of coverage at most"""

Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
"""drawn with mean 0 and standard deviation 1"""

Row = tuple[str, str, str, int, float | None]
"""a table, what was drawn, what was computed, n, the figure"""


def normal(generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    return generator.standard_normal(size)


def skewed(generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """Lognormal with sigma 0.5, skewness 1.75, long tail downwards as near a ceiling."""
    grown = np.exp(0.5 * generator.standard_normal(size))
    return -(grown - np.exp(0.125)) / np.sqrt(np.expm1(0.25) * np.exp(0.25))


def bimodal(generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """One run in five collapses, by five standard deviations of the others."""
    collapsed = generator.random(size) < 0.2
    return (generator.standard_normal(size) - 5 * collapsed + 1) / np.sqrt(5)


def heavy(generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """Student's t with three degrees of freedom."""
    return generator.standard_t(3, size) / np.sqrt(3)


NOISES: dict[str, Noise] = {
    "normal": normal,
    "skewed": skewed,
    "bimodal": bimodal,
    "heavy tails": heavy,
}


def fast_bootstrap_t(values: np.ndarray, references: np.ndarray) -> Estimate:
    """The paired bootstrap-t with fewer resamples."""
    difference = values - references
    low, high, p = bootstrap_t(difference, scale=1.0, seed=0, resamples=RESAMPLES)
    return Estimate(mean=float(difference.mean()), low=low, high=high, n=len(difference), p=p)


def percentile_mean(values: np.ndarray, references: np.ndarray) -> Estimate:
    """The plain percentile bootstrap of a mean difference, which the package does not offer."""
    difference = values - references
    means = times_drawn(len(difference), RESAMPLES, 0) @ difference / len(difference)
    low, high = percentiles(means, scale=1.0)
    return Estimate(mean=float(difference.mean()), low=low, high=high, n=len(difference))


DIFFERENCES: dict[str, Callable[..., Estimate]] = {
    "Student, paired (the default)": paired_difference,
    "bootstrap-t, paired": fast_bootstrap_t,
    "percentile bootstrap, paired": percentile_mean,
    "Welch, as if unpaired": unpaired_difference,
}


def draw_pairs(
    noise: Noise, n: int, studies: int, *, effect: float, both: bool = True, shared: float = 2.0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Studies of two arms whose seeds have something in common, with noise on both or on one."""
    generator, size = np.random.default_rng(n), (studies, n)
    common = shared * generator.standard_normal(size)
    values = common + effect + noise(generator, size)
    references = common + noise(generator, size) if both else common
    return list(zip(values, references, strict=True))


def held(found: Iterable[Estimate], truth: float) -> float | None:
    """The share of the intervals that hold the truth, of those that there are."""
    ends = [(one.low, one.high) for one in found if one.low is not None]
    return float(np.mean([low <= truth <= high for low, high in ends])) if ends else None


def differences(studies: int) -> Iterable[Row]:
    """Two arms, correlated 0.8 by seed; noise on one side alone skews their differences."""
    for both, (name, noise), n in product((True, False), NOISES.items(), SEEDS):
        if noise is normal and not both:
            continue
        drawn = draw_pairs(noise, n, studies, effect=EFFECT, both=both)
        for figure, estimate in DIFFERENCES.items():
            if both or estimate is not unpaired_difference:
                share = held((estimate(*sides) for sides in drawn), EFFECT)
                of = name if both else f"{name}, one side"
                yield "coverage: the difference of two arms", of, figure, n, share


def groups(studies: int) -> Iterable[Row]:
    """Runs of one arm, and of one against another."""
    table = "coverage: one arm, or runs against runs"
    for name, noise in NOISES.items():
        many = noise(np.random.default_rng(0), (2_000_000,))
        median, middle = float(np.median(many)), float(iqm(many))
        better = float(np.mean(many[::2] + EFFECT > many[1::2]))
        for n in SEEDS:
            one, other = noise(np.random.default_rng(n), (2, studies, n))
            share = held(map(group_mean, one), 0.0)
            yield table, name, "mean, Student", n, share
            share = held(map(group_median, one), median)
            yield table, name, "median, order statistics", n, share
            share = held((stratified_iqm(x, resamples=RESAMPLES) for x in one), middle)
            yield table, name, "IQM, one task", n, share
            sides = zip(one + EFFECT, other, strict=True)
            found = (probability_of_improvement(x, y, resamples=RESAMPLES) for x, y in sides)
            yield table, name, "probability of improvement", n, held(found, better)


def columns(studies: int) -> Iterable[Row]:
    """Tasks trained apart, which stratification takes them for, and rounds that share a seed."""
    table = f"coverage: {TASKS} columns"
    for n in SEEDS:
        generator = np.random.default_rng(n)
        tasks = generator.standard_normal((studies, n, TASKS))
        rounds = tasks + 2 * generator.standard_normal((studies, n, 1))
        for of, drawn in {"tasks": tasks, "rounds of a lineage": rounds}.items():
            share = held((stratified_iqm(x, resamples=RESAMPLES) for x in drawn), 0.0)
            yield table, of, "IQM, stratified", n, share
            share = held((group_mean(x.mean(axis=1)) for x in drawn), 0.0)
            yield table, of, "mean of each seed's mean, Student", n, share


def critical(studies: int) -> Iterable[Row]:
    """Eight densities, a true loss that grows as the cube of the depth, a margin of half a sd."""
    density = 0.8 ** np.arange(0, 16, 2)
    loss, margin = 3 * np.linspace(0, 1, 8) ** 3, 0.5
    truth = critical_density(density, np.array([-loss]), margin=margin).density
    for (name, noise), n in product(NOISES.items(), SEEDS):
        generator = np.random.default_rng(n)
        scores = 2 * generator.standard_normal((studies, n, 1)) - loss
        scores = scores + noise(generator, (studies, n, 8))
        found = [critical_density(density, study, margin=margin) for study in scores]
        table = "the critical density"
        yield table, name, "coverage", n, float(np.mean([_holds(one, truth) for one in found]))
        yield table, name, "lower end open", n, float(np.mean([one.low is None for one in found]))


def _holds(found: Critical, truth: float) -> bool:
    return (found.low or 0.0) <= truth <= (found.high or 1.0)


def nulls(studies: int) -> Iterable[Row]:
    """Two arms that do not differ, and how often something is called a difference."""
    table = "a null effect called a difference"
    for name, n in product(("normal", "bimodal"), SEEDS):
        noise = NOISES[name]
        family = [
            draw_pairs(noise, n, FAMILY * studies, effect=0.0)[k::FAMILY] for k in range(FAMILY)
        ]
        drawn = family[0]
        for figure, estimate in DIFFERENCES.items():
            called = float(np.mean([estimate(*sides).tells for sides in drawn]))
            yield table, name, figure, n, called
        flipped = [permutation_p(values - references) for values, references in drawn]
        known = [p for p in flipped if p is not None]
        called = float(np.mean([p < 0.05 for p in known])) if known else None
        yield table, name, "sign flips", n, called
        ps = [
            [paired_difference(*sides).p for sides in study] for study in zip(*family, strict=True)
        ]
        called = float(np.mean([min(study) < 0.05 for study in ps]))
        yield table, name, f"one or more of {FAMILY} densities", n, called
        called = float(np.mean([min(holm(study)) < 0.05 for study in ps]))
        yield table, name, f"one or more of {FAMILY}, after Holm", n, called


def widths(studies: int) -> Iterable[Row]:
    """What pairing is worth, and what following the skew costs where there is none."""
    for correlation, n in product((0.0, 0.5, 0.8, 0.95), SEEDS):
        shared = np.sqrt(correlation / (1 - correlation))
        drawn = draw_pairs(normal, n, studies, effect=EFFECT, shared=shared)
        ratio = _narrower(drawn, paired_difference, unpaired_difference)
        yield "width: paired / unpaired, median", f"correlation {correlation:g}", "", n, ratio
    for n in SEEDS:
        drawn = draw_pairs(normal, n, studies, effect=EFFECT)
        ratio = _narrower(drawn, fast_bootstrap_t, paired_difference)
        yield "width: bootstrap-t / Student, median", "normal", "", n, ratio


def _narrower(
    drawn: list[tuple[np.ndarray, np.ndarray]],
    estimate: Callable[..., Estimate],
    other: Callable[..., Estimate],
) -> float | None:
    """The median ratio of two widths, where both have one."""
    ratios = [
        (one.high - one.low) / (two.high - two.low)
        for one, two in ((estimate(*sides), other(*sides)) for sides in drawn)
        if one.low is not None
    ]
    return float(np.median(ratios)) if ratios else None


def power(studies: int) -> Iterable[Row]:
    """An effect of 0.8 standard deviations of the differences, which takes 15 pairs to tell."""
    for n in SEEDS:
        drawn = np.random.default_rng(n).standard_normal((studies, n)) + 0.8
        needed = [seeds_needed(sample) or np.inf for sample in drawn]
        for quarter in (0.25, 0.5, 0.75):
            figure = float(np.quantile(needed, quarter, method="lower"))
            yield "seeds needed (true: 15)", "normal", f"quantile {quarter:g}", n, figure


TABLES = (differences, groups, columns, critical, nulls, widths, power)


def show(rows: list[Row]) -> None:
    """Tables with a line for each figure and a column for each n."""
    previous = ""
    by_line: dict[tuple[str, str, str], list[float | None]] = {}
    for table, of, figure, _, value in rows:
        by_line.setdefault((table, of, figure), []).append(value)
    for (table, of, figure), values in sorted(by_line.items(), key=lambda line: line[0][0]):
        if table != previous:
            heads = "".join(f"{f'n = {n}':>9}" for n in SEEDS)
            sys.stdout.write(f"\n{table:58}{heads}\n")
            previous = table
        plain = table.startswith(("width", "seeds"))
        cells = ("-" if v is None else f"{v:.3g}" if plain else f"{v:.1%}" for v in values)
        sys.stdout.write(f"{of:22}{figure:36}" + "".join(f"{cell:>9}" for cell in cells) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the studies")
    parser.add_argument("--json", type=Path, help="keep the figures")
    options = parser.parse_args()
    begun = time.perf_counter()
    studies = 400 if options.quick else 2000
    rows = [row for table in TABLES for row in table(studies)]
    show(rows)
    sys.stdout.write(f"\n{studies} studies each, {time.perf_counter() - begun:.0f} s\n")
    if options.json:
        names = ("table", "of", "figure", "n", "value")
        kept = [dict(zip(names, row, strict=True)) for row in rows]
        options.json.write_text(json.dumps({"studies": studies, "rows": kept}, indent=1))


if __name__ == "__main__":
    main()
