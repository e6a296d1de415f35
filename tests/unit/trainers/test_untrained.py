"""The untrained network: gradients that scores at initialisation are made of."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional

from raylottery.errors import TrainingError
from raylottery.pruning import SCORES, Masks
from raylottery.pruning.scores import Evidence
from raylottery.spec import ClassifierTrainer, DQNTrainer, parse_sweep
from raylottery.trainers import make_trainer
from raylottery.trainers.classifier import data
from raylottery.trainers.classifier.loop import Batches
from raylottery.trainers.untrained import TEMPERATURE, UntrainedNet


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
    assert isinstance(net.spec, ClassifierTrainer)
    x, y = Batches(data.load(net.spec, "cpu"), net.spec, 3).at(0)
    gradients = net.loss_gradients()
    losses = []
    for step in (0.0, 0.1):
        moved = {name: w - step * gradients[name] for name, w in net.weights.items()}
        net.built[0].load_state_dict(moved)
        losses.append(torch.nn.functional.cross_entropy(net.built[0](x), y).item())
    assert losses[1] < losses[0]


def in_double(net: UntrainedNet, names: list[str]):
    """The loss that GraSP looks at, in double precision, as a function of some weights in a row;
    and these."""
    assert isinstance(net.spec, ClassifierTrainer)
    x, y = Batches(data.load(net.spec, "cpu"), net.spec, net.data_seed).at(0)
    weights = {name: weight.double() for name, weight in net.weights.items()}
    sizes = [weights[name].numel() for name in names]
    built = net.built[0].double().train()

    def loss(row: torch.Tensor) -> torch.Tensor:
        parts = zip(names, row.split(sizes), strict=True)
        chosen = {name: part.view_as(weights[name]) for name, part in parts}
        outputs = functional_call(built, weights | chosen, x.double())
        return functional.cross_entropy(outputs / TEMPERATURE, y)

    return loss, torch.cat([weights[name].flatten() for name in names])


SMALL = {
    "mlp": CLASSIFIER.replace("MODEL", "mlp-3-2"),
    "residual-mlp": CLASSIFIER.replace("MODEL", "residual-mlp-2-2"),
    "batch norm": IMAGES.replace("MODEL", "cnn-1-1").replace("100", "10"),
}


@pytest.mark.parametrize("text", SMALL.values(), ids=SMALL)
def test_the_gradient_of_the_norm_is_the_explicit_hessian_times_the_gradient(text):
    """Of the prunable weights alone."""
    net = untrained(text)
    names = [name for name, weight in net.weights.items() if weight.ndim > 1]
    found = net.norm_gradients(names)
    loss, row = in_double(net, names)
    slope = torch.autograd.functional.jacobian(loss, row)
    expected = torch.autograd.functional.hessian(loss, row) @ slope
    assert [*found] == names
    ours = torch.cat([found[name].flatten() for name in names]).double()
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_the_gradient_shrinks_least_without_the_weights_that_grasp_prunes_first():
    """Each weight is taken away a little, in double precision."""
    net = untrained(SMALL["mlp"])
    names = [name for name, weight in net.weights.items() if weight.ndim > 1]
    seen = Evidence(
        trained={name: net.weights[name] for name in names},
        masks=Masks.dense(net.weights, names),
        seed=0,
        untrained=net,
    )
    scores = torch.cat([score.flatten() for score in SCORES["grasp"](seen).values()]).double()
    loss, row = in_double(net, names)

    def norm(row: torch.Tensor) -> torch.Tensor:
        return torch.func.grad(loss)(row).square().sum() / 2

    less = 1e-4
    lost = norm(row) - torch.func.vmap(norm)(row * (1 - less * torch.eye(len(row))))
    largest = float(scores.abs().max())
    torch.testing.assert_close(lost / less, scores, rtol=0.01, atol=1e-3 * largest)
    assert float(scores.min()) < -0.1 * largest  # some are worth less than nothing


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_looking_leaves_no_trace(text):
    net = untrained(text)
    before = {name: weight.clone() for name, weight in net.weights.items()}
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    net.flow_gradients({n: w.double().abs() if w.is_floating_point() else w
                        for n, w in net.weights.items()})  # fmt: skip
    if isinstance(net.spec, ClassifierTrainer):
        net.loss_gradients()
        net.norm_gradients([name for name, weight in net.weights.items() if weight.ndim > 1])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert all(torch.equal(w, before[name]) for name, w in net.weights.items())


def test_a_network_that_wants_single_precision_is_refused():
    net = untrained(IMAGES.replace("MODEL", "'tests.networks:single'"))
    absolute = {n: w.double().abs() for n, w in net.weights.items() if w.is_floating_point()}
    with pytest.raises(TrainingError, match=r"synflow cannot be worked out for tests\.networks"):
        net.flow_gradients(absolute)
