"""The networks of the papers, of torchvision and of the user: what they are, and are not."""

from __future__ import annotations

import math
from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from raylottery.errors import SpecError, UsageError
from raylottery.pruning import Guard, Masks, apply_mask, prunable, prune
from raylottery.sizes.depth import kept_by_round
from raylottery.sizes.prunable import Prunable
from raylottery.spec import MODELS, ClassifierTrainer, DataSize, Prune, Sweep, parse_sweep
from raylottery.trainers.classifier import nets
from raylottery.trainers.positions import blank
from raylottery.trainers.survey import refuse_too_deep, survey


def study(model: str, dataset: str = "cifar10", initialisation: str = "torch", **how) -> Sweep:
    fields = "".join(f", {name}: {value}" for name, value in how.items())
    return parse_sweep(
        f"name: s\ntrainer: {{kind: classifier, dataset: {dataset}, model: '{model}', "
        f"initialisation: {initialisation}, length: 1ep, batch_size: 64, lr: 0.1}}\n"
        f"prune: {{rounds: 1{fields}}}\nseeds: [0]\n"
    )


def trainer(model: str, dataset: str = "cifar10", initialisation: str = "torch"):
    spec = study(model, dataset, initialisation).trainer
    assert isinstance(spec, ClassifierTrainer)
    return spec


