"""How fast the compiled kernel makes the updates of a DQN agent, against torch: per CPU-second.

    python benchmarks/kernel.py [--quick] [--json FILE] [--switch]

The network has two layers of 128, four inputs and two outputs; batches of 64. An update is all
but acting and replay: double DQN's target (two forward passes), Huber's loss, forward, backward,
clipping to norm 10 and Adam, on masked weights. Torch makes the same update as a plain loop would,
masking gradients and weights. All are measured in one process, in turns; figures are medians.

At each density there are two masks, both exact over the whole network. `random` is drawn layer by
layer, the output at half the rate, so that many neurons no longer reach the output and are
dropped with their weights. In `connected` none is: as many weights as survive are computed with.

`--switch` measures anew from which density a layer is computed densely, and writes the table that
ships with the kernel. A changed table is another protocol: raise `PROTOCOL` with it.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numba import njit, typeof, types
from torch import nn

from raylottery.kernel import PROTOCOL, Layer, Network, adam, losses, optimizers, packing, passes
from raylottery.kernel.packing import reaching
from raylottery.kernel.plan import DENSE, SPARSE


SIZES = (4, 128, 128, 2)
BATCH = 64
DENSITIES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
RATE = 1e-3
CLIP = 10.0
OUTPUT_RATE = np.log(0.9) / np.log(0.8)
"""As an exponent: the output is pruned at half the rate of the rest, 20 % a round."""
PATHS = {"dense": DENSE, "sparse": SPARSE}
SHARES = {"forward": 1, "loss": 2, "backward": 4, "step": 8}
ALL = sum(SHARES.values())

LAYERS = ((4, 128), (16, 128), (64, 128), (128, 128), (300, 100), (784, 300))
"""Inputs and neurons of the layers that are measured for the table."""
STEP = 0.05
"""Of densities in the table: what is measured is no finer."""
HEAD = """
density, mask     weights: kept,   updates per CPU-second:              table
                  and not dropped  torch     dense    sparse    table   / torch   us by part
"""
ALWAYS = 2.0
"""No density is that high."""


# Masks


def randomly(density: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Layer by layer, each to an exact count."""
    shapes = [(b, a) for a, b in pairwise(SIZES)]
    total = sum(a * b for a, b in shapes)
    output = density**OUTPUT_RATE
    rest = (density * total - output * np.prod(shapes[-1])) / (total - np.prod(shapes[-1]))
    shares = [max(rest, 0.0)] * (len(shapes) - 1) + [output]
    return [drawn(shape, share, rng) for shape, share in zip(shapes, shares, strict=True)]


