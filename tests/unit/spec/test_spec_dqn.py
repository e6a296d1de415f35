"""The trainer of agents: what its lengths come to, what it refuses, and what enters its keys."""

from __future__ import annotations

import pickle
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raylottery.spec import DQNTrainer, Sweep, expand, lineage_rounds, lineages
from raylottery.spec.extent import Extent
from raylottery.spec.kernel import KERNEL_PROTOCOL
from tests.unit.spec.samples import AGENT, agent, altered, dqn, refusal


def keys(*sets: str) -> list[str]:
    return [round.key for round in lineage_rounds(agent(*sets), 0)]


# Lengths


def test_a_training_counts_updates_and_random_play_comes_first():
    """1000 of the 50000 steps are random; of the others, 8 make 4 updates."""
    assert dqn().total_steps == 24500
    assert dqn().units == {"it": 1, "ts": Fraction(1, 2), "sync": 250}
    assert dqn("trainer.length=300it").total_steps == 300


@pytest.mark.parametrize(
    ("text", "updates"),
    [
        ("0ts", 0),
        ("1000ts", 0),  # all of it random
        ("1007ts", 0),
        ("1008ts", 4),  # the first rollout
        ("1015ts", 4),
        ("1016ts", 8),
        ("50000ts", 24500),
        ("10it", 10),
        ("3sync", 750),
        ("5%", 1225),
        ("0.01%", 2),  # 2.45
    ],
)
def test_a_point_is_the_updates_before_it(text, updates):
    assert dqn().at(Extent.parse(text)) == updates


@pytest.mark.parametrize(
    ("text", "updates"),
    [
        ("1000ts", 500),  # wherever it lies, no random play is in it
        ("1ts", 1),  # half an update, rounded up
        ("3ts", 2),
        ("10it", 10),
        ("3sync", 750),
        ("100%", 24500),
    ],
)
def test_a_stretch_is_its_updates(text, updates):
    assert dqn().steps(Extent.parse(text)) == updates


@pytest.mark.parametrize(
    ("updates", "steps"), [(0, 0), (1, 8), (4, 8), (5, 16), (24498, 49000), (24500, 49000)]
)
def test_updates_take_whole_rollouts(updates, steps):
    assert dqn().env_steps(updates) == steps


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 10**6), st.integers(0, 10**7))
@settings(deadline=None, max_examples=200)
def test_a_point_in_environment_steps_lies_within_a_rollout_of_them(rollout, updates, first, past):
    length = first + rollout + past
    spec = DQNTrainer.model_validate(
        {
            "kind": "dqn", "env": "x", "envs": 1, "rollout": rollout, "updates": updates,
            "learning_starts": first, "batch_size": 1, "buffer": first, "length": f"{length}ts",
            "n_step": 1,
        }
    )  # fmt: skip
    point = spec.at(Extent.parse(f"{length}ts"))
    assert point == spec.total_steps
    assert point % updates == 0
    assert first + spec.env_steps(point) <= length < first + spec.env_steps(point) + rollout


@pytest.mark.parametrize("every", ["250it", "500ts"])
def test_a_sync_is_counted_in_updates_however_its_distance_is_written(every):
    assert dqn(f"trainer.target_every={every}").at(Extent.parse("2sync")) == 500


@pytest.mark.parametrize(
    ("rewind", "weights", "clock"),
    [
        ("{weights: 1000ts}", "init", 0),
        ("{weights: 5000ts}", "step:2000", 2000),
        ("{weights: 3sync}", "step:750", 750),
        ("{weights: 5%}", "step:1225", 1225),
        ("{weights: 2000it, clock: 1000ts}", "step:2000", 0),
    ],
)
def test_rewind_points_of_agents(rewind, weights, clock):
    ticket = lineage_rounds(agent(f"rewind={rewind}"), 0)[1]
    assert (ticket.weight_source, ticket.clock) == (weights, clock)
    assert (ticket.end, ticket.length) == (24500, 24500)


def test_fine_tuning_an_agent_takes_a_stretch():
    ticket = lineage_rounds(agent("rewind={weights: final, retrain: 1000ts}"), 0)[1]
    assert (ticket.clock, ticket.end) == (24500, 25000)


# Refusals


