"""A prune step: scores and scope together, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from raylottery.errors import TrainingError
from raylottery.pruning import SCORES, Masks, prunable, prune
from raylottery.pruning.scores import Evidence
from raylottery.sizes.prunable import Prunable
from raylottery.spec.sweep import Prune
from tests.unit.pruning.beginnings import Beginning


SCOPES = ["global", "layerwise", "erk"]


def mlp(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(12, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 10), nn.Linear(10, 4)
        )


def start(net: nn.Module, biases: bool = False) -> tuple[dict[str, torch.Tensor], Masks, Prunable]:
    weights = dict(net.state_dict())
    targets = prunable(net, biases=biases)
    return weights, Masks.dense(weights, targets.names), targets


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("biases", [False, True])
def test_scopes_prune_the_same_parameter_set(scope, biases):
    """A peer compared scopes of which one pruned biases and the other did not."""
    net = mlp()
    weights, masks, targets = start(net, biases)
    pruned = prune(weights, masks, Prune(scope=scope, fraction=0.5, rounds=1), targets, seed=0)
    assert tuple(pruned) == targets.names == tuple(masks)
    assert pruned.prunable == (480 + 34 + 40 if biases else 480)
    assert ("0.bias" in pruned) == biases
    assert ("1.weight" in pruned) == biases


@settings(deadline=None, max_examples=40)
@given(
    scope=st.sampled_from(["global", "erk"]),
    score=st.sampled_from(["magnitude", "random"]),
    fraction=st.floats(0.05, 0.6),
    rounds=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_density_follows_the_exact_recurrence(scope, score, fraction, rounds, seed):
    weights, masks, targets = start(mlp(seed))
    how = Prune(scope=scope, score=score, fraction=fraction, rounds=rounds)
    kept = masks.kept
    for index in range(rounds):
        if round(fraction * kept) in (0, kept):
            break
        before, masks = masks, prune(weights, masks, how, targets, seed=index)
        kept -= round(fraction * kept)
        assert masks.kept == kept
        assert masks.nested_in(before)


def test_the_output_layer_is_pruned_at_half_the_rate_unless_asked():
    weights, masks, targets = start(mlp())
    half = prune(weights, masks, Prune(scope="layerwise", fraction=0.5, rounds=1), targets, seed=0)
    assert [int(mask.sum()) for mask in half.values()] == [120, 100, 30]
    how = Prune(scope="layerwise", fraction=0.5, rounds=1, output="full")
    full = prune(weights, masks, how, targets, seed=0)
    assert [int(mask.sum()) for mask in full.values()] == [120, 100, 20]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"scope": "layerwise"}, [128, 160, 90]),
        ({"scope": "layerwise", "conv": 0.1}, [144, 160, 90]),
        ({"scope": "layerwise", "conv": 0.0}, [160, 160, 90]),
        ({"scope": "layerwise", "conv": 0.1, "output": "full"}, [144, 160, 80]),
        ({"scope": "erk"}, None),
        ({"scope": "global"}, None),
    ],
)
def test_convolutions_may_lose_another_share_under_layerwise_alone(fields, kept):
    """As Conv-2 is pruned: a tenth of convolutions, a fifth of linear layers, half that of the
    output."""
    net = nn.Sequential(nn.Conv2d(1, 10, 4), nn.Flatten(), nn.Linear(10, 20), nn.Linear(20, 5))
    weights, masks, targets = start(net)
    pruned = prune(weights, masks, Prune(fraction=0.2, rounds=1, **fields), targets, seed=0)
    if kept is None:
        how = Prune(fraction=0.2, rounds=1, conv=0.0, **fields)
        assert prune(weights, masks, how, targets, seed=0) == pruned
    else:
        assert [int(mask.sum()) for mask in pruned.values()] == kept
        assert pruned.prunable == 160 + 200 + 100, "what stays dense is prunable all the same"


def test_a_convolution_that_is_the_output_loses_half_of_what_convolutions_do():
    net = nn.Sequential(nn.Conv2d(2, 10, 1), nn.Conv2d(10, 4, 1))
    weights, masks, targets = start(net)
    how = Prune(scope="layerwise", fraction=0.5, conv=0.2, rounds=1)
    pruned = prune(weights, masks, how, targets, seed=0)
    assert [int(mask.sum()) for mask in pruned.values()] == [16, 36]


@pytest.mark.parametrize("scope", SCOPES)
def test_what_is_excluded_is_counted_by_no_scope(scope):
    """The share is taken of the rest; a peer counted the excluded ones, and pruned too much."""
    net = mlp()
    weights, targets = dict(net.state_dict()), prunable(net, exclude=["4"])
    masks = Masks.dense(weights, targets.names)
    how = Prune(scope=scope, fraction=0.2, rounds=1)
    pruned = prune(weights, masks, how, targets, seed=0)
    assert tuple(pruned) == ("0.weight", "3.weight")
    assert (pruned.kept, pruned.prunable) == (440 - 88, 440)


@pytest.mark.parametrize("scope", SCOPES)
def test_what_is_not_chosen_to_lose_weights_stays_whole_and_is_counted_by_no_scope(scope):
    """The share is taken of the chosen layers; the others are in the mask, and whole."""
    net = mlp()
    weights, masks, targets = start(net)
    how = Prune(scope=scope, fraction=0.2, rounds=1, only=("0", "3.*"))
    pruned = prune(weights, masks, how, targets, seed=0)
    assert tuple(pruned) == targets.names
    assert (pruned.kept, pruned.prunable) == (480 - 88, 480)
    assert pruned["4.weight"].all()
    excluding, fewer = prunable(net, exclude=["4"]), Prune(scope=scope, fraction=0.2, rounds=1)
    alike = prune(weights, Masks.dense(weights, excluding.names), fewer, excluding, seed=0)
    assert {name: mask.tolist() for name, mask in alike.items()} == {
        name: pruned[name].tolist() for name in ("0.weight", "3.weight")
    }


@pytest.mark.parametrize("scope", SCOPES)
def test_the_chosen_layers_go_on_losing_round_after_round(scope):
    weights, masks, targets = start(mlp())
    how = Prune(scope=scope, fraction=0.5, rounds=3, only=("3",))
    for kept in (100, 50, 25):
        before, masks = masks, prune(weights, masks, how, targets, seed=0)
        assert masks.nested_in(before)
        assert [int(mask.sum()) for mask in masks.values()] == [240, kept, 40]


def test_what_was_lost_before_stays_lost_where_another_layer_is_chosen():
    """A mask that is there is never filled up again by what a round does not prune."""
    weights, masks, targets = start(mlp())
    first = prune(weights, masks, Prune(fraction=0.5, rounds=1, only=("0",)), targets, seed=0)
    second = prune(weights, first, Prune(fraction=0.5, rounds=1, only=("3",)), targets, seed=0)
    assert [int(mask.sum()) for mask in second.values()] == [120, 100, 40]
    assert torch.equal(second["0.weight"], first["0.weight"])


def test_a_chosen_output_layer_still_loses_half_of_what_others_do():
    weights, masks, targets = start(mlp())
    how = Prune(scope="layerwise", fraction=0.5, rounds=1, only=("3", "4"))
    pruned = prune(weights, masks, how, targets, seed=0)
    assert [int(mask.sum()) for mask in pruned.values()] == [240, 100, 30]


def test_a_step_that_leaves_nothing_of_what_is_chosen_is_refused():
    """However much is left in all."""
    weights, masks, targets = start(mlp())
    message = "would leave none of the 40 surviving weights"
    with pytest.raises(TrainingError, match=message):
        prune(weights, masks, Prune(fraction=0.99, rounds=1, only=("4",)), targets, seed=0)
    with pytest.raises(TrainingError, match="would prune none of the 40 surviving weights"):
        prune(weights, masks, Prune(fraction=0.01, rounds=1, only=("4",)), targets, seed=0)


def test_magnitude_prunes_negative_weights_by_their_size():
    weights = {"weight": torch.tensor([[-5.0, 1.0, -0.5, 2.0]])}
    targets = Prunable(names=("weight",), output=("weight",), convolutions=())
    masks = Masks.dense(weights, targets.names)
    pruned = prune(weights, masks, Prune(fraction=0.5, rounds=1), targets, seed=0)
    assert pruned["weight"].tolist() == [[True, False, False, True]]


def test_random_scores_depend_on_the_seed_and_on_nothing_else():
    how = Prune(score="random", fraction=0.5, rounds=1)
    weights, masks, targets = start(mlp(seed=1))
    one = prune(weights, masks, how, targets, seed=7)
    torch.manual_seed(99)
    assert prune(dict(mlp(seed=2).state_dict()), masks, how, targets, seed=7) == one
    assert prune(weights, masks, how, targets, seed=8) != one
    state = torch.get_rng_state()
    SCORES["random"](Evidence(trained=weights, masks=masks, seed=7))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("score", SCORES)
def test_the_order_in_which_masks_come_back_from_a_file_changes_nothing(score):
    """Formats sort names; in the global scope the order of layers decides ties."""
    weights, masks, targets = start(mlp())
    weights = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    how = Prune(score=score, fraction=0.3, rounds=1)
    shuffled = Masks({name: masks[name] for name in reversed(targets.names)})
    beginning = Beginning(weights)
    pruned = prune(weights, shuffled, how, targets, 3, beginning)
    assert pruned == prune(weights, masks, how, targets, 3, beginning)
    assert tuple(pruned) == targets.names


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("score", SCORES)
def test_weights_that_are_not_finite_are_refused_by_name(value, score):
    weights, masks, targets = start(mlp())
    weights["3.weight"][2, 5] = value
    with pytest.raises(TrainingError, match=r"'3\.weight' are not all finite.*trainer\.lr"):
        prune(weights, masks, Prune(score=score, rounds=1), targets, seed=0)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_step_that_prunes_nothing_is_refused(scope):
    """A silent no-op would make a round that differs from its parent in name alone."""
    weights, masks, targets = start(nn.Linear(2, 1, bias=False))
    with pytest.raises(TrainingError, match="would prune none of the 2 surviving weights"):
        prune(weights, masks, Prune(scope=scope, fraction=0.2, rounds=1), targets, seed=0)


def test_a_step_that_leaves_nothing_is_refused():
    weights, masks, targets = start(nn.Linear(2, 1, bias=False))
    with pytest.raises(TrainingError, match="would leave none of the 2 surviving weights"):
        prune(weights, masks, Prune(fraction=0.9, rounds=1), targets, seed=0)


def test_masks_of_another_parameter_set_are_refused():
    weights, masks, targets = start(mlp())
    fewer = Masks({name: masks[name] for name in targets.names[:-1]})
    with pytest.raises(ValueError, match="not those of the network's prunable parameters"):
        prune(weights, fewer, Prune(rounds=1), targets, seed=0)
