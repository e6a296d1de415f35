"""Requests that fit, and requests that never will."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylottery.driver import machines
from raylottery.driver.resources import (
    AHEAD,
    Growth,
    bundles,
    in_words,
    kind,
    places,
    refuse_unplaced,
    seats,
)
from raylottery.errors import SpecError, UsageError
from raylottery.spec import Sweep, expand, lineages, parse_sweep
from raylottery.spec.accelerators import ACCELERATORS


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


A100 = {"CPU": 8.0, "GPU": 1.0, "accelerator_type:A100": 1.0}
T4 = {"CPU": 4.0, "GPU": 4.0, "accelerator_type:T4": 1.0, "lab": 2.0}


def with_resources(resources: str, trainer: str = CLASSIFIER) -> Sweep:
    head = f"name: asks\ntrainer: {trainer}\nprune: {{rounds: 1}}\nseeds: [0]\n"
    return parse_sweep(f"{head}resources: {resources}\n")


def test_an_accelerator_and_custom_resources_pass_through_by_rays_names():
    study = with_resources("{cpus: 1, gpus: 0.5, accelerator: A100, custom: {lab: 0.01, tag: 2}}")
    asks = {"CPU": 1.0, "GPU": 0.5, "accelerator_type:A100": 0.001, "lab": 0.01, "tag": 2.0}
    assert bundles(study) == [asks]
    assert in_words(asks) == "1 CPU, 0.5 GPU, 0.01 lab, 2 tag, A100"


def test_the_learners_of_an_agent_go_where_its_accelerator_is():
    text = "{cpus: 1, gpus: 1, accelerator: T4, custom: {lab: 1}}"
    own, runner, learner = bundles(with_resources(text, agent(runners=1, learners=1)))
    assert own == {"CPU": 1.0, "accelerator_type:T4": 0.001, "lab": 1.0}
    assert runner == {"CPU": 1.0}
    assert learner == {"CPU": 1.0, "GPU": 1.0, "accelerator_type:T4": 0.001}


def test_memory_is_asked_for_in_rays_bytes_and_told_in_peoples():
    study = with_resources("{memory: 1.5GB}", agent(runners=1))
    assert bundles(study) == [{"CPU": 1.0, "memory": 1.5e9}, {"CPU": 1.0}], "of its own process"
    assert in_words(bundles(study)[0]) == "1 CPU, 1.5 GB memory"
    assert seats(with_resources("{cpus: 0.1, memory: 1GiB}"), [{"CPU": 8.0, "memory": 4e9}]) == 3
    with pytest.raises(UsageError) as refused:
        seats(with_resources("{memory: 64GB}"), [{"CPU": 8.0, "memory": 12.34e9}])
    assert str(refused.value).startswith(
        "resources.memory: each trial asks for 64 GB memory, but the largest node here has 12.34 "
        "GB. No trial could ever start. Ask for less (--set resources.memory=null)"
    )


def test_resources_are_in_no_key():
    plain, asked = with_resources("{}"), with_resources("{accelerator: T4, custom: {lab: 1}}")
    [one], [other] = lineages(plain), lineages(asked)
    assert one.id == other.id
    assert [r.key for r in one.rounds] == [r.key for r in other.rounds]


def test_seats_count_only_machines_of_the_kind():
    study = with_resources("{cpus: 1, gpus: 0.5, accelerator: T4}")
    assert seats(study, [A100, T4]) == 4
    assert seats(with_resources("{custom: {lab: 0.5}}"), [A100, T4]) == 4


@pytest.mark.parametrize(
    ("resources", "nodes", "message"),
    [
        ("{accelerator: H100}", [A100, T4],
         "resources.accelerator: each trial asks for a machine with H100, but none here has one; "
         "there is A100, T4. No trial could ever start. Ask for another (--set "
         "resources.accelerator=A100) or give --address of a cluster that has it"),
        ("{accelerator: H100}", [{"CPU": 2.0}],
         "there is no accelerator at all. No trial could ever start. Ask for another (--set "
         "resources.accelerator=null)"),
        ("{custom: {lab: 3}}", [A100, T4],
         "resources.custom.lab: each trial asks for 3 lab, but the largest node here has 2. No "
         "trial could ever start. Ask for less (--set resources.custom.lab=2)"),
        ("{custom: {labs: 1}}", [A100],
         "asks for 1 labs, but the largest node here has 0. No trial could ever start. Ask for "
         "less (--set resources.custom={})"),
        ("{cpus: 8, gpus: 2}", [A100, T4],
         "resources.gpus: each trial asks for 8 CPU, 2 GPU on one machine, but no node here has "
         "all of it: the nearest has 8 CPU, 1 GPU."),
        ("{cpus: 8, accelerator: T4}", [A100, T4], "the nearest has 8 CPU, no T4."),
    ],
)  # fmt: skip
def test_what_no_node_has_is_refused_with_the_mend(resources, nodes, message):
    with pytest.raises(UsageError) as refused:
        seats(with_resources(resources), nodes)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ("{accelerator: h100}", "resources.accelerator: no kind that Ray knows: 'h100'. Did you "
         "mean 'H100'?"),
        ("{accelerator: 3}", "resources.accelerator: expected text, found 3."),
        ("{custom: {GPU: 1}}", "resources.custom.GPU: is a resource of its own kind: say "
         "resources.gpus."),
        ("{custom: {cpus: 1}}", "resources.custom.cpus: is a resource of its own kind: say "
         "resources.cpus."),
        ("{custom: {'accelerator_type:T4': 1}}", "say resources.accelerator: T4."),
        ("{custom: {lab: 0}}", "must be at least 0.0001, which is the finest that Ray knows, not "
         "0."),
        ("{custom: {lab: 1.5}}", "above 1, resources come in whole numbers, not 1.5; say 1 or 2."),
        ("{custom: {lab: true}}", "resources.custom.lab: expected a number, found true."),
        ("{custom: {' ': 1}}", "is no name; give that of a resource"),
        ("{custom: [lab]}", "resources.custom: expected a mapping, found ['lab']."),
        ("{acelerator: T4}", "Did you mean 'accelerator'?"),
    ],
)  # fmt: skip
def test_resources_that_cannot_be_meant_are_refused_at_their_line(resources, message):
    with pytest.raises(SpecError) as refused:
        with_resources(resources, CLASSIFIER.strip())
    assert message in str(refused.value)
    assert refused.value.line == 5


def test_the_kinds_of_accelerators_are_rays():
    from ray.util.accelerators import accelerators

    rays = {
        value
        for name, value in vars(accelerators).items()
        if isinstance(value, str) and name[0].isalpha() and name not in ("annotations",)
    }
    assert set(ACCELERATORS) == rays, "reading a sweep file loads no Ray: keep the list up to date"


def zipped() -> Sweep:
    axes = (
        "{zip: {prune.scope: [global, layerwise], resources.accelerator: [null, T4], "
        "resources.custom: [{lab: 1}, {}]}}"
    )
    return parse_sweep(
        f"name: asks\ntrainer: {CLASSIFIER.strip()}\nprune: {{rounds: 1}}\nseeds: [0]\n"
        f"axes: {axes}\n"
    )


def test_resources_of_all_sorts_follow_an_axis():
    one, other = expand(zipped())
    assert bundles(one.study) == [{"CPU": 1.0, "lab": 1.0}]
    assert bundles(other.study) == [{"CPU": 1.0, "accelerator_type:T4": 0.001}]
    assert one.label == "scope=global"


def test_places_say_of_each_arm_whether_and_how_often_it_fits():
    found = places(expand(zipped()), [A100, {"CPU": 3.0, "lab": 2.0}], Growth())
    assert [place.at_once for place in found] == [2, 0]
    assert found[0].refusal is None
    with pytest.raises(UsageError, match=r"resources\.accelerator.*T4.*\(arm scope=layerwise\)"):
        refuse_unplaced(found)
    refuse_unplaced(places(expand(zipped()), [T4], Growth()))


NO_LAB = {"CPU": 4.0, "accelerator_type:T4": 1.0}


def test_what_a_machine_may_come_for_waits_and_only_the_rest_is_refused():
    def waits(growth: Growth) -> list[bool]:
        found = places(expand(zipped()), [NO_LAB], growth)
        return [place.waits for place in found]

    assert waits(Growth(kinds=({"CPU": 4, "lab": 1},))) == [True, False]
    assert waits(Growth(others=True)) == [True, False]
    [lab, _] = places(expand(zipped()), [NO_LAB], Growth(kinds=({"CPU": 4, "lab": 0.5},)))
    assert not lab.waits
    with pytest.raises(UsageError, match=r"asks for 1 lab, but the largest node here has 0\.5"):
        refuse_unplaced([lab])


CLUSTER = Path(__file__).parents[3] / "cluster"


@pytest.mark.parametrize("recipe", ["aws", "gcp"])
def test_what_a_recipe_for_ray_up_may_start_is_read_from_it(recipe):
    growth = machines.described(CLUSTER / f"{recipe}.yaml")
    assert [kind.get("GPU", 0) for kind in growth.kinds] == [0, 1], "the head is there already"
    assert not growth.others


def test_kinds_that_name_no_resources_or_cannot_be_read_may_be_anything(tmp_path):
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "{max_workers: 2, available_node_types: {a: {resources: {CPU: 1}}, b: {}, "
        "c: {max_workers: 0, resources: {GPU: 9}}}}"
    )
    assert machines.described(file) == Growth(kinds=({"CPU": 1},), others=True)
    assert machines.described(tmp_path / "none.yaml") == Growth(others=True)


def test_in_a_pod_of_kuberay_nothing_is_known_of_what_may_come(monkeypatch):
    assert machines.growth_of_this_head() == Growth(), "no autoscaler runs here"
    monkeypatch.setenv(machines.KUBERAY, "1")
    assert machines.growth_of_this_head() == Growth(others=True)


def test_a_cluster_that_grows_has_slots_for_what_it_may_become():
    arms = expand(asking(2))
    for nodes, growth, slots in (
        ([{"CPU": 9.0}], Growth(), 4),
        ([{"CPU": 9.0}], Growth(kinds=({"CPU": 4.0},)), 4 + AHEAD),
        ([{"CPU": 1.0}], Growth(others=True), AHEAD),
    ):
        [place] = places(arms, nodes, growth)
        assert place.slots == slots


def test_one_trial_trains_no_lineages_of_two_engines_that_cannot_both():
    torch = asking(2)
    compiled = asking(2, trainer=CLASSIFIER.replace("dataset", "engine: compiled, dataset"))
    assert kind(torch) == kind(asking(2))
    assert len({kind(torch), kind(compiled), kind(asking(1))}) == 3
