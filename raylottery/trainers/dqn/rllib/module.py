"""The Q-network as an RLModule: the network of `nets`, and its target beside it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from ray.rllib.algorithms.dqn.dqn_learner import (
    ATOMS,
    QF_LOGITS,
    QF_NEXT_PREDS,
    QF_PREDS,
    QF_PROBS,
    QF_TARGET_NEXT_PREDS,
    QF_TARGET_NEXT_PROBS,
)
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, QNetAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from raylottery.spec import DQNTrainer
from raylottery.trainers.dqn import envs, nets


class QModule(TorchRLModule, QNetAPI, TargetNetworkAPI, InferenceOnlyAPI):
    """What RLlib's DQN learner asks of a module."""

    def setup(self) -> None:
        self.spec = DQNTrainer.model_validate_json(self.model_config["trainer"])
        self.net = nets.build(self.spec, envs.spaces(self.spec))

    def make_target_networks(self) -> None:
        self.target = deepcopy(self.net).requires_grad_(False)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.net, self.target)]

    def get_non_inference_attributes(self) -> list[str]:
        return ["target"]

    def compute_q_values(self, batch: dict) -> dict[str, Any]:
        return self._values(self.net, batch[Columns.OBS])

    def forward_target(self, batch: dict) -> dict[str, Any]:
        return self._values(self.target, batch[Columns.OBS])

    def forward_train(self, batch: dict, **kwargs) -> dict[str, Any]:
        # No layer of ours is another in training, and saying so to each takes time.
        return self._forward_train(batch, **kwargs)

    def _forward(self, batch: dict, **kwargs) -> dict[str, Tensor]:
        return {Columns.ACTIONS: self.net(batch[Columns.OBS]).argmax(dim=-1)}

    def _forward_train(self, batch: dict, **kwargs) -> dict[str, Any]:
        obs, next_obs = batch[Columns.OBS], batch[Columns.NEXT_OBS]
        with torch.no_grad():
            after = self._values(self.target, next_obs)
        out = {QF_TARGET_NEXT_PREDS: after[QF_PREDS]}
        if self.spec.double:
            with torch.no_grad():  # the online network only picks the action
                out[QF_NEXT_PREDS] = self.net(next_obs)
        now = self._values(self.net, obs)
        if self.spec.atoms > 1:
            out[QF_TARGET_NEXT_PROBS] = after[QF_PROBS]
        return out | now

    def _values(self, net: nets.QNet, obs: Tensor) -> dict[str, Tensor]:
        if self.spec.atoms == 1:
            return {QF_PREDS: net(obs)}
        logits = net.distribution(obs)
        probabilities = logits.softmax(dim=-1)
        reach = self.spec.value_range
        support = torch.linspace(-reach, reach, self.spec.atoms, device=logits.device)
        return {
            QF_PREDS: (probabilities * support).sum(dim=-1),
            QF_LOGITS: logits,
            QF_PROBS: probabilities,
            ATOMS: support,
        }