UNITS = "which cannot be counted here. Units: it, ts"
CASES = [
    # Fields, also those of the other kind
    ("env: CartPole-v1", "envv: CartPole-v1",
     "4: trainer.envv: no such field. Did you mean 'env'?"),
    ("lr: 0.001", "learnin_starts: 3",
     "11: trainer.learnin_starts: no such field. Did you mean 'learning_starts'?"),
    ("lr: 0.001", "optimizer: adam", "11: trainer.optimizer: no such field. Valid: kind, engine, "
     "env, env_args, preprocess, nuisance, normalise, model, hidden, dueling, length, "
     "learning_starts, rollout, updates, envs, batch_size, buffer, priority, priority_beta, "
     "n_step, ...."),
    ("prune.scope: [global, layerwise]", "trainer.momentum: [0, 0.9]",
     "20: axes.trainer.momentum: is for another kind of trainer than dqn; take it out."),
    ("prune.scope: [global, layerwise]", "trainer.dataset: [mnist1d]",
     "20: axes.trainer.dataset: is for another kind of trainer than dqn; take it out."),
    ("prune.scope: [global, layerwise]", "trainer.kind: [dqn, classifier]",
     "20: axes.trainer.kind: cannot be an axis: a sweep trains one kind; make a sweep of each."),
    ("lr: 0.001", "engine: rlib",
     "11: trainer.engine: no such value: 'rlib'. Did you mean 'rllib'?"),
    ("lr: 0.001", "model: natur",
     "11: trainer.model: no such value: 'natur'. Did you mean 'nature'?"),
    ("CartPole-v1", "''", "4: trainer.env: '' is no environment: a gymnasium id such as "
                          "CartPole-v1, or module:function."),
    ("CartPole-v1", "Cart Pole", "4: trainer.env: 'Cart Pole' is no environment: a gymnasium id "
                                 "such as CartPole-v1, or module:function."),
    ("lr: 0.001", "env_args: {a: [.inf]}", "11: trainer.env_args: {'a': [inf]} is more than plain "
     "text, finite numbers, true, false, and lists and mappings of them; have a module:function "
     "make the rest."),
    ("[64, 64]", "[64, 0]", "5: trainer.hidden[1]: must be at least 1, not 0. (Widths of the "
     "dense hidden layers, such as [128, 128]; each model has its own default.)"),
    ("[64, 64]", "64", "5: trainer.hidden: expected a list, found 64. (Widths of the dense hidden "
     "layers, such as [128, 128]; each model has its own default.)"),
    # Units
    ("50000ts", "2ep", f"6: trainer.length: 2ep is in epochs, {UNITS}."),
    ("50000ts", "3sync", f"6: trainer.length: 3sync is in target syncs, {UNITS}."),
    ("50000ts", "50%", f"6: trainer.length: 50% is in percent of the training, {UNITS}."),
    ("500ts", "2sync", f"12: trainer.target_every: 2sync is in target syncs, {UNITS}."),
    ("500ts", "5%", f"12: trainer.target_every: 5% is in percent of the training, {UNITS}."),
    ("lr: 0.001", "epsilon_decay: 2ep",
     f"11: trainer.epsilon_decay: 2ep is in epochs, {UNITS}, sync, %."),
    ("{weights: init}", "{weights: 2ep}",
     f"14: rewind.weights: 2ep is in epochs, {UNITS}, sync, %."),
    ("every: 5%", "every: 2ep", f"15: eval.every: 2ep is in epochs, {UNITS}, sync, %."),
    # Lengths
    ("50000ts", "0ts", "6: trainer.length: 0ts is no length; say at least 1it."),
    ("50000ts", "800ts", "6: trainer.length: 800ts comes to no update at all: 1000 environment "
     "steps of random play come first, then rollouts of 8; say at least 1008ts."),
    ("50000ts", "1007ts", "6: trainer.length: 1007ts comes to no update at all: 1000 environment "
     "steps of random play come first, then rollouts of 8; say at least 1008ts."),
    ("500ts", "0it", "12: trainer.target_every: 0it is no length; say at least 1it."),
    ("{weights: init}", "{weights: 50000ts}", "14: rewind.weights: 50000ts is not before the end "
     "of the training (50000ts, 24500 updates); for its end say final."),
    ("{weights: init}", "{weights: 98sync}", "14: rewind.weights: 98sync is not before the end "
     "of the training (50000ts, 24500 updates); for its end say final."),
    ("every: 5%", "every: 60000ts", "15: eval.every: 60000ts is longer than the training "
                                    "(50000ts, 24500 updates); say at most 100%."),
    # Shares
    ("rollout: 8", "rollout: 12", "8: trainer.rollout: 12 environment steps cannot be shared "
     "evenly by 8 environments (envs times runners); say 16."),
    ("lr: 0.001", "runners: 3", "8: trainer.rollout: 8 environment steps cannot be shared evenly "
     "by 24 environments (envs times runners); say 24.\nstudy.yaml:7: trainer.learning_starts: "
     "1000 environment steps cannot be shared evenly by 24 environments (envs times runners); "
     "say 1008."),
    ("lr: 0.001", "learners: 3", "10: trainer.batch_size: 64 transitions cannot be shared evenly "
                                 "by 3 learners; say 66."),
    ("learning_starts: 1000", "learning_starts: 56", "7: trainer.learning_starts: the first batch "
                                                     "needs 64 transitions, and 32 more wait for "
                                                     "n_step; say at least 96."),
    ("learning_starts: 1000", "learning_starts: 72\n  n_step: 3", "7: trainer.learning_starts: "
     "the first batch needs 64 transitions, and 16 more wait for n_step; say at least 80."),
    ("lr: 0.001", "buffer: 992", "11: trainer.buffer: 992 transitions cannot hold the 1000 steps "
                                 "of learning_starts; say at least that."),
    # What nothing reads
    ("lr: 0.001", "priority_beta: 1.0", "11: trainer.priority_beta: means nothing without "
                                        "priority; leave it out, or set priority."),
    ("lr: 0.001", "value_range: 1.0", "11: trainer.value_range: means nothing without atoms; "
                                      "leave it out, or say atoms: 51."),
    ("lr: 0.001", "loss: squared\n  atoms: 51", "11: trainer.loss: a distribution is learnt by "
     "its cross-entropy; leave it out, or say atoms: 1."),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), CASES)