def built(model: str, dataset: str = "cifar10", initialisation: str = "torch", seed: int = 0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nets.build(trainer(model, dataset, initialisation))


def halved(net: nn.Module) -> Masks:
    """Half of each prunable tensor, at random."""
    generator = torch.Generator().manual_seed(1)
    weights = dict(net.named_parameters())
    names = prunable(net).names
    return Masks({n: torch.rand(weights[n].shape, generator=generator) < 0.5 for n in names})


# The papers' networks


def conv_3x3(*widths: int) -> list[int]:
    return [9 * a * b for a, b in pairwise(widths)]


def small_resnet(blocks: int) -> list[int]:
    """In module order: a shortcut comes after the convolutions of its block."""

    def widening(narrow: int, wide: int) -> list[int]:
        more = [wide] * (2 * blocks - 1)
        return [*conv_3x3(narrow, wide, wide), narrow * wide, *conv_3x3(*more)]

    return [*conv_3x3(3, 16, *[16] * 2 * blocks), *widening(16, 32), *widening(32, 64), 640]


LAYERS = {
    ("lenet-300-100", "mnist"): [784 * 300, 300 * 100, 100 * 10],
    ("mlp-300-100", "mnist"): [784 * 300, 300 * 100, 100 * 10],
    ("cnn-32-64-128", "cifar10"): [*conv_3x3(3, 32, 64, 128), 1280],
    ("cnn-8", "mnist"): [*conv_3x3(1, 8), 80],
    ("conv-2", "cifar10"): [*conv_3x3(3, 64, 64), 16 * 16 * 64 * 256, 256 * 256, 2560],
    ("conv-4", "cifar10"): [*conv_3x3(3, 64, 64, 128, 128), 8 * 8 * 128 * 256, 256 * 256, 2560],
    ("conv-6", "cifar10"): [
        *conv_3x3(3, 64, 64, 128, 128, 256, 256), 4 * 4 * 256 * 256, 256 * 256, 2560,
    ],
    ("resnet-20", "cifar10"): small_resnet(3),
    ("resnet-56", "cifar10"): small_resnet(9),
    ("vgg-16", "cifar10"): [
        *conv_3x3(3, 64, 64, 128, 128, *[256] * 3, *[512] * 6), 5120,
    ],
    ("vgg-19", "cifar10"): [
        *conv_3x3(3, 64, 64, 128, 128, *[256] * 4, *[512] * 8), 5120,
    ],
}  # fmt: skip
TOTALS = {
    "lenet-300-100": 266_200,
    "mlp-300-100": 266_200,
    "cnn-32-64-128": 94_304,
    "cnn-8": 152,
    "conv-2": 4_300_992,
    "conv-4": 2_425_024,
    "conv-6": 2_261_184,
    "resnet-20": 270_896,
    "resnet-56": 851_504,
    "vgg-16": 14_715_584,
    "vgg-19": 20_024_000,
}


@pytest.mark.parametrize(("model", "dataset"), LAYERS)
def test_the_weights_of_each_layer_are_the_papers(model, dataset):
    found = survey(study(model, dataset))
    assert list(found.prunable.values()) == LAYERS[model, dataset]
    assert sum(found.prunable.values()) == TOTALS[model]
    assert len(found.layers.output) == 1
    assert found.layers.output[0] == list(found.prunable)[-1]


def test_convolutions_have_the_papers_share():
    """All weights and those of convolutions, as the paper's table rounds them; its 274K of
    ResNet-20 are all numbers of the network, batch norms' statistics included."""
    shares = {}
    for model in ("conv-2", "conv-4", "conv-6", "resnet-20", "vgg-19"):
        found = survey(study(model))
        shares[model] = sum(found.prunable[name] for name in found.layers.convolutions)
    assert shares == {
        "conv-2": 38_592, "conv-4": 259_776, "conv-6": 1_144_512, "resnet-20": 270_256,
        "vgg-19": 20_018_880,
    }  # fmt: skip
    state = nets.skeleton(trainer("resnet-20")).state_dict()
    numbers = sum(t.numel() for name, t in state.items() if "num_batches" not in name)
    assert numbers == 274_042


@pytest.mark.parametrize("model", [*MODELS, "cnn-32-64-128"])
@pytest.mark.parametrize("dataset", ["mnist", "cifar100"])
def test_every_model_takes_images_of_one_channel_and_of_three(model, dataset):
    asked, spec = study(model, dataset), trainer(model, dataset)
    net = nets.skeleton(spec)
    assert all(parameter.is_meta for parameter in net.parameters()), "a plan needs no storage"
    assert net(blank(net, spec.size.shape)).shape == (2, spec.size.classes)
    refuse_too_deep(asked, survey(asked))


@pytest.mark.parametrize("model", ["mlp-16", "residual-mlp-16-16", "lenet-300-100"])
def test_perceptrons_read_images_row_by_row(model):
    net = built(model, "mnist")
    x = torch.randn(5, 1, 28, 28)
    assert torch.equal(net(x), net(x.reshape(5, 784)))


def test_an_mlp_has_the_names_and_first_weights_it_always_had():
    net = built("mlp-300-100", "mnist1d", seed=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        plain = nn.Sequential(
            nn.Linear(40, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
        )
    assert list(net.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(t, net.state_dict()[n]) for n, t in plain.state_dict().items())


def test_residual_mlp_adds_its_hidden_layers():
    net = built("residual-mlp-16-16", "mnist1d")
    assert isinstance(net, nets.ResidualMLP)
    x = torch.randn(5, 40)
    hidden = net.first(x).relu()
    assert torch.equal(net(x), net.last(hidden + net.blocks[0](hidden).relu()))


def test_a_small_convolutional_network_is_made_of_normed_convolutions_that_halve_the_image():
    net = nets.skeleton(trainer("cnn-4-6"))
    features = list(net.get_submodule("features").children())
    kinds = [type(layer).__name__ for layer in features]
    block = ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    assert kinds == [*block, *block, "AdaptiveAvgPool2d"]
    assert list(dict(net.named_parameters())) == [
        *(f"features.{at}.{part}" for at in (0, 1, 4, 5) for part in ("weight", "bias")),
        "classifier.weight", "classifier.bias",
    ]  # fmt: skip
    sides = []
    for layer in features:
        if isinstance(layer, nn.MaxPool2d):
            layer.register_forward_hook(lambda layer, x, y: sides.append(tuple(y.shape[1:])))
    net(blank(net, (3, 32, 32)))
    assert sides == [(4, 16, 16), (6, 8, 8)]


def test_the_last_layer_of_a_small_convolutional_network_reads_the_mean_of_each_channel():
    net = built("cnn-4-6").eval()
    x = torch.randn(3, 3, 32, 32)
    before_the_mean = nn.Sequential(*list(net.get_submodule("features").children())[:-1])(x)
    assert before_the_mean.shape == (3, 6, 8, 8)
    expected = net.get_submodule("classifier")(before_the_mean.mean(dim=(2, 3)))
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize(("dataset", "most"), [("mnist", 4), ("cifar10", 5)])
def test_an_image_is_halved_until_a_pixel_is_left_and_then_the_model_is_refused(dataset, most):
    survey(study("cnn" + most * "-4", dataset))
    model = "cnn" + (most + 1) * "-4"
    with pytest.raises(
        SpecError, match=f"{model} halves its images .*; say at most {most} widths"
    ):
        study(model, dataset)


def test_the_features_of_vgg_are_torchvisions():
    with torch.device("meta"):
        theirs = models.vgg19_bn().features.state_dict()
    ours = nets.skeleton(trainer("vgg-19")).get_submodule("features").state_dict()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


def test_a_seed_fixes_a_network_and_nothing_else_does():
    one, same, other = (built("resnet-20", seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])


def test_a_skeleton_draws_nothing_from_the_global_random_state():
    before = torch.get_rng_state()
    nets.skeleton(trainer("torchvision:regnet_x_400mf"))
    survey(study("resnet-20"))
    assert torch.equal(torch.get_rng_state(), before)


# Initialisation


def fans(weight: torch.Tensor) -> tuple[int, int]:
    receptive = math.prod(weight.shape[2:])
    return weight.shape[1] * receptive, weight.shape[0] * receptive


@pytest.mark.parametrize("model", ["lenet-300-100", "conv-6", "resnet-20", "torchvision:resnet18"])
@pytest.mark.parametrize(
    ("rule", "variance"),
    [("glorot", lambda i, o: 2 / (i + o)), ("kaiming", lambda i, o: 2 / i)],
)
def test_weights_are_normal_with_the_variance_of_the_rule_and_biases_zero(model, rule, variance):
    net = built(model, initialisation=rule)
    state = net.state_dict()
    for name in prunable(net).names:
        weight = state[name]
        spread = math.sqrt(variance(*fans(weight)))
        tolerance = 5 / math.sqrt(weight.numel())
        assert abs(weight.mean().item()) < tolerance * spread, name
        assert weight.std().item() == pytest.approx(spread, rel=tolerance), name
        if weight.numel() > 10_000:
            assert weight.abs().max().item() > 3 * spread, "no uniform draw reaches this far"
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            assert not layer.bias.any()
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert not layer.bias.any()


def test_left_to_itself_a_network_begins_by_its_own_rules():
    torchvisions = built("torchvision:resnet18")
    torch.manual_seed(0)
    theirs = models.get_model("resnet18", weights=None, num_classes=10)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, torchvisions.state_dict()[name])
    stem = built("resnet-18").get_parameter("conv1.weight")
    assert stem.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.1)


# Tickets of these networks


@pytest.mark.parametrize(
    "model",
    ["resnet-20", "torchvision:shufflenet_v2_x0_5", "mine_for_tests:grouped"],
)
@pytest.mark.usefixtures("own")
def test_masks_hold_in_training_and_rename_nothing(model):
    """Convolutions with groups, depthwise ones among them, are masked entry by entry, and stay
    what they were."""
    net = built(model)
    keys, modules = list(net.state_dict()), {n: type(m) for n, m in net.named_modules()}
    groups = {n: m.groups for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    masks = halved(net)
    net.load_state_dict(apply_mask(net.state_dict(), masks), strict=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-2)
    guard = Guard(net.named_parameters(), masks, optimizer)
    guard.hold()
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.randn(4, 3, 16, 16)).square().mean().backward()
        guard.mask_gradients()
        optimizer.step()
        guard.mask_weights()
    for name, mask in masks.items():
        trained = net.get_parameter(name)
        assert not trained[~mask].any(), name
        assert (trained != before[name])[mask].any(), name
    assert list(net.state_dict()) == keys
    assert {n: type(m) for n, m in net.named_modules()} == modules
    assert {n: m.groups for n, m in net.named_modules() if isinstance(m, nn.Conv2d)} == groups
    assert model == "resnet-20" or max(groups.values()) > 1


def test_masks_leave_the_statistics_of_batch_norms_and_rewinding_brings_them_back():
    net = built("resnet-20")
    net(torch.randn(4, 3, 32, 32))
    early = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net(5 + torch.randn(4, 3, 32, 32))
    buffers = dict(net.named_buffers())
    assert len(buffers) == 3 * 21
    assert all(not torch.equal(early[name], tensor) for name, tensor in buffers.items())
    masks = halved(net)
    assert not set(masks) & set(buffers)
    net.load_state_dict(apply_mask(early, masks))
    assert all(torch.equal(early[name], tensor) for name, tensor in net.named_buffers())


@pytest.mark.parametrize("model", ["resnet-18", "torchvision:resnet18"])
def test_a_ticket_loads_into_a_plain_torchvision_model(model):
    net = built(model)
    ticket = apply_mask(net.state_dict(), halved(net))
    net.load_state_dict(ticket)
    plain = models.resnet18(num_classes=10)
    if model == "resnet-18":  # its stem is not the one for large images
        plain.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        plain.register_module("maxpool", nn.Identity())
    plain.load_state_dict(ticket, strict=True)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain.eval()(x), net.eval()(x))


