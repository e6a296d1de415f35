"""Networks that are made elsewhere: torchvision's by name, and the user's own by function."""

from __future__ import annotations

import importlib

from torch import nn

from raylottery.errors import UsageError, did_you_mean
from raylottery.spec import DataSize
from raylottery.spec.problems import shown


PLAIN = {"aux_logits": False, "init_weights": True}
"""Of the two that would give more than one output while they train."""


def elsewhere(model: str, size: DataSize) -> nn.Module:
    """The network called `torchvision:NAME` or `package.module:function`."""
    home, _, name = model.partition(":")
    return from_torchvision(name, size) if home == "torchvision" else own(home, name, size)


def from_torchvision(name: str, size: DataSize) -> nn.Module:
    """One of torchvision's classifiers, as torchvision initialises it."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UsageError(
            f"trainer.model: torchvision has no classifier {shown(name)}. "
            f"{did_you_mean(name, known)}"
        )
    options = PLAIN if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, weights=None, num_classes=size.classes, **options)


def own(home: str, name: str, size: DataSize) -> nn.Module:
    """What a function of the user's returns."""
    model = f"{home}:{name}"
    try:
        module = importlib.import_module(home)
    except Exception as error:
        raise UsageError(
            f"trainer.model: the module of {model} cannot be imported: {type(error).__name__}: "
            f"{error}. Install it, or put its folder on PYTHONPATH."
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        functions = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UsageError(
            f"trainer.model: {home} has no function {name!r}. {did_you_mean(name, functions)}"
        )
    arguments = {"classes": size.classes, "shape": size.shape}
    try:
        net = function(**arguments)
    except Exception as error:
        given = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise UsageError(
            f"trainer.model: {model} cannot be made with {given}: {type(error).__name__}: "
            f"{error}. Let it take these two and return the network."
        ) from error
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"trainer.model: {model} returned {shown(net)}, and not a torch.nn.Module. Let it "
            f"return the network it makes."
        )
    return net
