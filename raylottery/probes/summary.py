"""The gist of an analysis, for the terminal: means over seeds, where each arm is sparsest."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import pyarrow as pa


class Shown(NamedTuple):
    """What of a table is shown."""

    by: tuple[str, ...]
    means: tuple[str, ...]


SHOWN = {
    "connectivity": Shown(("arm_label", "other"), ("density", "barrier")),
    "overlap": Shown(("arm_label", "kind"), ("density", "overlap", "chance")),
    "profiles": Shown(("arm_label", "layer"), ("layer_density", "share_of_kept", "relative")),
    "inputs": Shown(("arm_label", "input_kind"), ("density", "fanout", "alive")),
    "dormant": Shown(("arm_label", "layer"), ("units", "dead", "dormant")),
    "size": Shown(("arm_label",), ("density", "compression", "speedup")),
}


def summary(kind: str, table: pa.Table) -> list[dict[str, Any]]:
    """Means of some columns over the tickets of each group's last round, controls left out."""
    shown = SHOWN[kind]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        if row.get("control", "ticket") == "ticket":
            # `replicate:1` is one of the replicates, and `seed:3` of the seeds.
            groups[tuple(row[name].partition(":")[0] for name in shown.by)].append(row)
    return [group_row(shown, names, rows) for names, rows in groups.items()]


def group_row(shown: Shown, names: tuple[str, ...], rows: list[dict[str, Any]]) -> dict[str, Any]:
    last = max(row["round"] for row in rows)
    rows = [row for row in rows if row["round"] == last]
    found: dict[str, Any] = dict(zip(shown.by, names, strict=True))
    found |= {"round": last, "seeds": len({row["seed"] for row in rows})}
    for name in shown.means:
        values = [float(row[name]) for row in rows if row[name] is not None]
        found[name] = sum(values) / len(values) if values else None
    return found
