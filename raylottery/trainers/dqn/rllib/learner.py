"""RLlib's DQN learner, masked, and told exactly which updates to make.

The loss, the gradients, their clipping and the sharing between learners are RLlib's. What is left
out is what RLlib does around each update: a pass through connectors, timers, and reduced metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.utils.metrics import TD_ERROR_KEY
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from torch import Tensor

from raylottery.pruning import Masks
from raylottery.trainers.base import Weights
from raylottery.trainers.dqn.replay import Transitions
from raylottery.trainers.dqn.resets import Beginning
from raylottery.trainers.dqn.rllib.masking import MaskedLearner
from raylottery.trainers.dqn.rllib.module import QModule


COLUMNS = {"next_obs": Columns.NEXT_OBS}
"""What RLlib calls otherwise."""


class TicketLearner(MaskedLearner, DQNTorchLearner):
    """Trains one ticket after the other."""

    metrics: Latest  # ty: ignore[incompatible-mutable-override] (set once, in build)

    def build(self) -> None:
        super().build()
        self.metrics = Latest(stats_cls_lookup=self.config.stats_cls_lookup, root=False)
        self.spec = self.q.spec
        torch.set_num_threads(self.spec.threads)
        self.sync_every = self.spec.steps(self.spec.target_every)
        self.pair = tuple(list(net.parameters()) for net in (self.q.target, self.q.net))
        self.step = 0
        self.losses: list[Tensor] = []

    @property
    def q(self) -> QModule:
        return cast("QModule", self.module[DEFAULT_MODULE_ID].unwrapped())

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        [(_, optimizer)] = self.get_optimizers_for_module(DEFAULT_MODULE_ID)
        return optimizer

    def configure_optimizers_for_module(self, module_id, config=None) -> None:
        params = self.get_parameters(self.module[module_id])
        spec = self.q.spec
        optimizer = torch.optim.Adam(
            params, lr=spec.lr, eps=spec.adam_epsilon, weight_decay=spec.weight_decay, fused=True
        )
        self.register_optimizer(module_id=module_id, optimizer=optimizer, params=params)

    def begin(self, beginning: Beginning) -> None:
        """Take a ticket: its weights, masks and target network, and an optimizer to train it."""
        self.q.net.load_state_dict(dict(beginning.weights), strict=True)
        self.q.target.load_state_dict(dict(beginning.target), strict=True)
        self.optimizer.state.clear()
        for key, moment in beginning.moments.items():
            kind, _, name = key.partition(".")
            parameter = self.q.net.get_parameter(name)
            self.optimizer.state[parameter][kind] = moment.clone().to(parameter.device)
        self.pruned = beginning.masks
        self.masks_target = beginning.masks_target
        self.hold({DEFAULT_MODULE_ID: Masks({f"net.{k}": m for k, m in self.pruned.items()})})
        self.step = beginning.step
        self.revived = 0
        self.losses.clear()

    def learn(
        self, batches: Sequence[Transitions], lrs: Sequence[float], last_counts: bool
    ) -> np.ndarray:
        """One update for each batch; the errors of the last."""
        for i, (batch, lr) in enumerate(zip(batches, lrs, strict=True)):
            self.counting = last_counts and i == len(batches) - 1
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            _, losses, _ = self._update({DEFAULT_MODULE_ID: self.mine(batch)})
            self.losses.append(losses[DEFAULT_MODULE_ID].detach())
            self.step += 1
            if self.step % self.sync_every == 0:
                self.sync_target()
        return self.metrics.latest[DEFAULT_MODULE_ID, TD_ERROR_KEY].detach().cpu().numpy()

    def mine(self, batch: Transitions) -> dict[str, Tensor]:
        """This learner's share of a batch, on its device."""
        share = slice(self._learner_index, None, max(1, self.spec.learners))
        parts = {  # what came through Ray cannot be written to, which torch wants of its own
            COLUMNS.get(name, name): np.require(part[share], requirements="W")
            for name, part in batch.items()
        }
        return {name: torch.from_numpy(part).to(self.device) for name, part in parts.items()}

    def observe(self, mean: np.ndarray, var: np.ndarray, count: int) -> None:
        """Take new observations into the normaliser."""
        for net in (self.q.net, self.q.target):
            net.observe(torch.from_numpy(mean), torch.from_numpy(var), count)

    @torch.no_grad()
    def sync_target(self) -> None:
        """Mix the online network into the target, or copy it."""
        target, online = self.pair
        torch._foreach_lerp_(target, online, self.spec.tau)

    def mean_loss(self) -> float:
        """Of the updates since it was last asked."""
        mean = torch.stack(self.losses).mean().item()
        self.losses.clear()
        return mean

    def count_revived(self) -> int:
        """Pruned weights that are not zero, or were not after the last counted step."""
        found = self.revived
        self.revived = 0
        nets = [self.q.net, self.q.target] if self.masks_target else [self.q.net]
        return found + sum(nonzero(dict(net.named_parameters()), self.pruned) for net in nets)

    def weights(self) -> Weights:
        """The online network's, on the CPU and apart from it."""
        return {k: t.detach().to("cpu", copy=True) for k, t in self.q.net.state_dict().items()}

    def moments(self) -> Weights:
        """The optimizer's, by parameter."""
        return {
            f"{kind}.{name}": moment.detach().to("cpu", copy=True)
            for name, parameter in self.q.net.named_parameters()
            for kind, moment in self.optimizer.state[parameter].items()
        }


class Latest(MetricsLogger):
    """Keeps the last value of each metric as it is: nothing is reduced, or moved off a device."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.latest: dict = {}

    def log_value(self, key, value, **kwargs) -> None:
        self.latest[key] = value

    def log_dict(self, value_dict, *, key=None, **kwargs) -> None:
        """Only the errors are of use, and they are logged one by one."""


def nonzero(weights: Mapping[str, Tensor], masks: Masks) -> int:
    """Pruned entries that are not zero."""
    return sum(
        int(torch.count_nonzero(weights[name][~mask.to(weights[name].device)]))
        for name, mask in masks.items()
    )
