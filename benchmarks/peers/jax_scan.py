"""A DQN wholly in JAX: environment, replay and update in one scan, many agents by vmap."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp

from peers import BATCH, BUFFER, CLIP, EPSILON_STEPS, GAMMA, HIDDEN, LR, RANDOM_STEPS, SYNC


class Agent(NamedTuple):
    """All that one agent is made of."""

    params: list
    target: list
    first: list
    second: list
    state: jax.Array
    age: jax.Array
    states: jax.Array
    after: jax.Array
    actions: jax.Array
    over: jax.Array
    steps: jax.Array
    updates: jax.Array
    key: jax.Array


def layer(key, width_in: int, width_out: int):
    bound = width_in**-0.5
    weights, biases = jax.random.split(key)
    shape = (width_in, width_out)
    return (
        jax.random.uniform(weights, shape, minval=-bound, maxval=bound),
        jax.random.uniform(biases, (width_out,), minval=-bound, maxval=bound),
    )


def values(params, obs):
    *hidden, (weights, biases) = params
    for w, b in hidden:
        obs = jax.nn.relu(obs @ w + b)
    return obs @ weights + biases


def fresh(key):
    return jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)


def moved(state, action):
    """CartPole's equations of motion, and whether it fell or left."""
    x, speed, angle, turning = state
    force = jnp.where(action == 1, 10.0, -10.0)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    push = (force + 0.05 * turning**2 * sin) / 1.1
    spin = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    haste = push - 0.05 * spin * cos / 1.1
    state = jnp.stack(
        [x + 0.02 * speed, speed + 0.02 * haste, angle + 0.02 * turning, turning + 0.02 * spin]
    )
    return state, (jnp.abs(state[0]) > 2.4) | (jnp.abs(state[2]) > 0.2095)


def born(key) -> Agent:
    key, begin, *keys = jax.random.split(key, 5)
    sizes = pairwise((4, HIDDEN, HIDDEN, 2))
    params = [layer(k, *size) for k, size in zip(keys, sizes, strict=True)]
    zeros = jax.tree.map(jnp.zeros_like, params)
    zero = jnp.zeros((), jnp.int32)
    return Agent(
        *(params, params, zeros, zeros, fresh(begin), zero),
        *(jnp.zeros((BUFFER, 4)), jnp.zeros((BUFFER, 4))),
        *(jnp.zeros(BUFFER, jnp.int32), jnp.zeros(BUFFER), zero, zero, key),
    )


def acted(agent: Agent, _):
    """One step of the environment."""
    key, explore, pick, begin = jax.random.split(agent.key, 4)
    passed = (agent.steps - RANDOM_STEPS) / EPSILON_STEPS
    epsilon = jnp.clip(1 - 0.95 * passed, 0.05, 1.0)
    greedy = values(agent.params, agent.state).argmax()
    guess = jax.random.randint(pick, (), 0, 2)
    action = jnp.where(jax.random.uniform(explore) < epsilon, guess, greedy)
    after, fell = moved(agent.state, action)
    age = agent.age + 1
    ended = fell | (age >= 500)
    at = agent.steps % BUFFER
    return agent._replace(
        states=agent.states.at[at].set(agent.state),
        after=agent.after.at[at].set(after),
        actions=agent.actions.at[at].set(action),
        over=agent.over.at[at].set(fell.astype(jnp.float32)),
        state=jnp.where(ended, fresh(begin), after),
        age=jnp.where(ended, 0, age),
        steps=agent.steps + 1,
        key=key,
    ), None


def updated(agent: Agent) -> Agent:
    """Double DQN on one batch, and Adam."""
    key, draw = jax.random.split(agent.key)
    places = jax.random.randint(draw, (BATCH,), 0, jnp.minimum(agent.steps, BUFFER))
    after = agent.after[places]
    best = values(agent.params, after).argmax(axis=1)
    value = jnp.take_along_axis(values(agent.target, after), best[:, None], axis=1)[:, 0]
    wanted = 1 + GAMMA * (1 - agent.over[places]) * value

    def loss(params):
        chosen = jnp.take_along_axis(
            values(params, agent.states[places]), agent.actions[places][:, None], axis=1
        )[:, 0]
        error = chosen - wanted
        size = jnp.abs(error)
        return jnp.where(size < 1, 0.5 * error**2, size - 0.5).mean()

    grads = jax.grad(loss)(agent.params)
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
    grads = jax.tree.map(lambda g: g * jnp.minimum(1, CLIP / (norm + 1e-6)), grads)
    count = agent.updates + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, agent.first, grads)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, agent.second, grads)
    size = LR / (1 - 0.9**count)
    spread = 1 / jnp.sqrt(1 - 0.999**count)
    params = jax.tree.map(
        lambda p, m, v: p - size * m / (jnp.sqrt(v) * spread + 1e-8), agent.params, first, second
    )
    due = count % SYNC == 0
    target = jax.tree.map(lambda t, p: jnp.where(due, p, t), agent.target, params)
    return agent._replace(
        params=params, target=target, first=first, second=second, updates=count, key=key
    )


@partial(jax.jit, static_argnames=("count",), donate_argnums=0)
def played(agents: Agent, count: int) -> Agent:
    """Random play alone."""
    return jax.lax.scan(jax.vmap(acted, in_axes=(0, None)), agents, length=count)[0]


@partial(jax.jit, static_argnames=("updates", "every"), donate_argnums=0)
def trained(agents: Agent, updates: int, every: int) -> Agent:
    def both(agents, _):
        agents, _ = jax.lax.scan(jax.vmap(acted, in_axes=(0, None)), agents, length=every)
        return jax.vmap(updated)(agents), None

    return jax.lax.scan(both, agents, length=updates)[0]


class JaxScan:
    """So many agents side by side; `train` gives each its share of the updates."""

    def __init__(self, every: int, agents: int):
        self.every = every
        self.agents = agents
        many = jax.jit(jax.vmap(born))(jax.random.split(jax.random.key(0), agents))
        self.many = played(many, RANDOM_STEPS)

    def train(self, updates: int) -> int:
        share = -(-updates // self.agents)
        self.many = jax.block_until_ready(trained(self.many, share, self.every))
        return share * self.agents

    def stop(self) -> None:
        del self.many