def test_a_fault_is_named_with_its_line_and_its_mend(old, new, message):
    found = refusal(altered((old, new), text=AGENT))
    assert sorted(found) == sorted(f"study.yaml:{message}".split("\n"))


def test_a_target_that_is_never_synced_is_refused():
    slow = ("updates: 4", "updates: 1"), ("rollout: 8", "rollout: 80"), ("500ts", "39ts")
    assert refusal(altered(*slow, text=AGENT)) == [
        "study.yaml:12: trainer.target_every: 39ts comes to no update at all, with 1 in 80 "
        "environment steps; say at least 1it."
    ]
    assert dqn("trainer.updates=1", "trainer.rollout=80", "trainer.target_every=40ts")


def test_a_value_that_python_alone_can_make_is_no_argument_of_an_environment():
    given = {**dqn().model_dump(), "env_args": {"shape": {1, 2}}}
    with pytest.raises(ValidationError, match="is more than plain text"):
        DQNTrainer.model_validate(given)


def test_the_faults_of_an_agents_sweep_are_listed_in_its_order():
    assert refusal(
        altered(
            ("env: CartPole-v1", "evn: CartPole-v1"),
            ("[64, 64]", "[64, x]"),
            ("500ts", "2ep"),
            ("rounds: 3", "round: 3"),
            ("episodes: 3", "episode: 0"),
            ("prune.scope:", "prune.skope:"),
            text=AGENT,
        )
    ) == [
        "study.yaml:4: trainer.evn: no such field. Did you mean 'env'?",
        "study.yaml:5: trainer.hidden[1]: expected a whole number, found 'x'. (Widths of the "
        "dense hidden layers, such as [128, 128]; each model has its own default.)",
        f"study.yaml:12: trainer.target_every: 2ep is in epochs, {UNITS}.",
        "study.yaml:13: prune.round: no such field. Did you mean 'rounds'?",
        "study.yaml:15: eval.episode: no such field. Did you mean 'episodes'?",
        "study.yaml:20: axes.prune.skope: no such field. Did you mean 'prune.scope'?",
    ]


def test_an_override_of_an_agent_is_refused_by_its_own_fields():
    assert refusal(AGENT, ("trainer.batchsize=3",)) == [
        "--set trainer.batchsize: no such field. Did you mean 'batch_size'?"
    ]
    assert refusal(AGENT, ("trainer.env_args.gravity=.nan",)) == [
        "--set trainer.env_args.gravity: trainer.env_args: {'gravity': nan} is more than plain "
        "text, finite numbers, true, false, and lists and mappings of them; have a "
        "module:function make the rest."
    ]


