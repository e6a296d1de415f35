"""The manifests for KubeRay, against a strict schema of the fields they use.

KubeRay's own schemas come with its operator and are in no Python package. This one is written by
hand from KubeRay's reference of its API (v1: RayClusterSpec, RayJobSpec, AuthOptions) and
Kubernetes' (PodSpec): every field the recipes use, with its type, and no other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest

from tests.conftest import ROOT
from tests.unit.cluster.test_clouds import RAY, unshared


def strict(required: str = "", **properties: dict) -> dict:
    """An object with these fields alone."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required.split(),
        "properties": properties,
    }


def many(items: dict) -> dict:
    return {"type": "array", "items": items}


TEXT, COUNT, YES = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
AMOUNTS = strict(
    "cpu memory",
    cpu=TEXT,
    memory={"type": "string", "pattern": "^[0-9]+Gi$"},
    **{"nvidia.com/gpu": {"type": "string", "pattern": "^[0-9]+$"}},
)
CONTAINER = strict(
    "name image resources",
    name=NAME,
    image=TEXT,
    env=many(
        strict(
            "name",
            name=TEXT,
            value=TEXT,
            valueFrom=strict(configMapKeyRef=strict("name key", name=NAME, key=TEXT)),
        )
    ),
    envFrom=many(strict(secretRef=strict("name", name=NAME, optional=YES))),
    ports=many(strict("containerPort", name=NAME, containerPort=COUNT)),
    resources=strict("requests limits", requests=AMOUNTS, limits=AMOUNTS),
    volumeMounts=many(strict("name mountPath", name=NAME, mountPath=TEXT, readOnly=YES)),
)
POD = strict(
    "spec",
    spec=strict(
        "containers restartPolicy",
        containers=many(CONTAINER),
        restartPolicy={"const": "Never"},
        tolerations=many(
            strict(
                key=TEXT, operator={"enum": ["Exists", "Equal"]}, effect={"const": "NoSchedule"}
            )
        ),
        volumes=many(
            strict(
                "name",
                name=NAME,
                configMap=strict(
                    "name", name=NAME, items=many(strict("key path", key=TEXT, path=TEXT))
                ),
            )
        ),
    ),
)
CLUSTER = strict(
    "rayVersion headGroupSpec workerGroupSpecs",
    rayVersion=TEXT,
    authOptions=strict("mode", mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling=YES,
    autoscalerOptions=strict(
        version={"enum": ["v1", "v2"]},
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        idleTimeoutSeconds=COUNT,
    ),
    headGroupSpec=strict(
        "rayStartParams template",
        serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
        enableIngress=YES,
        rayStartParams=TEXTS,
        template=POD,
    ),
    workerGroupSpecs=many(
        strict(
            "groupName minReplicas maxReplicas rayStartParams template",
            groupName=NAME,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            rayStartParams=TEXTS,
            template=POD,
        )
    ),
)
JOB = strict(
    "entrypoint rayClusterSpec",
    entrypoint=TEXT,
    shutdownAfterJobFinishes=YES,
    ttlSecondsAfterFinished=COUNT,
    activeDeadlineSeconds=COUNT,
    backoffLimit=COUNT,
    rayClusterSpec=CLUSTER,
)


def manifest(kind: str, spec: dict) -> dict:
    return strict(
        "apiVersion kind metadata spec",
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=strict("name", name=NAME, namespace=NAME, labels=TEXTS),
        spec=spec,
    )


SCHEMAS = {"RayCluster": manifest("RayCluster", CLUSTER), "RayJob": manifest("RayJob", JOB)}


def load(name: str) -> dict[str, Any]:
    return unshared((ROOT / f"cluster/kuberay/{name}.yaml").read_text())


def cluster_of(document: dict[str, Any]) -> dict[str, Any]:
    spec = document["spec"]
    return spec["rayClusterSpec"] if document["kind"] == "RayJob" else spec


def problems(document: dict[str, Any]) -> list[str]:
    """Everything that is wrong with a manifest."""
    validator = jsonschema.Draft202012Validator(SCHEMAS[document["kind"]])
    wrong = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    if wrong:
        return wrong
    cluster = cluster_of(document)
    found = [*doors(cluster), *sizes(cluster)]
    if document["kind"] == "RayJob" and not document["spec"].get("shutdownAfterJobFinishes"):
        found.append("the cluster outlives its sweep")
    return found


def doors(cluster: dict[str, Any]) -> Iterator[str]:
    """Who could come in: nobody but through kubectl, nobody without the token."""
    head = cluster["headGroupSpec"]
    if head.get("serviceType") != "ClusterIP" or head.get("enableIngress"):
        yield "a port is open to the world"
    if cluster.get("authOptions", {}).get("mode") != "token":
        yield "no token is asked for"


def sizes(cluster: dict[str, Any]) -> Iterator[str]:
    """A cluster that nobody uses is a head that trains nothing."""
    if cluster["rayVersion"] != RAY:
        yield f"another Ray than {RAY}"
    if cluster["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0":
        yield "trials would run on the head"
    idle = cluster.get("autoscalerOptions", {}).get("idleTimeoutSeconds", 0)
    if not cluster.get("enableInTreeAutoscaling") or not 0 < idle <= 600:
        yield "idle workers stay"
    for group in cluster["workerGroupSpecs"]:
        if group.get("replicas") or group["minReplicas"]:
            yield f"{group['groupName']}: idle workers stay"
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        [container] = pod["containers"]
        asked, bound = container["resources"]["requests"], container["resources"]["limits"]
        gpus = int(bound.get("nvidia.com/gpu", "0"))
        if asked != bound:
            yield "Ray counts limits, Kubernetes requests: they are the same"
        if f":ray-{RAY}-{'cuda' if gpus else 'cpu'}" not in container["image"]:
            yield f"image of another Ray than {RAY}, or for other devices"
        if gpus and not pod.get("tolerations"):
            yield "GPU nodes are tainted"
        if {mount["name"] for mount in container.get("volumeMounts", [])} != volumes:
            yield "what is mounted is not what there is"


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_a_manifest_is_valid_closed_and_scales_to_zero(name):
    assert problems(load(name)) == []


def test_both_manifests_have_a_group_with_cpus_and_one_with_gpus_and_are_the_same_cluster():
    stays, passes = (cluster_of(load(name)) for name in (STAYS, "rayjob"))
    assert [group["groupName"] for group in stays["workerGroupSpecs"]] == ["cpu", "gpu"]
    [container] = passes["headGroupSpec"]["template"]["spec"]["containers"]
    del (
        container["env"],
        container["volumeMounts"],
        passes["headGroupSpec"]["template"]["spec"]["volumes"],
    )
    assert stays == passes


def test_the_command_of_the_job_is_one_that_there_is(raylottery):
    words = load("rayjob")["spec"]["entrypoint"].split()
    assert words[:3] == ["python", "-m", "raylottery"]
    done = raylottery(*words[3:4], "--help")
    assert done.returncode == 0
    assert "--address" in done.stdout


STAYS, PASSES = "raycluster", "rayjob"
MISTAKES: list[tuple[str, str, Callable[[dict], Any]]] = [
    (STAYS, "idleTimeoutSecond", lambda s: s["autoscalerOptions"].update(idleTimeoutSecond=60)),
    (STAYS, "not of type 'integer'", lambda s: s["workerGroupSpecs"][0].update(maxReplicas="8")),
    (STAYS, "not of type 'string'", lambda s: s["headGroupSpec"]["rayStartParams"].update(x=0)),
    (STAYS, "not one of", lambda s: s["authOptions"].update(mode="tokens")),
    (STAYS, "open to the world", lambda s: s["headGroupSpec"].update(serviceType="LoadBalancer")),
    (STAYS, "no token", lambda s: s.pop("authOptions")),
    (STAYS, "gpu: idle workers stay", lambda s: s["workerGroupSpecs"][1].update(minReplicas=1)),
    (STAYS, "on the head", lambda s: s["headGroupSpec"]["rayStartParams"].pop("num-cpus")),
    (PASSES, "outlives", lambda s: s.update(shutdownAfterJobFinishes=False)),
    (PASSES, "entryPoint", lambda s: s.update(entryPoint=s.pop("entrypoint"))),
    (PASSES, "another Ray", lambda s: s["rayClusterSpec"].update(rayVersion="2.59.0")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "told", "plant"), MISTAKES, ids=[m[1] for m in MISTAKES])
def test_a_planted_mistake_is_found(name, told, plant):
    document = copy.deepcopy(load(name))
    plant(document["spec"])
    assert any(told in problem for problem in problems(document)), problems(document)
