"""How much smaller a ticket is: parameters, and multiply-adds for one example."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from raylottery.probes.finished import FinishedRounds
from raylottery.probes.networks import PerNetwork, input_shape, network
from raylottery.spec import Sweep
from raylottery.trainers.positions import positions


class Size(NamedTuple):
    """Of a whole network."""

    params: int
    macs: int
    uses: Mapping[str, int]
    """How often each weight of a product is used for one example."""


def rows(found: FinishedRounds) -> Iterator[dict[str, Any]]:
    sizes = PerNetwork(size_of)
    for finished, layers in found.layers(found.rounds):
        whole, own = sizes.of(finished.lineage.arm.study), sizes.of(finished.study)
        gone = {name: layer["prunable"] - layer["kept"] for name, layer in layers.items()}
        params = own.params - sum(gone.values())
        macs = own.macs - sum(own.uses.get(name, 0) * count for name, count in gone.items())
        yield {
            **finished.control_head(),
            "params": whole.params,
            "params_kept": params,
            "compression": whole.params / params,
            "macs": whole.macs,
            "macs_kept": macs,
            "speedup": whole.macs / macs if macs else None,
        }


def size_of(study: Sweep) -> Size:
    """The size of a study's network before anything is pruned."""
    net = network(study.trainer)
    uses = positions(net, input_shape(study.trainer))
    counts = {name: parameter.numel() for name, parameter in net.named_parameters()}
    # Biases and norms are added and scaled, but multiply-adds are the products' alone.
    products = {name for name, parameter in net.named_parameters() if parameter.dim() > 1}
    return Size(
        params=sum(counts.values()),
        macs=sum(counts[name] * uses[name] for name in products),
        uses={name: uses[name] for name in products},
    )