def test_another_kind_takes_its_own_fields_alone():
    said = "\n".join(refusal(AGENT, ("trainer.kind=classifier",)))
    assert (
        "study.yaml:4: trainer.env: no such field. Valid: kind, engine, dataset, examples" in said
    )
    assert "study.yaml:2: trainer.model: missing, and it has no default." in said
    assert "study.yaml:15: eval.episodes: is for kind dqn" not in said, "the trainer is not known"


# Keys


def test_the_dense_round_of_an_agent_in_full():
    dense = lineage_rounds(agent(), 1)[0]
    assert dense.spec == {
        "schema": 1,
        "trainer": {
            "kind": "dqn",
            "engine": "rllib",
            "env": "CartPole-v1",
            "model": "mlp",
            "hidden": [64, 64],
            "length": 24500,
            "learning_starts": 1000,
            "rollout": 8,
            "updates": 4,
            "envs": 8,
            "batch_size": 64,
            "buffer": 100_000,
            "gamma": 0.99,
            "double": True,
            "loss": "huber",
            "lr": 0.001,
            "clip": 10.0,
            "target_every": 250,
            "tau": 0.005,
            "epsilon_end": 0.05,
            "epsilon_decay": 4900,
            "protocol": 1,
        },
        "eval": {"every": 1225, "episodes": 3, "final": 10},
        "seed": 1,
        "round": 0,
    }


FROZEN = [
    "trainer.env_args={}",
    "trainer.preprocess=none",
    "trainer.normalise=false",
    "trainer.dueling=false",
    "trainer.priority=0.0",
    "trainer.priority_beta=0.4",
    "trainer.n_step=5",
    "trainer.atoms=1",
    "trainer.value_range=10.0",
    "trainer.lr_end=0.05",
    "trainer.adam_epsilon=1e-8",
    "trainer.weight_decay=0.0",
    "trainer.runners=0",
    "trainer.learners=0",
    "trainer.threads=1",
    "eval.window=100",
    "stop.evaluate=full",
    "stop.length_power=0.0",
    "reset.optimizer=fresh",
    "reset.replay=empty",
    "reset.learning_starts=again",
    "reset.target=online",
    "reset.target_mask=same",
    "reset.exploration=clock",
    "reset.lr=clock",
    "reset.normaliser=fresh",
    "reset.env_seed=new",
    "reset.exploration_seed=new",
]


@pytest.mark.parametrize("setting", FROZEN)
def test_a_field_that_says_nothing_new_renames_nothing(setting):
    assert keys(setting) == keys()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["trainer.hidden=null"], ["trainer.hidden=[128, 128]"]),
        (["trainer.hidden=null", "trainer.model=minatar"],
         ["trainer.hidden=[128]", "trainer.model=minatar"]),
        (["trainer.hidden=null", "trainer.model=yu2020"],
         ["trainer.hidden=[512, 512]", "trainer.model=yu2020"]),
        (["trainer.length=50000ts"], ["trainer.length=24500it"]),
        (["trainer.length=50000ts"], ["trainer.length=50007ts"]),
        (["trainer.target_every=500ts"], ["trainer.target_every=250it"]),
        (["trainer.epsilon_decay=20%"], ["trainer.epsilon_decay=9800ts"]),
        (["rewind.weights=5000ts"], ["rewind.weights=8sync"]),
        (["rewind.weights=500ts"], ["rewind.weights=init"]),
        (["trainer.env_args={a: 1, b: 2}"], ["trainer.env_args={b: 2, a: 1}"]),
    ],
)  # fmt: skip
def test_two_ways_to_write_one_training_have_one_key(one, other):
    assert keys(*one) == keys(*other)