def test_resnet_50_has_torchvisions_names():
    with torch.device("meta"):
        theirs = models.resnet50(num_classes=10).state_dict()
    ours = nets.skeleton(trainer("resnet-50")).state_dict()
    assert list(ours) == list(theirs)
    assert {n for n in ours if ours[n].shape != theirs[n].shape} == {"conv1.weight"}


def small_conv_2() -> tuple[dict[str, torch.Tensor], Prunable]:
    """The weights of Conv-2 for images of 8x8, where only its first linear layer is smaller."""
    size = DataSize(train=1, valid=1, test=1, shape=(3, 8, 8), classes=10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nets.made("conv-2", size)
    return net.state_dict(), prunable(net)


PAPERS = Prune(scope="layerwise", fraction=0.2, conv=0.1, rounds=20)
"""How Conv-2 is pruned: a tenth of convolutions and of the output, a fifth of the others."""


def test_twenty_rounds_leave_exact_counts_in_each_layer_of_conv_2():
    """Counts by plain integers."""
    weights, parts = small_conv_2()
    masks = Masks.dense(weights, parts.names)
    kept = {name: weights[name].numel() for name in parts.names}
    tenths = dict(zip(parts.names, (1, 1, 2, 2, 1), strict=True))
    for index in range(1, 21):
        masks = prune(weights, masks, PAPERS, parts, seed=index)
        kept = {name: n - round(n * tenths[name] / 10) for name, n in kept.items()}
        assert {name: int(mask.sum()) for name, mask in masks.items()} == kept
    assert list(kept.values()) == [209, 4483, 3022, 756, 312]


def test_the_counts_of_the_papers_conv_2_are_foretold():
    found = survey(study("conv-2"))
    kept = list(islice(kept_by_round(PAPERS, found.shapes, found.layers), 21))
    assert kept[:2] == [4_300_992, 34_733 + 3_355_443 + 52_429 + 2304]
    assert kept[20] == 209 + 4483 + 48_357 + 756 + 312


@pytest.mark.parametrize("scope", ["global", "erk"])
def test_twenty_rounds_leave_what_one_ranking_does(scope):
    """With weights that stay, twenty steps end where one sort of all of them does (global), or
    with shares proportional to the sum of a layer's dimensions (erk)."""
    weights, parts = small_conv_2()
    how = Prune(scope=scope, fraction=0.2, rounds=20)
    masks = Masks.dense(weights, parts.names)
    total = masks.kept
    shapes = {name: tuple(weights[name].shape) for name in parts.names}
    for index, foretold in enumerate(islice(kept_by_round(how, shapes, parts), 1, 21), start=1):
        masks = prune(weights, masks, how, parts, seed=index)
        total -= round(total * 0.2)
        assert masks.kept == total == foretold
    kept = {name: int(mask.sum()) for name, mask in masks.items()}
    if scope == "global":
        sizes = torch.cat([weights[name].abs().flatten() for name in parts.names])
        least = sizes.sort(descending=True).values[total - 1]
        assert kept == {n: int((weights[n].abs() >= least).sum()) for n in parts.names}
    else:
        sums = {name: sum(shape) for name, shape in shapes.items()}
        for name, count in kept.items():
            assert abs(count - total * sums[name] / sum(sums.values())) < 1


def test_the_papers_resnet_loses_convolutions_and_keeps_shortcuts_and_output():
    found = survey(study("resnet-20", exclude="[fc, '*.downsample.*']"))
    assert found.layers.output == ()
    assert found.layers.names == found.layers.convolutions
    assert len(found.layers.names) == 19
    assert sum(found.prunable.values()) == 270_896 - 640 - 2560


# Networks of others


OWN = """
import torch
from torch import nn

SIZE = 3
_hidden = len


def net(classes, shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), classes))


class Branching(nn.Module):
    def __init__(self, classes, shape):
        super().__init__()
        self.out = nn.Linear(shape[0], int(torch.tensor(float(classes)).item()))

    def forward(self, x):
        return self.out(x.flatten(2).mean(2)) if x.sum() >= 0 else None


def grouped(classes, shape):
    return nn.Sequential(
        nn.Conv2d(shape[0], 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2),
        nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, classes),
    )


def too_few(classes, shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), classes - 1))


def two(classes, shape):
    class Two(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1)), x

    return Two(torch.Size(shape).numel(), classes)


def narrow(classes, shape):
    class Narrow(nn.Linear):
        def forward(self, x):
            assert x.shape[1:] == (5,), "five numbers alone"
            return super().forward(x)

    return Narrow(5, classes)


def no_layers(classes, shape):
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(torch.Size(shape).numel()))


def fails(classes, shape):
    raise KeyError("depth")


def nothing(classes, shape):
    pass


def unasked(width):
    return nn.Linear(width, 10)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's, called `mine_for_tests`."""
    (tmp_path / "mine_for_tests.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "broken_for_tests.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", ["net", "Branching"])
def test_a_network_of_ones_own_is_called_with_the_classes_and_the_shape(name):
    """Whatever its code reads while it is built or used."""
    found = survey(study(f"mine_for_tests:{name}", "cifar100"))
    assert sum(found.prunable.values()) == (3 * 32 * 32 if name == "net" else 3) * 100
    net = built(f"mine_for_tests:{name}", initialisation="kaiming")
    assert net(torch.zeros(4, 3, 32, 32)).shape == (4, 10)


REFUSED = {
    "mine_for_tests:nett": "mine_for_tests has no function 'nett'. Did you mean 'net'?",
    "mine_for_tests:SIZE": "mine_for_tests has no function 'SIZE'. Valid: net, Branching, "
    "grouped, too_few, two, narrow, no_layers, fails, nothing, unasked.",
    "not_there:net": "the module of not_there:net cannot be imported: ModuleNotFoundError: No "
    "module named 'not_there'. Install it, or put its folder on PYTHONPATH.",
    "broken_for_tests:net": "the module of broken_for_tests:net cannot be imported: "
    "ZeroDivisionError: division by zero. Install it, or put its folder on PYTHONPATH.",
    "mine_for_tests:fails": "mine_for_tests:fails cannot be made with classes=10, shape=(3, 32, "
    "32): KeyError: 'depth'. Let it take these two and return the network.",
    "mine_for_tests:unasked": "mine_for_tests:unasked cannot be made with classes=10, shape=(3, "
    "32, 32): TypeError: unasked() got an unexpected keyword argument 'classes'. Let it take "
    "these two and return the network.",
    "mine_for_tests:nothing": "mine_for_tests:nothing returned nothing, and not a "
    "torch.nn.Module. Let it return the network it makes.",
    "mine_for_tests:too_few": "mine_for_tests:too_few gives (2, 9) for 2 examples of 3x32x32 "
    "(cifar10), and not (2, 10): a number for each of the 10 classes. Mend its last layer.",
    "mine_for_tests:two": "mine_for_tests:two gives tuple for 2 examples of 3x32x32 (cifar10), "
    "and not (2, 10): a number for each of the 10 classes. Mend its last layer.",
    "mine_for_tests:narrow": "mine_for_tests:narrow does not take examples of 3x32x32 (cifar10): "
    "AssertionError: five numbers alone. Say another model, or another data set.",
    "torchvision:resnt18": "torchvision has no classifier 'resnt18'. Did you mean 'resnet18'?",
    "torchvision:fcn_resnet50": "torchvision has no classifier 'fcn_resnet50'. Did you mean "
    "'resnet50'?",
    "torchvision:vit_b_16": "torchvision:vit_b_16 does not take examples of 3x32x32 (cifar10): "
    "AssertionError: Wrong image height! Expected 224 but got 32!. Say another model, or another "
    "data set.",
}


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("model", REFUSED)
def test_a_network_that_cannot_be_trained_is_refused_with_the_mend(model):
    with pytest.raises(UsageError) as refused:
        survey(study(model))
    assert str(refused.value) == f"trainer.model: {REFUSED[model]}"


@pytest.mark.usefixtures("own")
def test_a_network_without_weights_to_prune_is_refused():
    with pytest.raises(UsageError, match="no convolution or linear layer: nothing to prune"):
        survey(study("mine_for_tests:no_layers"))


@pytest.mark.parametrize("dataset", ["mnist", "mnist1d"])
def test_torchvisions_networks_take_images_of_three_channels_alone(dataset):
    with pytest.raises(UsageError, match=rf"resnet18 does not take examples of .*\({dataset}\): "):
        survey(study("torchvision:resnet18", dataset))


@pytest.mark.parametrize(
    "name", ["googlenet", "regnet_x_400mf", "swin_t", "mobilenet_v2", "squeezenet1_0", "vgg11_bn"]
)
def test_torchvisions_networks_are_surveyed_as_they_are(name):
    found = survey(study(f"torchvision:{name}"))
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    theirs = models.get_model(name, weights=None, num_classes=10, **options)
    assert found.total_params == sum(p.numel() for p in theirs.parameters())
    assert len(found.layers.output) == 1
