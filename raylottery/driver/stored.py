"""Sweeps as the store remembers them."""

from __future__ import annotations

from raylottery.driver.plan import Plan, make_plan
from raylottery.errors import NotFoundError, did_you_mean
from raylottery.spec import parse_sweep
from raylottery.store import Store, layout


def stored_plan(name: str, store: Store) -> Plan:
    """The plan of a sweep that was run before, from its own folder."""
    names = store.sweeps()
    if name not in names:
        hint = did_you_mean(name, names) or "It has none yet."
        raise NotFoundError(f"no sweep {name!r} in {store.uri}. {hint}")
    path = layout.sweep_file(name)
    sweep = parse_sweep(store.files.read(path).decode(), file=f"{store.uri}/{path}")
    return make_plan(sweep, store)