CHANGES = [
    "trainer.engine=compiled",
    "trainer.env=CartPole-v0",
    "trainer.env_args={gravity: 1.6}",
    "trainer.preprocess=atari",
    "trainer.nuisance={noise: 2}",
    "trainer.normalise=true",
    "trainer.model=minatar",
    "trainer.hidden=[64]",
    "trainer.dueling=true",
    "trainer.length=50008ts",
    "trainer.learning_starts=2000",
    "trainer.rollout=16",
    "trainer.updates=8",
    "trainer.envs=4",
    "trainer.batch_size=32",
    "trainer.buffer=1000",
    "trainer.priority=0.6",
    "trainer.n_step=3",
    "trainer.gamma=1",
    "trainer.double=false",
    "trainer.atoms=51",
    "trainer.loss=squared",
    "trainer.lr=0.002",
    "trainer.lr_end=0.0",
    "trainer.adam_epsilon=1e-4",
    "trainer.weight_decay=1e-4",
    "trainer.clip=1",
    "trainer.target_every=1it",
    "trainer.tau=1",
    "trainer.epsilon_end=0.1",
    "trainer.epsilon_decay=10%",
    "trainer.runners=1",
    "trainer.learners=2",
    "trainer.threads=2",
    "eval.every=10%",
    "eval.episodes=4",
    "eval.final=30",
    "eval.window=10",
]


@pytest.mark.parametrize("change", CHANGES)
def test_the_agent_and_its_measurements_enter_every_key(change):
    assert not set(keys()) & set(keys(change))


def test_every_field_of_an_agent_is_in_the_list_above():
    """All that may change a training; `kind` has one value."""
    changed = {change.partition("=")[0] for change in CHANGES}
    below = {"trainer.kind", "trainer.priority_beta", "trainer.value_range"}
    assert {name for name in changed | below if name.startswith("trainer.")} == {
        f"trainer.{name}" for name in DQNTrainer.model_fields
    }


def test_what_goes_with_another_field_enters_keys_too():
    assert keys("trainer.priority=0.6") != keys("trainer.priority=0.6", "trainer.priority_beta=1")
    assert keys("trainer.atoms=51") != keys("trainer.atoms=51", "trainer.value_range=1")


def test_the_protocol_of_agents_enters_every_key(monkeypatch):
    before = set(keys())
    monkeypatch.setattr(DQNTrainer, "PROTOCOL", 2)
    assert not before & set(keys())


def test_the_kernels_protocol_enters_the_keys_of_the_engine_that_stands_on_it(monkeypatch):
    compiled = ("trainer.engine=compiled",)
    before, others = set(keys(*compiled)), keys()
    monkeypatch.setattr("raylottery.spec.dqn.KERNEL_PROTOCOL", KERNEL_PROTOCOL + 1)
    assert not before & set(keys(*compiled))
    assert keys() == others


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("preprocess=atari", "sees no images"),
        ("normalise=true", "takes no statistics of observations"),
        ("model=nature", "trains dense layers only"),
        ("priority=0.6", "draws all transitions alike"),
        ("atoms=51", "learns mean returns only"),
        ("runners=2", "collects where it trains"),
        ("learners=2", "learns in one process"),
        ("threads=2", "trains each lineage in one thread"),
    ],
)
def test_what_the_compiled_engine_cannot_do_is_refused_with_the_one_that_can(change, why):
    shared = ("trainer.rollout=16", "trainer.learning_starts=1600")
    changes = ("trainer.engine=compiled", f"trainer.{change}", *shared)
    [said] = refusal(AGENT, changes)
    name = change.partition("=")[0]
    assert (
        f"trainer.{name}: the compiled engine {why}; leave it out, or say engine: rllib." in said
    )
    assert agent(*changes[1:]).trainer.engine == "rllib"


def test_arms_and_lineages_of_agents_can_be_sent_elsewhere():
    sweep = agent("trainer.env_args={gravity: 9.8}", "axes.reset.replay=[empty, prefilled]")
    assert [arm.label for arm in expand(sweep)] == ["replay=empty", "replay=prefilled"]
    for line in lineages(sweep):
        sent = pickle.loads(pickle.dumps(line))
        assert sent == line
        assert [round.key for round in sent.rounds] == [round.key for round in line.rounds]
        assert Sweep.model_validate_json(line.arm.study.model_dump_json()) == line.arm.study


@given(st.integers(1, 10**5), st.integers(1, 64), st.integers(1, 64))
@settings(deadline=None, max_examples=100)
def test_whole_rollouts_have_one_key_in_steps_and_in_updates(rollouts, rollout, updates):
    shared = ("trainer.envs=1", f"trainer.rollout={rollout}", f"trainer.updates={updates}",
              "trainer.target_every=1it")  # fmt: skip
    assume(rollouts * updates >= 20)  # else 5% is no distance between two measurements
    steps = f"trainer.length={1000 + rollouts * rollout}ts"
    assert keys(*shared, steps) == keys(*shared, f"trainer.length={rollouts * updates}it")
