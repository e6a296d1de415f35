"""The Q-networks: what they are made of, and what they make of an observation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raylottery.errors import UsageError
from raylottery.spec.dqn import DQNTrainer
from raylottery.spec.extent import Extent
from raylottery.trainers.dqn.envs import EnvSpaces
from raylottery.trainers.dqn.nets import OBS_CLIP, SMALLEST, build, positions


VECTOR = EnvSpaces((4,), "float32", 2)
MINATAR = EnvSpaces((4, 10, 10), "float32", 3)
ATARI = EnvSpaces((4, 84, 84), "uint8", 6)
YU = EnvSpaces((4, 52, 40), "uint8", 6)


def trainer(**fields) -> DQNTrainer:
    return DQNTrainer(kind="dqn", env="CartPole-v1", length=Extent.parse("2000ts"), **fields)


def net(space: EnvSpaces = VECTOR, **fields):
    torch.manual_seed(0)
    return build(trainer(**fields), space)


def shapes(network) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(p.shape) for name, p in network.named_parameters() if name.endswith("weight")
    }


def size(network) -> int:
    return sum(p.numel() for p in network.parameters())


def observations(space: EnvSpaces, count: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if space.dtype == "uint8":
        return torch.randint(0, 256, (count, *space.shape), dtype=torch.uint8, generator=generator)
    return torch.randn(count, *space.shape, generator=generator)


def test_an_mlp_has_its_names_shapes_and_size():
    network = net(hidden=(128, 64))
    assert shapes(network) == {
        "body.0.weight": (128, 4),
        "body.2.weight": (64, 128),
        "head.weight": (2, 64),
    }
    assert size(network) == (4 + 1) * 128 + (128 + 1) * 64 + (64 + 1) * 2
    assert all(
        name.replace("weight", "bias") in dict(network.named_parameters())
        for name in shapes(network)
    )


def test_the_minatar_network_has_its_names_shapes_and_size():
    network = net(MINATAR, model="minatar")
    assert shapes(network) == {
        "body.0.weight": (16, 4, 3, 3),
        "body.3.weight": (128, 1024),
        "head.weight": (3, 128),
    }
    assert size(network) == 592 + 131_200 + 387


def test_the_nature_network_has_its_names_shapes_and_size():
    network = net(ATARI, model="nature")
    assert shapes(network) == {
        "body.0.weight": (32, 4, 8, 8),
        "body.2.weight": (64, 32, 4, 4),
        "body.4.weight": (64, 64, 3, 3),
        "body.7.weight": (512, 3136),
        "head.weight": (6, 512),
    }
    assert size(network) == 8224 + 32_832 + 36_928 + 1_606_144 + 3078


def test_the_yu2020_network_makes_1920_features_of_a_frame():
    network = net(YU, model="yu2020")
    assert shapes(network) == {
        "body.0.weight": (64, 4, 5, 5),
        "body.3.weight": (64, 64, 5, 5),
        "body.6.weight": (64, 64, 3, 3),
        "body.9.weight": (64, 64, 3, 3),
        "body.12.weight": (512, 1920),
        "body.14.weight": (512, 512),
        "head.weight": (6, 512),
    }
    assert size(network) == 6464 + 102_464 + 2 * 36_928 + 983_552 + 262_656 + 3078


def test_dueling_puts_two_streams_in_place_of_the_head():
    names = shapes(net(dueling=True))
    assert names["value.weight"] == (1, 128)
    assert names["advantage.weight"] == (2, 128)
    assert "head.weight" not in names


def test_atoms_widen_the_outputs():
    assert shapes(net(atoms=51))["head.weight"] == (2 * 51, 128)
    names = shapes(net(atoms=51, dueling=True))
    assert (names["value.weight"], names["advantage.weight"]) == ((51, 128), (2 * 51, 128))


def test_hidden_replaces_the_dense_widths_of_any_model():
    network = net(MINATAR, model="minatar", hidden=(32, 16))
    assert shapes(network)["body.3.weight"] == (32, 1024)
    assert shapes(network)["head.weight"] == (3, 16)


@pytest.mark.parametrize(
    ("model", "space"),
    [("mlp", VECTOR), ("mlp", MINATAR), ("minatar", MINATAR), ("nature", ATARI), ("yu2020", YU)],
)
@pytest.mark.parametrize(
    "fields", [{}, {"dueling": True}, {"atoms": 7}, {"atoms": 7, "dueling": True}]
)
def test_every_model_gives_a_value_for_every_action(model, space, fields):
    network = net(space, model=model, **fields)
    obs = observations(space)
    values = network(obs)
    assert values.shape == (5, space.actions)
    assert values.dtype == torch.float32
    assert network.distribution(obs).shape == (5, space.actions, fields.get("atoms", 1))


def test_the_same_seed_initialises_the_same_network():
    first, second = net(dueling=True), net(dueling=True)
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_a_network_can_be_laid_out_without_weights():
    with torch.device("meta"):
        skeleton = net(YU, model="yu2020")
    assert shapes(skeleton) == shapes(net(YU, model="yu2020"))
    assert positions(skeleton, YU) == positions(net(YU, model="yu2020"), YU)


def test_the_state_is_the_parameters_alone_unless_observations_are_normalised():
    network = net(atoms=51)
    assert set(network.state_dict()) == dict(network.named_parameters()).keys()
    normalising = net(normalise=True)
    assert set(normalising.state_dict()) - dict(normalising.named_parameters()).keys() == {
        "obs_mean",
        "obs_var",
        "obs_count",
    }


def test_dueling_values_are_the_value_plus_advantages_less_their_mean():
    network = net(dueling=True)
    obs = observations(VECTOR)
    features = network.body(obs)
    advantage = network.advantage(features)
    expected = network.value(features) + advantage - advantage.mean(dim=1, keepdim=True)
    torch.testing.assert_close(network(obs), expected)


def test_a_shift_of_all_advantages_changes_no_value():
    network = net(dueling=True)
    obs = observations(VECTOR)
    before = network(obs)
    with torch.no_grad():
        network.advantage.bias += 100
    torch.testing.assert_close(network(obs), before, atol=1e-4, rtol=0)
    with torch.no_grad():
        network.value.bias += 100
    torch.testing.assert_close(network(obs), before + 100, atol=1e-4, rtol=0)


def test_a_dueling_distribution_removes_the_mean_advantage_of_each_atom():
    network = net(dueling=True, atoms=7)
    obs = observations(VECTOR)
    value = network.value(network.body(obs))
    torch.testing.assert_close(network.distribution(obs).mean(dim=1), value)


def test_a_distribution_with_all_its_mass_on_an_atom_is_worth_that_atom():
    network = net(atoms=51, value_range=10.0)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.fill_(-100)
        network.head.bias[0] = 100  # the first atom of the first action
        network.head.bias[51 + 30] = 100  # the 31st of the second
    torch.testing.assert_close(network(observations(VECTOR)), torch.tensor([[-10.0, 2.0]] * 5))


def test_the_value_is_the_expectation_over_the_support():
    network = net(atoms=11, value_range=5.0)
    obs = observations(VECTOR)
    logits = network.distribution(obs).detach().double().numpy()
    mass = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = (mass * np.linspace(-5, 5, 11)).sum(axis=-1)
    np.testing.assert_allclose(network(obs).detach().numpy(), expected, atol=1e-5)
    assert torch.equal(network(obs), network.expectation(network.distribution(obs)))


def test_bytes_are_scaled_and_floats_are_not():
    network = net(ATARI, model="nature")
    obs = observations(ATARI)
    torch.testing.assert_close(network(obs), network(obs.float() / 255))
    assert not torch.allclose(network(obs), network(obs.float()))


def test_a_normaliser_that_saw_nothing_changes_nothing():
    network = net(normalise=True)
    obs = observations(VECTOR) * 1000
    assert torch.equal(network.prepared(obs), obs), "not even what is out of bounds"


def moments(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    return batch.mean(axis=0), batch.var(axis=0), len(batch)


def test_merged_moments_are_those_of_all_observations_together():
    network = net(normalise=True)
    rng = np.random.default_rng(0)
    batches = [
        rng.normal(loc, scale, (n, 4)) for loc, scale, n in [(1, 2, 7), (-50, 0.1, 1), (3, 9, 400)]
    ]
    for batch in batches:
        network.observe(*moments(batch))
    mean, var, count = moments(np.concatenate(batches))
    assert network.obs_count == count
    np.testing.assert_allclose(network.obs_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(network.obs_var, var, rtol=1e-12)


def test_normalised_observations_have_mean_0_and_spread_1():
    network = net(normalise=True)
    obs = observations(VECTOR, 1000) * torch.tensor([1e-2, 1, 10, 1000]) + 5
    network.observe(*moments(obs.double().numpy()))
    prepared = network.prepared(obs)
    assert prepared.dtype == torch.float32
    torch.testing.assert_close(prepared.mean(dim=0), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(prepared.std(dim=0), torch.ones(4), atol=2e-3, rtol=0)
    assert torch.equal(network(obs), network.head(network.body(prepared)).view(-1, VECTOR.actions))


def test_outliers_are_clipped_and_constant_inputs_stay_finite():
    network = net(normalise=True)
    network.observe(np.full(4, 3.0), np.zeros(4), 10)
    obs = torch.tensor([[3.0, 4.0, -1e9, 3.0]])
    assert torch.equal(network.prepared(obs), torch.tensor([[0.0, OBS_CLIP, -OBS_CLIP, 0.0]]))


def test_moments_of_bytes_are_taken_as_the_environment_delivers_them():
    network = net(YU, model="yu2020", normalise=True)
    obs = observations(YU, 50)
    network.observe(*moments(obs.double().numpy()))
    mean, var, _ = moments(obs.double().numpy() / 255)
    np.testing.assert_allclose(network.obs_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(network.obs_var, var, rtol=1e-12)


def test_moments_come_back_with_the_state():
    network, other = net(normalise=True), net(normalise=True)
    network.observe(np.arange(4.0), np.arange(1.0, 5.0), 8)
    other.load_state_dict(network.state_dict(), strict=True)
    obs = observations(VECTOR)
    assert torch.equal(network(obs), other(obs))


@pytest.mark.parametrize(
    ("model", "space", "pixels"),
    [
        ("mlp", VECTOR, {}),
        ("minatar", MINATAR, {"body.0": 8 * 8}),
        ("nature", ATARI, {"body.0": 20 * 20, "body.2": 9 * 9, "body.4": 7 * 7}),
        (
            "yu2020",
            YU,
            {"body.0": 52 * 40, "body.3": 26 * 20, "body.6": 13 * 10, "body.9": 6 * 5},
        ),
    ],
)
def test_a_convolution_is_used_at_each_pixel_of_its_output_and_all_else_once(model, space, pixels):
    network = net(space, model=model, dueling=True)
    expected = {name: pixels.get(name[:6], 1) for name, _ in network.named_parameters()}
    assert positions(network, space) == expected


@pytest.mark.parametrize("model", SMALLEST)
def test_frames_below_the_smallest_are_refused_and_the_smallest_is_not(model):
    side = SMALLEST[model]
    least = EnvSpaces((1, side, side + 1), "float32", 2)
    assert net(least, model=model)(observations(least)).shape == (5, 2)
    with pytest.raises(UsageError, match=rf"{model} needs frames of at least {side} by {side}"):
        net(EnvSpaces((1, side - 1, side + 1), "float32", 2), model=model)


def test_a_refusal_of_small_frames_names_the_models_that_fit():
    with pytest.raises(UsageError, match="Say model: mlp or minatar or yu2020"):
        net(MINATAR, model="nature")
