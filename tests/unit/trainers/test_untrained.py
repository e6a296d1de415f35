"""The untrained network: gradients that scores at initialisation are made of."""

from __future__ import annotations

import pytest
import torch

from raylottery.errors import TrainingError
from raylottery.spec import ClassifierTrainer, DQNTrainer, parse_sweep
from raylottery.trainers import make_trainer
from raylottery.trainers.untrained import UntrainedNet


CLASSIFIER = """
name: untrained
trainer: {kind: classifier, dataset: mnist1d, model: MODEL, length: 1ep, batch_size: 100, lr: 0.01}
prune: {fraction: 0.5, rounds: 1}
seeds: [0]
"""
IMAGES = CLASSIFIER.replace("mnist1d", "cifar-like, examples: 300").replace("1ep", "20ep")
AGENT = """
name: untrained
trainer: {kind: dqn, env: CartPole-v1, hidden: [8, 8], length: 2000ts}
prune: {fraction: 0.5, rounds: 1}
seeds: [0]
"""


def untrained(text: str, data_seed: int = 3) -> UntrainedNet:
    study = parse_sweep(text)
    assert isinstance(study.trainer, ClassifierTrainer | DQNTrainer)
    initial = make_trainer(study, gpu=False).initial(0)
    return UntrainedNet(study.trainer, initial, data_seed)


TEXTS = {
    "residual-mlp": CLASSIFIER.replace("MODEL", "residual-mlp-12-12"),
    "batch norm": IMAGES.replace("MODEL", "cnn-4-8"),
    "agent": AGENT,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_scores_of_the_last_layer_add_up_to_the_flow(text):
    """All that comes out has come through the last layer: its scores add up to the flow."""
    net = untrained(text)
    absolute = {
        name: weight.double().abs() if weight.is_floating_point() else weight
        for name, weight in net.weights.items()
    }
    gradients = net.flow_gradients(absolute)
    assert all(g.dtype == torch.float64 and bool((g >= 0).all()) for g in gradients.values())
    shape, built = net.built[1], net.built[0].eval().double()
    built.load_state_dict(absolute)
    flow = built(torch.ones((1, *shape), dtype=torch.float64)).sum()
    last = [name for name in gradients if name.endswith("weight")][-1].rpartition(".")[0]
    through = sum(
        (absolute[f"{last}.{part}"] * gradients[f"{last}.{part}"]).sum()
        for part in ("weight", "bias")
    )
    torch.testing.assert_close(through, flow.detach())


def test_the_gradient_of_the_loss_is_that_of_the_first_batch_of_the_dense_round():
    one, same, other = (untrained(TEXTS["residual-mlp"], seed) for seed in (3, 3, 4))
    gradients = one.loss_gradients()
    assert gradients.keys() == one.weights.keys()
    assert all(torch.equal(g, same.loss_gradients()[name]) for name, g in gradients.items())
    assert not torch.equal(gradients["last.weight"], other.loss_gradients()["last.weight"])


def test_a_step_against_the_gradient_lowers_the_loss_of_that_batch():
    net = untrained(TEXTS["residual-mlp"])
    from raylottery.trainers.classifier import data
    from raylottery.trainers.classifier.loop import Batches

    assert isinstance(net.spec, ClassifierTrainer)
    x, y = Batches(data.load(net.spec, "cpu"), net.spec, 3).at(0)
    gradients = net.loss_gradients()
    losses = []
    for step in (0.0, 0.1):
        moved = {name: w - step * gradients[name] for name, w in net.weights.items()}
        net.built[0].load_state_dict(moved)
        losses.append(torch.nn.functional.cross_entropy(net.built[0](x), y).item())
    assert losses[1] < losses[0]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_looking_leaves_no_trace(text):
    net = untrained(text)
    before = {name: weight.clone() for name, weight in net.weights.items()}
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    net.flow_gradients({n: w.double().abs() if w.is_floating_point() else w
                        for n, w in net.weights.items()})  # fmt: skip
    if isinstance(net.spec, ClassifierTrainer):
        net.loss_gradients()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert all(torch.equal(w, before[name]) for name, w in net.weights.items())


def test_a_network_that_wants_single_precision_is_refused():
    net = untrained(IMAGES.replace("MODEL", "'tests.networks:single'"))
    absolute = {n: w.double().abs() for n, w in net.weights.items() if w.is_floating_point()}
    with pytest.raises(TrainingError, match=r"synflow cannot be worked out for tests\.networks"):
        net.flow_gradients(absolute)
