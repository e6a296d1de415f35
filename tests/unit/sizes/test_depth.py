"""What is foretold of each round is what pruning then leaves, whatever the scores."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.pruning import SCOPES, Masks
from raylottery.sizes.counts import layer_rates
from raylottery.sizes.depth import kept_by_round
from raylottery.sizes.prunable import Prunable, fits, losing
from raylottery.spec import Prune


shapes = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=1, max_size=4)


@pytest.mark.parametrize("scope", SCOPES)
@given(
    shapes,
    st.floats(0.01, 0.99),
    st.sampled_from(["half", "full"]),
    st.sampled_from([None, 0.0, 0.1]),
    st.sampled_from([("*",), ("l0",), ("l*",), ("l[12]", "l0.*", "l0")]),
    st.integers(0, 2**31 - 1),
)
@settings(deadline=None, max_examples=60)
def test_the_counts_of_every_scope_are_foretold(scope, dims, fraction, output, conv, only, seed):
    """Of what loses weights: the others stay whole, and what is foretold does not count them."""
    layers = {f"l{i}": tuple(shape) for i, shape in enumerate(dims)}
    names = tuple(layers)
    parts = Prunable(names=names, output=names[-1:], convolutions=names[: len(names) // 2])
    only = tuple(pattern for pattern in only if any(fits(name, pattern) for name in names))
    how = Prune(scope=scope, fraction=fraction, rounds=1, output=output, conv=conv, only=only)
    generator = torch.Generator().manual_seed(seed)
    masks = Masks(
        {name: torch.ones(layers[name], dtype=torch.bool) for name in losing(only, parts)}
    )
    for foretold in islice(kept_by_round(how, layers, parts), 12):
        assert foretold == masks.kept
        scores = {name: torch.rand(shape, generator=generator) for name, shape in layers.items()}
        masks = SCOPES[scope](scores, masks, fraction, layer_rates(how, parts))


@pytest.mark.parametrize(
    ("scope", "kept"),
    [
        ("global", [600, 300, 150, 75]),
        ("erk", [600, 300, 150, 75]),
        ("layerwise", [480 + 120, 240 + 90, 120 + 68, 60 + 51]),
    ],
)
def test_the_counts_of_a_network_by_hand(scope, kept):
    """Half of the weights go each round; of the output layer's, under layerwise, a fourth."""
    layers = {"0.weight": (12, 40), "2.weight": (10, 12)}
    parts = Prunable(names=tuple(layers), output=("2.weight",), convolutions=())
    how = Prune(scope=scope, fraction=0.5, rounds=1)
    assert list(islice(kept_by_round(how, layers, parts), 4)) == kept


@pytest.mark.parametrize("scope", SCOPES)
def test_what_stays_whole_is_not_counted(scope):
    layers = {"0.weight": (12, 40), "2.weight": (10, 12)}
    parts = Prunable(names=tuple(layers), output=("2.weight",), convolutions=())
    how = Prune(scope=scope, fraction=0.5, rounds=1, only=("0",))
    assert list(islice(kept_by_round(how, layers, parts), 4)) == [480, 240, 120, 60]
