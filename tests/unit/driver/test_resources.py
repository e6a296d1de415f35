"""Requests that fit, and requests that never will."""

from __future__ import annotations

import pytest

from raylottery.driver.resources import bundles, seats
from raylottery.errors import UsageError
from raylottery.spec import Sweep, parse_sweep


CLASSIFIER = """
  {kind: classifier, dataset: mnist1d, model: mlp-4, length: 1ep, batch_size: 9, lr: 1.0}"""


def asking(cpus: float, gpus: float = 0.0, trainer: str = CLASSIFIER) -> Sweep:
    text = f"""
name: asks
trainer: {trainer}
prune: {{rounds: 1}}
seeds: [0]
resources: {{cpus: {cpus}, gpus: {gpus}}}
"""
    return parse_sweep(text)


def agent(**processes: int) -> str:
    fields = ", ".join(f"{name}: {count}" for name, count in processes.items())
    return f"{{kind: dqn, env: CartPole-v1, length: 5000ts, envs: 2, {fields}}}"


def test_half_a_gpu_seats_two_trials_on_one_gpu():
    assert seats(asking(1, 0.5), [{"CPU": 8.0, "GPU": 1.0}]) == 2


def test_a_third_of_a_gpu_seats_three_in_spite_of_rounding():
    assert seats(asking(0.1, 1 / 3), [{"CPU": 8.0, "GPU": 1.0}]) == 3


def test_the_scarcer_resource_decides_and_nodes_add_up():
    assert seats(asking(2, 0.25), [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 3.0, "GPU": 2.0}]) == 3


def test_a_request_larger_than_every_node_is_refused_though_the_sum_would_do():
    with pytest.raises(UsageError, match=r"resources\.cpus: .* asks for 3 CPU.* largest .* has 2"):
        seats(asking(3), [{"CPU": 2.0}, {"CPU": 2.0}])


def test_a_gpu_that_does_not_exist_is_refused_with_the_mend():
    with pytest.raises(UsageError, match=r"resources\.gpus: .* 1 GPU.* has 0.*--set") as refused:
        seats(asking(1, 1), [{"CPU": 2.0}])
    assert refused.value.exit_code == 2


def test_runners_and_learners_of_a_trial_are_asked_for_with_it():
    study = asking(1, 0.5, agent(runners=2, learners=0))
    assert bundles(study) == [{"CPU": 1.0, "GPU": 0.5}, {"CPU": 1.0}, {"CPU": 1.0}]
    assert seats(study, [{"CPU": 8.0, "GPU": 1.0}]) == 2


def test_the_gpus_of_a_trial_go_to_its_learners():
    study = asking(1, 1, agent(runners=1, learners=2))
    learner = {"CPU": 1.0, "GPU": 0.5}
    assert bundles(study) == [{"CPU": 1.0}, {"CPU": 1.0}, learner, learner]
    assert seats(study, [{"CPU": 4.0, "GPU": 1.0}]) == 1