def drawn(shape: tuple[int, int], share: float, rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros(shape[0] * shape[1], bool)
    mask[: round(share * mask.size)] = True
    return rng.permutation(mask).reshape(shape)


def connected(density: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Weights of dropped neurons are taken away and drawn anew, until there are none."""
    masks = randomly(density, rng)
    wanted = sum(int(mask.sum()) for mask in masks)
    while True:
        alive = reaching(layers(masks, rng))
        for mask, neurons in zip(masks, alive[1:], strict=True):
            dropped = np.ones(len(mask), bool)
            dropped[neurons] = False
            mask[dropped] = False
        missing = wanted - sum(int(mask.sum()) for mask in masks)
        if not missing:
            return masks
        free = []
        for at, mask in enumerate(masks):
            places = np.zeros_like(mask)
            places[np.ix_(alive[at + 1], np.arange(mask.shape[1]))] = True
            free += [(at, place) for place in np.flatnonzero(places & ~mask)]
        for choice in rng.choice(len(free), min(missing, len(free)), replace=False):
            at, place = free[choice]
            masks[at].ravel()[place] = True


MASKS = {"random": randomly, "connected": connected}


def layers(masks: list[np.ndarray], rng: np.random.Generator) -> list[Layer]:
    return [
        Layer(
            (rng.normal(size=mask.shape) / max(1, mask.sum(axis=1).mean()) ** 0.5).astype("f4"),
            (rng.normal(size=len(mask)) / 10).astype("f4"),
            mask,
        )
        for mask in masks
    ]


# What is measured: each gives the CPU-seconds of so many updates


def loop(forward, backward, step, shares, updates, before, net, here, there, batch, rule):
    """As a compiled DQN loop has it; `shares` leaves parts out."""
    plan, index, mask, ends = net[0], net[1], net[2], net[3]
    values, target, grads, first, second = net[4], net[5], net[6], net[7], net[8]
    acts, deltas, scratch, outputs, out_deltas = here
    next_acts, next_outputs, ratings = there
    actions, rewards, discounts, wanted, weights, errors = batch
    lanes = outputs.shape[1]
    for update in range(updates):
        if shares & 1:
            forward(plan, index, target, next_acts, lanes)
            ratings[:] = next_outputs
            forward(plan, index, values, next_acts, lanes)
            forward(plan, index, values, acts, lanes)
        if shares & 2:
            losses.bootstrapped(next_outputs, ratings, rewards, discounts, wanted)
            losses.chosen_values(outputs, actions, wanted, weights, False, out_deltas, errors)
        if shares & 4:
            backward(plan, index, mask, values, grads, acts, deltas, scratch, lanes)
        if shares & 8:
            step(values, grads, first, second, ends, rule, RATE, before + update + 1)


@functools.cache
def compiled(*kinds: types.Type) -> Callable:
    functions = map(types.FunctionType, (passes.FORWARD, passes.BACKWARD, optimizers.STEP))
    return njit(types.void(*functions, *[types.int64] * 3, *kinds), nogil=True)(loop)


class Ours:
    def __init__(self, whole: list[Layer], paths: list[int] | None):
        rng = np.random.default_rng(1)
        self.net = Network.of(whole, paths=paths)
        here, there = self.net.room(BATCH), self.net.room(BATCH)
        here.inputs[:] = rng.normal(size=here.inputs.shape)
        there.inputs[:] = rng.normal(size=there.inputs.shape)
        packed, net = self.net.packed, self.net
        floats = [rng.normal(size=BATCH).astype(np.float32) for _ in range(2)]
        zeros = [np.zeros(BATCH, np.float32) for _ in range(2)]
        self.arguments = (
            (
                *(packed.plan, packed.index, packed.mask, packed.ends, net.values),
                *(net.values.copy(), net.grads, net.first, net.second),
            ),
            (here.acts, here.deltas_flat, here.scratch, here.outputs, here.deltas),
            (there.acts, there.outputs, np.zeros_like(there.outputs)),
            (
                rng.integers(0, len(here.outputs), BATCH),
                *floats,
                zeros[0],
                np.ones(BATCH, np.float32),
                zeros[1],
            ),
            adam(clip=CLIP),
        )
        self.loop = compiled(*map(typeof, self.arguments))

    def seconds(self, updates: int, shares: int = ALL) -> float:
        begun = time.process_time()
        self.loop(
            *(passes.forward.handle, passes.backward.handle, optimizers.step.handle),
            *(shares, updates, self.net.updates, *self.arguments),
        )
        self.net.updates += updates
        return time.process_time() - begun


class Torch:
    def __init__(self, whole: list[Layer]):
        self.masks = [torch.from_numpy(layer.kept()) for layer in whole]
        self.net, self.target = self.made(whole), self.made(whole)
        self.weights = [part.weight for part in self.net if isinstance(part, nn.Linear)]
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=RATE, fused=True)
        self.obs, self.next = torch.randn(2, BATCH, SIZES[0])
        self.actions = torch.randint(0, SIZES[-1], (BATCH, 1))
        self.rewards, self.discounts = torch.randn(2, BATCH)

    def made(self, whole: list[Layer]) -> nn.Sequential:
        parts = []
        for layer in whole:
            linear = nn.Linear(*reversed(layer.weight.shape))
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(layer.weight * layer.kept()))
                linear.bias.copy_(torch.from_numpy(layer.bias))
            parts += [linear, nn.ReLU()]
        return nn.Sequential(*parts[:-1])

    def seconds(self, updates: int) -> float:
        begun = time.process_time()
        for _ in range(updates):
            with torch.no_grad():
                best = self.net(self.next).argmax(dim=1, keepdim=True)
                value = self.target(self.next).gather(1, best).squeeze(1)
                wanted = self.rewards + self.discounts * value
            q = self.net(self.obs).gather(1, self.actions).squeeze(1)
            loss = nn.functional.huber_loss(q, wanted)
            self.optimizer.zero_grad()
            loss.backward()
            for weight, mask in zip(self.weights, self.masks, strict=True):
                weight.grad.mul_(mask)
            nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
            self.optimizer.step()
            with torch.no_grad():
                for weight, mask in zip(self.weights, self.masks, strict=True):
                    weight.mul_(mask)
        return time.process_time() - begun


# Turns


def measured(
    rivals: dict[str, Callable[[int], float]], turns: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds per update of each rival at each turn; a turn takes each about `seconds`."""
    updates = {}
    for name, run in rivals.items():
        run(10)
        updates[name] = max(10, int(seconds * 100 / run(100)))
    found: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(turns):
        for name, run in rivals.items():
            found[name].append(run(updates[name]) / updates[name])
    return found


def compare(turns: int, seconds: float) -> list[dict]:
    rows = []
    for density in DENSITIES:
        for kind, make in MASKS.items():
            if density == 1 and kind != "random":
                continue
            rng = np.random.default_rng(0)
            whole = layers(make(density, rng), rng)
            ours = {
                name: Ours(whole, None if path is None else [path] * len(whole))
                for name, path in {**PATHS, "table": None}.items()
            }
            rivals = {name: loop.seconds for name, loop in ours.items()}
            times = measured({"torch": Torch(whole).seconds, **rivals}, turns, seconds)
            count = max(100, int(seconds / statistics.median(times["table"])))
            parts = {
                name: statistics.median(
                    ours["table"].seconds(count, share) / count for _ in range(turns)
                )
                for name, share in SHARES.items()
            }
            plan = ours["table"].net.packed
            row = {
                "density": density,
                "mask": kind,
                "survivors": sum(int(layer.kept().sum()) for layer in whole),
                "computed": sum(int((p.flat < plan.ends[0]).sum()) for p in plan.weights),
                "updates_per_cpu_s": {
                    name: 1 / statistics.median(found) for name, found in times.items()
                },
                "ratio": {
                    name: statistics.median(
                        a / b for a, b in zip(times["torch"], found, strict=True)
                    )
                    for name, found in times.items()
                },
                "us_by_part": {name: 1e6 * part for name, part in parts.items()},
            }
            show(row)
            rows.append(row)
    return rows


def show(row: dict) -> None:
    rates = " ".join(
        f"{row['updates_per_cpu_s'][name]:9,.0f}" for name in ("torch", *PATHS, "table")
    )
    parts = ", ".join(f"{name} {us:.2f}" for name, us in row["us_by_part"].items())
    sys.stdout.write(
        f"{row['density']:<5} {row['mask']:<9} {row['survivors']:6} {row['computed']:6} {rates} "
        f"{row['ratio']['table']:7.1f}x   {parts}\n"
    )
    sys.stdout.flush()


# The table


def switch(turns: int, seconds: float) -> list[list[float]]:
    """For layers of so many inputs, the density where both paths take equally long."""
    table = []
    for inputs, neurons in LAYERS:
        ratios = {}
        for density in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
            rng = np.random.default_rng(0)
            first = inputs < 32 or inputs == 784  # observations and images go in there
            masks = [drawn((neurons, inputs), density, rng), drawn((2, neurons), 1.0, rng)]
            if not first:
                masks.insert(0, drawn((inputs, 4), 1.0, rng))
            at = len(masks) - 2
            whole = layers(masks, rng)
            rivals = {}
            for name, path in PATHS.items():
                paths = [SPARSE] * len(masks)
                paths[at] = path
                rivals[name] = Ours(whole, paths).seconds
            times = measured(rivals, turns, seconds)
            ratios[density] = statistics.median(
                a / b for a, b in zip(times["sparse"], times["dense"], strict=True)
            )
        threshold = crossing(ratios)
        sys.stdout.write(
            f"{inputs:4} inputs: sparse below {threshold}; sparse/dense "
            + ", ".join(f"{density} {ratio:.2f}" for density, ratio in ratios.items())
            + "\n"
        )
        sys.stdout.flush()
        table.append([inputs, threshold])
    return table


def crossing(ratios: dict[float, float]) -> float:
    """The density from which the dense path is the faster one."""
    slower = [density for density, ratio in ratios.items() if ratio > 1]
    if not slower:
        return ALWAYS
    above = min(slower)
    below = max(density for density in ratios if density < above)
    share = (1 - ratios[below]) / (ratios[above] - ratios[below])
    return round(round((below + share * (above - below)) / STEP) * STEP, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds, rough figures")
    parser.add_argument("--json", type=Path, help="keep the figures")
    parser.add_argument("--switch", action="store_true", help="measure and write the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    turns, seconds = (3, 0.02) if options.quick else (9, 0.15)
    if options.switch:
        table = {"protocol": PROTOCOL, "sparse_below": switch(turns, seconds / 3)}
        path = Path(packing.__file__).with_name("switch.json")
        path.write_text(json.dumps(table) + "\n")
        return
    sys.stdout.write(HEAD)
    rows = compare(turns, seconds)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
