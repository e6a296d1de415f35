"""The compiled kernel: forward, backward and optimizer of small networks, for survivors alone.

It stands on Numba and numpy. `network` is the way in; `packing` decides which layer takes which
path, `dense` and `sparse` are the paths, and compiled loops call `passes`, `losses` and
`optimizers` with the same arrays as `network` does.

A network's floats follow from its weights, masks and batches alone: not from threads, alignment or
what else is trained at the same time. Another kind of processor may round otherwise.
"""

from raylottery.kernel.network import Network, Room
from raylottery.kernel.optimizers import Rule, adam, sgd
from raylottery.kernel.packing import PROTOCOL, Layer


__all__ = ["PROTOCOL", "Layer", "Network", "Room", "Rule", "adam", "sgd"]
