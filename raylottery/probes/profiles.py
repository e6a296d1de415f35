"""How a mask spreads what it keeps over the layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raylottery.probes.finished import FinishedRounds
from raylottery.probes.networks import PerNetwork
from raylottery.trainers.survey import survey


def rows(found: FinishedRounds) -> Iterator[dict[str, Any]]:
    names = PerNetwork(lambda study: survey(study).layers.names)
    for finished, layers in found.layers(found.masked):
        total = sum(layer["kept"] for layer in layers.values())
        for index, name in enumerate(names.of(finished.study)):
            layer = layers[name]
            yield {
                **finished.control_head(),
                "layer": name,
                "index": index,
                "prunable": layer["prunable"],
                "kept": layer["kept"],
                "layer_density": layer["density"],
                "share_of_kept": layer["kept"] / total,
                "relative": layer["density"] / finished.density,
            }
