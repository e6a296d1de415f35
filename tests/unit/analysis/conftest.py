"""Small sweeps written by hand: known scores in the tables that a store would hold."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylottery.analysis import Frame, load


SPEC = {
    "name": "base",
    "trainer": {
        "kind": "classifier",
        "dataset": "mnist1d",
        "model": "mlp-300-100",
        "length": "15ep",
        "lr": 0.002,
    },
    "prune": {"score": "magnitude", "scope": "global", "fraction": 0.5, "rounds": 4},
    "rewind": {"weights": "init", "clock": None},
    "seeds": [0, 1, 2],
    "controls": [],
    "resources": {"cpus": 1.0, "gpus": 0.0},
    "retries": 3,
}

# (values by axis path, seed, control, density) -> score, or None for a round not done
Score = Callable[[Mapping[str, object], int, str, float], float | None]
# (row of rounds, layer, its weights) -> how many are kept
Kept = Callable[[Mapping[str, Any], str, int], int]
IDS = ["sweep", "lineage", "control", "lineage_mode", "draw", "round"]


def set_path(spec: dict, path: str, value: object) -> None:
    *parents, last = path.split(".")
    for name in parents:
        spec = spec[name]
    spec[last] = value


def short_id(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


class Study:
    """Writes sweeps under one store and loads them."""

    def __init__(self, store: Path):
        self.store = store

    def write(
        self,
        score: Score,
        *,
        name: str = "study",
        axes: Mapping[str, Sequence[object]] | None = None,
        zipped: Sequence[Mapping[str, object]] | None = None,
        seeds: Sequence[int] = (0, 1, 2),
        densities: Callable[[Mapping[str, object]], Sequence[float]] = lambda _: (
            1.0,
            0.5,
            0.25,
            0.125,
        ),
        controls: Sequence[str] = (),
        metric: str = "accuracy",
        prunable: Callable[[Mapping[str, object]], int] = lambda _: 1000,
        steps: Callable[[Mapping[str, object]], int] = lambda _: 525,
        spec: Mapping[str, object] | None = None,
        **columns: object,
    ) -> None:
        lineages, rounds = [], []
        cells = [
            dict(zip(axes or {}, values, strict=True))
            for values in itertools.product(*(axes or {}).values())
        ]
        for values in zipped or cells:
            study = copy.deepcopy(SPEC) | {"name": name, "seeds": list(seeds)}
            depth = {"prune.rounds": len(densities(values)) - 1}
            for path, value in {**depth, **(spec or {}), **values}.items():
                set_path(study, path, value)
            ids = {key: part for key, part in study.items() if key not in ("name", "seeds")}
            arm = short_id(ids)
            label = " ".join(f"{path.split('.')[-1]}={value}" for path, value in values.items())
            for seed in seeds:
                head = {
                    "sweep": name,
                    "arm": arm,
                    "lineage": short_id(arm, seed),
                    "arm_label": label or "base",
                    "seed": seed,
                }
                lineages.append(head | {"values": json.dumps(values), "spec": json.dumps(study)})
                for control, (index, density) in itertools.product(
                    ("ticket", *controls), enumerate(densities(values))
                ):
                    if control != "ticket" and index == 0:
                        continue
                    figure = score(values, seed, control, density)
                    if figure is None:
                        continue
                    rounds.append(
                        head
                        | {
                            "round": index,
                            "control": control,
                            "lineage_mode": "own" if control == "ticket" else "branch",
                            "draw": 0,
                            "density": density,
                            "prunable": prunable(values),
                            "kept": round(density * prunable(values)),
                            "metric": metric,
                            "score": figure,
                            "loss": 1 - figure,
                            "supermask_score": None,
                            "steps": steps(values),
                        }
                        | columns
                    )
        self.put(name, "lineages", pd.DataFrame(lineages))
        self.put(name, "rounds", pd.DataFrame(rounds).astype({"supermask_score": "float64"}))

    def put_layers(
        self, layers: Mapping[str, tuple[int, int]], kept: Kept, *, name: str = "study"
    ) -> None:
        """What the rounds leave of each layer (its weights, multiply-adds a weight)."""
        rounds = self.load(name).rounds
        rows = [
            {
                **{column: row[column] for column in IDS},
                "layer": layer,
                "prunable": size,
                "kept": kept(row, layer, size),
                "flops_kept": kept(row, layer, size) * uses,
            }
            for row in rounds.to_dict("records")
            for layer, (size, uses) in layers.items()
        ]
        self.put(name, "layers", pd.DataFrame(rows))

    def put(self, name: str, table: str, rows: pd.DataFrame) -> None:
        path = self.store / "sweeps" / name / f"{table}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), path)

    def load(self, *names: str) -> Frame:
        return load(*(names or ("study",)), store=str(self.store))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "a store's place")
