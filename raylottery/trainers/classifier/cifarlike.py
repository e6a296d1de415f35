"""cifar-like: images of textured patches, for networks that know a texture wherever it lies.

Each of the ten classes is a pair of the five textures. An image shows one patch of either, a
second patch of one of them and a smooth one, on a drifting background and under noise. Cells are
shuffled, the whole is shifted around the edges, and every patch draws its size, grain, phase,
colours and the sign of its contrast: so no pixel has a mean that depends on the class, and no
single texture names it. A mirrored image keeps its class.

Everything is computed on integers, from a stream that numpy keeps for ever: the same images come
out on every machine.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


VERSION = 1
"""Raised with the classifier's PROTOCOL, whenever the same size would give other images."""

TEXTURES = ("lying stripes", "standing stripes", "slanted stripes", "checks", "rings")
SMOOTH = len(TEXTURES)
CLASSES = np.array([*combinations(range(len(TEXTURES)), 2)])

SIDE = 32
CELLS = np.array([(8, 8), (8, 24), (24, 8), (24, 24)])
JITTER = 3
NOISE = 56
CHUNK = 500
"""Images that are drawn together, from a stream of their own: a larger set begins as a smaller."""

TURN = 256
WAVE = np.array([round(127 * math.sin(2 * math.pi * i / TURN)) for i in range(TURN)], np.int16)
ROOT = np.array([round(16 * math.sqrt(i)) for i in range(SIDE**2 // 2 + 1)], np.int16)
"""Sixteen times the square root of each squared distance there can be."""
GRID = np.arange(SIDE, dtype=np.int16)

Ints = NDArray[np.int16]


def generate(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`count` images (count, 3, 32, 32) and their labels, as many of each class."""
    x = np.empty((count, 3, SIDE, SIDE), np.uint8)
    y = np.arange(count) % len(CLASSES)
    for chunk, begin in enumerate(range(0, count, CHUNK)):
        drawn = draw(np.random.RandomState([seed, chunk]))
        x[begin : begin + CHUNK] = drawn[: count - begin]
    return x, y


def draw(stream: np.random.RandomState) -> NDArray[np.uint8]:
    """A chunk of images; image i is of class i modulo the classes."""

    def random(low: int, high: int, *shape: int) -> Ints:
        return stream.randint(low, high, (CHUNK, *shape), np.int16)

    pair = CLASSES[np.arange(CHUNK) % len(CLASSES)]
    again = np.take_along_axis(pair, random(0, 2, 1), axis=1)
    textures = np.concatenate([pair, again, np.full((CHUNK, 1), SMOOTH)], axis=1)
    order = np.argsort(random(0, 2**14, 4), axis=1, kind="stable")
    textures = np.take_along_axis(textures, order, axis=1)
    centre = CELLS + random(-JITTER, JITTER + 1, 4, 2) + random(0, SIDE, 1, 2)
    away = (GRID - centre[..., None] + SIDE // 2) % SIDE - SIDE // 2  # around the edges
    away = away.astype(np.int16)

    base, drift = random(88, 168, 3, 1, 1), random(-3, 4, 2, 3, 1, 1)
    picture = base + drift[:, 0] * (GRID[:, None] - SIDE // 2) + drift[:, 1] * (GRID - SIDE // 2)
    for slot in range(len(CELLS)):
        rows, columns = away[:, slot, 0, :, None], away[:, slot, 1, None, :]
        step = random(38, 65, 1, 1)  # 4 to 7 pixels a wave
        phases = random(0, TURN, 2, 1, 1)
        slant = 1 - 2 * random(0, 2, 1, 1)
        waves = textured(textures[:, slot], rows, columns, step, phases, slant)[:, None]
        contrast = random(30, 90, 3, 1, 1) * (1 - 2 * random(0, 2, 1, 1, 1))
        patch = random(58, 199, 3, 1, 1) + waves * contrast // 128
        within = random(6, 10, 1, 1) ** 2 - (rows**2 + columns**2)
        picture += (patch - picture) * np.clip(within, 0, 32)[:, None] // 32  # a soft edge
    noise = np.frombuffer(stream.bytes(2 * picture.size), np.uint8).astype(np.int16)
    first, second = noise.reshape(2, *picture.shape)
    picture += (first + second - 255) * NOISE // 128
    return np.clip(picture, 0, 255).astype(np.uint8)


def textured(
    textures: NDArray, rows: Ints, columns: Ints, step: Ints, phases: Ints, slant: Ints
) -> Ints:
    """What each image's texture is at each pixel: waves of height 127, none where it is smooth."""
    waves = np.zeros((len(textures), SIDE, SIDE), np.int16)

    def wave(angle: Ints, phase: Ints) -> Ints:
        return WAVE[(angle + phase) % TURN]

    for texture in range(len(TEXTURES)):
        of = textures == texture
        y, x, f, p, q = rows[of], columns[of], step[of], phases[of, 0], phases[of, 1]
        match TEXTURES[texture]:
            case "lying stripes":
                waves[of] = wave(y * f, p)
            case "standing stripes":
                waves[of] = wave(x * f, p)
            case "slanted stripes":
                waves[of] = wave((y + slant[of] * x) * (f * 181 // 256), p)  # over root 2
            case "checks":
                waves[of] = wave(y * f, p) * wave(x * f, q) // 80  # as strong as stripes
            case "rings":
                waves[of] = wave(ROOT[y**2 + x**2] * f // 16, p)
    return waves
