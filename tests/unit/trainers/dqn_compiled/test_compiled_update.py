"""One update is the one that torch makes in double precision, and goes by its own chance alone."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from raylottery.pruning import Masks
from raylottery.trainers.base import Previous, Weights
from raylottery.trainers.dqn import nets
from raylottery.trainers.dqn.compiled import CompiledDQN, layers, loops, tables
from tests.unit.kernel.samples import called
from tests.unit.trainers.dqn_compiled.agents import (
    dense,
    masks_of,
    start,
    ticket,
    trainer_of,
)


draw = called(loops.draw)

WIDE = ("trainer.hidden=[40, 30]", "trainer.batch_size=50", "trainer.adam_epsilon=0.001")
RULES = {
    "double-huber": (),
    "single-squared": ("trainer.double=false", "trainer.loss=squared"),
    "dueling-decay": ("trainer.dueling=true", "trainer.weight_decay=0.1"),
    "dueling-single-n-steps": (
        "trainer.dueling=true", "trainer.double=false", "trainer.n_step=3",
    ),
    "clipped": ("trainer.clip=0.05", "trainer.n_step=2", "trainer.tau=0.3"),
    "hard": ("trainer.tau=1.0", "trainer.loss=squared", "trainer.clip=0.5"),
}  # fmt: skip
TARGETS = ("reset.target_mask=same", "reset.target_mask=dense")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Torch's threads wait for one another longer than such small products take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Reference:
    """The same agent in torch: double precision, whole arrays, and masks."""

    def __init__(self, trainer: CompiledDQN, weights: Weights, target: Weights, masks: Masks):
        self.spec = trainer.spec
        self.net = nets.build(trainer.spec, trainer.space).double()
        self.net.load_state_dict(dict(weights))
        self.target = deepcopy(self.net)
        self.target.load_state_dict(dict(target))
        self.masks = masks
        self.adam = torch.optim.Adam(
            self.net.parameters(),
            lr=self.spec.lr,
            eps=self.spec.adam_epsilon,
            weight_decay=self.spec.weight_decay,
        )

    def remember(self, moments: Weights) -> None:
        for name, parameter in self.net.named_parameters():
            self.adam.state[parameter] = {
                kind: moments[f"{kind}.{name}"].clone().to(torch.float64)
                for kind in ("step", "exp_avg", "exp_avg_sq")
            }

    def update(self, batch: dict[str, Tensor]) -> float:
        spec, size = self.spec, len(batch["actions"])
        every = torch.arange(size)
        with torch.no_grad():
            rated = self.target(batch["next_obs"])
            chosen = (self.net if spec.double else self.target)(batch["next_obs"]).argmax(dim=1)
            left = spec.gamma ** batch["n_step"] * (1 - batch["terminateds"])
            wanted = batch["rewards"] + left * rated[every, chosen]
        q = self.net(batch["obs"])[every, batch["actions"].long()]
        kind = functional.huber_loss if spec.loss == "huber" else functional.mse_loss
        loss = kind(q, wanted)
        self.adam.zero_grad()
        loss.backward()
        for name, parameter in self.net.named_parameters():
            assert parameter.grad is not None
            parameter.grad *= self.masks[name]
        clip_grad_norm_(self.net.parameters(), spec.clip)
        self.adam.step()
        with torch.no_grad():
            for name, parameter in self.net.named_parameters():
                parameter *= self.masks[name]
                self.target.get_parameter(name).lerp_(parameter, spec.tau)
        return float(loss.detach())


def prepared(trainer: CompiledDQN, *, pruned: bool, seed: int) -> Reference:
    """Both at the same place in the middle of a training, with moments and a buffer."""
    chance = torch.Generator().manual_seed(seed)
    weights = trainer.initial(seed)
    whole = ticket(trainer, masks_of(weights, trainer, seed=seed)) if pruned else dense(trainer)
    before = Previous(weights=trainer.initial(seed + 1), carried=left(trainer, chance))
    trainer.begin(start(trainer, ticket=whole, previous=before))
    agent = trainer.agent
    agent.counters[tables.DUE] = 1000  # no experience is collected meanwhile
    found = Reference(
        trainer,
        {name: tensor.double() for name, tensor in agent.weights().items()},
        {n: t.double() for n, t in layers.named(trainer.spec, agent.target).items()},
        whole.masks,
    )
    found.remember(agent.moments())
    return found


def left(trainer: CompiledDQN, chance: torch.Generator) -> Weights:
    """Moments and a buffer; an update without moments is the sign of a gradient, however small."""
    weights = trainer.initial(0)
    size, most = 200, trainer.spec.n_step
    replay = {
        "obs": torch.randn(size, 4, generator=chance),
        "actions": torch.randint(2, (size,), generator=chance),
        "rewards": torch.randn(size, generator=chance) * 2,
        "next_obs": torch.randn(size, 4, generator=chance),
        "terminateds": torch.rand(size, generator=chance) < 0.3,
        "n_step": torch.randint(1, most + 1, (size,), generator=chance).float(),
    }
    moments = {}
    for name, tensor in weights.items():
        moments[f"exp_avg.{name}"] = torch.randn(tensor.shape, generator=chance) / 50
        moments[f"exp_avg_sq.{name}"] = torch.rand(tensor.shape, generator=chance) / 100 + 1e-4
        moments[f"step.{name}"] = torch.tensor(10.0)
    parts = {"replay": replay, "optimizer": moments}
    return {f"{kind}.{name}": t for kind, part in parts.items() for name, t in part.items()}


def drawn_next(trainer: CompiledDQN) -> dict[str, Tensor]:
    """The batch that the next update learns from, drawn here with the same chance."""
    agent, size = trainer.agent, trainer.spec.batch_size
    counters = agent.counters.copy()
    actions, numbers = np.zeros(size, np.int64), np.zeros((tables.ROWS, size), np.float32)
    lanes = agent.here.outputs.shape[1]
    here, there, far = (np.zeros(4 * lanes, np.float32) for _ in range(3))
    draw(here, there, far, 4, lanes, actions, numbers, agent.replay, counters)
    assert np.array_equal(there, far)
    contents = {name: part.numpy() for name, part in agent.contents().items()}
    known = {row.tobytes(): place for place, row in enumerate(contents["obs"])}
    places = [known[row.tobytes()] for row in here.reshape(4, lanes)[:, :size].T.copy()]
    batch = {name: torch.from_numpy(part[places]).double() for name, part in contents.items()}
    discounts = trainer.spec.gamma ** batch["n_step"] * (1 - batch["terminateds"])
    assert np.array_equal(there.reshape(4, lanes)[:, :size].T, contents["next_obs"][places])
    assert np.array_equal(actions, contents["actions"][places])
    assert np.array_equal(numbers[tables.EARNINGS], contents["rewards"][places])
    assert np.array_equal(numbers[tables.DISCOUNTS], discounts.float().numpy())
    return batch


def named(net: nets.QNet) -> Weights:
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def assert_close(found: Weights, expected: Weights, before: Weights) -> None:
    """To 1e-5 of how far anything moved, and the rounding of what it is."""
    moved = max(float((expected[n] - before[n]).abs().max()) for n in expected)
    for name, tensor in expected.items():
        apart = float((found[name].double() - tensor).abs().max())
        rounding = float(np.finfo(np.float32).eps) * float(tensor.abs().max())
        assert apart <= 1e-5 * moved + rounding, name


@pytest.mark.parametrize("pruned", [False, True], ids=["dense", "pruned"])
@pytest.mark.parametrize(
    ("rule", "target"), list(product(RULES, TARGETS)), ids=lambda part: part.rpartition("=")[2]
)
def test_an_update_is_torchs_in_double_precision(rule: str, target: str, pruned: bool) -> None:
    kept = ("reset.replay=kept", "reset.learning_starts=skipped", "reset.optimizer=kept")
    trainer = trainer_of(*WIDE, *RULES[rule], *kept, target, "reset.target=previous")
    for seed in range(3):
        theirs = prepared(trainer, pruned=pruned, seed=seed)
        agent = trainer.agent
        for step in range(1, 4):
            batch = drawn_next(trainer)
            before = [named(net) for net in (theirs.net, theirs.target)]
            agent.mean_loss()
            agent.advance(step)
            loss = theirs.update(batch)
            assert agent.mean_loss() == pytest.approx(loss, rel=1e-5)
            found = agent.weights(), layers.named(trainer.spec, agent.target)
            for ours, net, old in zip(found, (theirs.net, theirs.target), before, strict=True):
                assert_close(ours, named(net), old)
            catch_up(theirs, trainer)


def catch_up(theirs: Reference, trainer: CompiledDQN) -> None:
    """From where ours is, so that what the last update rounded is none of the next one's."""
    agent = trainer.agent
    theirs.net.load_state_dict({n: t.double() for n, t in agent.weights().items()})
    target = layers.named(trainer.spec, agent.target)
    theirs.target.load_state_dict({n: t.double() for n, t in target.items()})
    theirs.remember(agent.moments())


@pytest.mark.parametrize(("clock", "syncs"), [(0, (10, 20)), (16, (20, 30)), (20, (30, 40))])
@pytest.mark.parametrize("target_mask", TARGETS)
def test_a_target_is_synced_at_the_steps_that_its_distance_divides(
    clock: int, syncs: tuple[int, ...], target_mask: str
) -> None:
    trainer = trainer_of("trainer.target_every=10it", "trainer.tau=1.0", target_mask)
    trainer.begin(start(trainer, clock=clock))
    agent = trainer.agent

    def target() -> bytes:
        return b"".join(
            t.numpy().tobytes() for t in layers.named(trainer.spec, agent.target).values()
        )

    def online() -> bytes:
        return b"".join(t.numpy().tobytes() for t in agent.weights().values())

    before = target()
    for step in range(clock + 1, syncs[-1] + 1):
        agent.advance(step)
        assert (target() == online()) == (step in syncs)
        assert (target() == before) == (step not in syncs)
        before = target()
