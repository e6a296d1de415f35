"""Requests that fit, and requests that never will."""

from __future__ import annotations

import pytest

from raylottery.driver.resources import seats
from raylottery.errors import UsageError
from raylottery.spec import Resources


def asking(cpus: float, gpus: float = 0.0) -> Resources:
    return Resources(cpus=cpus, gpus=gpus)


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
