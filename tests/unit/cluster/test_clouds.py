"""aws.yaml and gcp.yaml: Ray's own checks, the cloud's where it ships them, and ours on top."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import botocore.exceptions
import botocore.session
import jsonschema
import pytest
import yaml
from botocore.validate import validate_parameters
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.conftest import ROOT


CLOUDS = ("aws", "gcp")
RAY = next(
    line.strip().split("==")[1]
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line.startswith("ray==")
)
# What gcp.yaml says of a machine, by the names of Compute Engine's reference; written by hand.
GCP_MACHINE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["machineType", "networkInterfaces", "disks"],
    "properties": {
        "machineType": {"type": "string"},
        "networkInterfaces": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["subnetwork"],
                "properties": {
                    "subnetwork": {"type": "string"},
                    "accessConfigs": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "additionalProperties": False,
                            "properties": {
                                "name": {"type": "string"},
                                "type": {"const": "ONE_TO_ONE_NAT"},
                            },
                        },
                    },
                },
            },
        },
        "disks": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "boot": {"type": "boolean"},
                    "autoDelete": {"const": True},
                    "type": {"const": "PERSISTENT"},
                    "initializeParams": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "diskSizeGb": {"type": "integer"},
                            "sourceImage": {"type": "string"},
                        },
                    },
                },
            },
        },
        "scheduling": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "provisioningModel": {"enum": ["SPOT", "STANDARD"]},
                "instanceTerminationAction": {"enum": ["DELETE", "STOP"]},
                "automaticRestart": {"type": "boolean"},
                "onHostMaintenance": {"enum": ["MIGRATE", "TERMINATE"]},
            },
        },
        "serviceAccounts": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "email": {"type": "string"},
                    "scopes": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
    },
}


def load(cloud: str) -> dict[str, Any]:
    """A recipe, each part of it its own: YAML's anchors share theirs."""
    return copy.deepcopy(unshared((ROOT / f"cluster/{cloud}.yaml").read_text()))


def unshared(text: str) -> dict[str, Any]:
    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data):
            return True

    return yaml.safe_load(yaml.dump(yaml.safe_load(text), Dumper=Plain))


def problems(config: dict[str, Any]) -> list[str]:
    """Everything that is wrong with a recipe."""
    try:
        prepared = prepare_config(copy.deepcopy(config))
        validate_config(prepared)
    except Exception as error:  # noqa: BLE001 (whatever Ray says of it)
        return [str(error)]
    machine = {"aws": aws_machine, "gcp": gcp_machine}[config["provider"]["type"]]
    kinds = config["available_node_types"]
    return [
        *(f"{name}: {problem}" for name, kind in kinds.items() for problem in machine(name, kind)),
        *sizes(config),
        *doors(config),
        *(["setup installs another Ray"] if "ray" in " ".join(prepared["setup_commands"]) else []),
    ]


def aws_machine(name: str, kind: dict[str, Any]) -> Iterator[str]:
    """EC2's own description of what RunInstances takes, as botocore ships it."""
    shape = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances")
    counts = {"MinCount": 1, "MaxCount": 1}  # Ray's to say
    try:
        validate_parameters({**kind["node_config"], **counts}, shape.input_shape)
    except botocore.exceptions.ParamValidationError as error:
        yield str(error)
    spot = kind["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot"
    yield from spot_for_workers(name, spot)
    if not kind["node_config"].get("SecurityGroupIds"):
        yield "without SecurityGroupIds Ray makes a group with port 22 open to the world"


def gcp_machine(name: str, kind: dict[str, Any]) -> Iterator[str]:
    try:
        jsonschema.validate(kind["node_config"], GCP_MACHINE)
    except jsonschema.ValidationError as error:
        yield error.message
    model = kind["node_config"].get("scheduling", {}).get("provisioningModel")
    yield from spot_for_workers(name, model == "SPOT")


def spot_for_workers(name: str, spot: bool) -> Iterator[str]:
    if spot == (name == "head"):
        yield "the head is on demand, workers are spot"


def sizes(config: dict[str, Any]) -> Iterator[str]:
    """A cluster that nobody uses is a head that trains nothing."""
    kinds = config["available_node_types"]
    if any(kinds["head"]["resources"].values()):
        yield "trials would run on the head"
    if any(kind.get("min_workers", 0) for kind in kinds.values()):
        yield "idle workers stay"
    if not 0 < config["idle_timeout_minutes"] <= 10:
        yield "idle workers stay for long"
    if config["provider"].get("cache_stopped_nodes", True):
        yield "idle workers are stopped, and their disks paid for"
    for name, kind in kinds.items():
        image = kind.get("docker", {}).get("worker_image", config["docker"]["worker_image"])
        if f":ray-{RAY}-" not in image:
            yield f"{name}: image of another Ray than {RAY}"
        if image.endswith("-cuda") != (kind["resources"].get("GPU", 0) > 0):
            yield f"{name}: GPUs and the CUDA image go together"


def doors(config: dict[str, Any]) -> Iterator[str]:
    """Who could come in: nobody but through SSH, nobody without the token."""
    if config["provider"].get("security_group"):
        yield "rules of its own for a security group"
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        start = config[key][-1]
        if "RAY_AUTH_MODE=token" not in start:
            yield f"{key}: no token is asked for"
        if "--dashboard-host=" in start and "--dashboard-host=127.0.0.1" not in start:
            yield f"{key}: the dashboard is open"
    if "~/.ray/auth_token" not in config["file_mounts"]:
        yield "the nodes have no token"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_recipe_passes_rays_checks_the_clouds_and_ours(cloud):
    assert problems(load(cloud)) == []


def kind(name: str, *path: str) -> Callable[[dict], dict]:
    def find(config: dict) -> dict:
        found = config["available_node_types"][name]
        for step in path:
            found = found[step]
        return found

    return find


MISTAKES: list[tuple[str, str, Callable[[dict], Any]]] = [
    ("aws", "idle_timeout_minute", lambda c: c.update(idle_timeout_minute=5)),
    ("aws", "'many'", lambda c: c.update(max_workers="many")),
    ("aws", "min_worker", lambda c: kind("cpu")(c).update(min_worker=0)),
    ("aws", "InstanceTyp", lambda c: kind("cpu", "node_config")(c).update(InstanceTyp="m5.large")),
    ("aws", "VolumeSize", lambda c: kind("cpu", "node_config")(c)["BlockDeviceMappings"][0]
        ["Ebs"].update(VolumeSize="100")),
    ("aws", "open to the world", lambda c: kind("gpu", "node_config")(c).pop("SecurityGroupIds")),
    ("aws", "security group", lambda c: c["provider"].update(security_group={"IpPermissions": [
        {"FromPort": 8265, "ToPort": 8265, "IpProtocol": "tcp",
         "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]})),
    ("aws", "on demand", lambda c: kind("cpu", "node_config")(c).pop("InstanceMarketOptions")),
    ("aws", "another Ray", lambda c: c["docker"].update(worker_image="r/raylottery:ray-2.5-cpu")),
    ("aws", "installs", lambda c: c.pop("setup_commands")),
    ("gcp", "machinetype", lambda c: kind("cpu", "node_config")(c).update(machinetype="n2")),
    ("gcp", "not of type", lambda c: kind("cpu")(c).update(resources={"CPU": "8"})),
    ("gcp", "head_node_type", lambda c: c.update(head_node_type="chief")),
    ("gcp", "the dashboard is open", lambda c: c.update(head_start_ray_commands=[
        c["head_start_ray_commands"][-1].replace("127.0.0.1", "0.0.0.0")])),
    ("gcp", "no token", lambda c: c.update(worker_start_ray_commands=["ray start --address=h:1"])),
    ("gcp", "on the head", lambda c: kind("head")(c).update(resources={"CPU": 2})),
    ("gcp", "stay", lambda c: kind("gpu")(c).update(min_workers=1)),
]  # fmt: skip


@pytest.mark.parametrize(("cloud", "told", "plant"), MISTAKES, ids=[m[1] for m in MISTAKES])
def test_a_planted_mistake_is_found(cloud, told, plant):
    config = load(cloud)
    plant(config)
    assert any(told in problem for problem in problems(config)), problems(config)


@pytest.fixture
def account(monkeypatch, tmp_path) -> Iterator[Any]:
    """An AWS account that is not one, and a home for the key that Ray writes."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    with mock_aws():
        yield boto3.client("ec2", region_name="us-west-2")


@pytest.mark.parametrize("named", [True, False])
def test_on_aws_ray_opens_no_port_unless_the_security_group_is_left_out(account, named):
    [vpc] = account.describe_vpcs()["Vpcs"]
    group = account.create_security_group(
        GroupName="raylottery", Description="ours", VpcId=vpc["VpcId"]
    )["GroupId"]
    config = prepare_config(load("aws"))
    for kind in config["available_node_types"].values():
        kind["node_config"]["ImageId"] = "ami-12345678"
        kind["node_config"]["SecurityGroupIds"] = [group]
        if not named:
            del kind["node_config"]["SecurityGroupIds"]
    ready = bootstrap_aws(config)
    worlds = [
        rule
        for each in account.describe_security_groups()["SecurityGroups"]
        for rule in each["IpPermissions"]
        if any(span["CidrIp"] == "0.0.0.0/0" for span in rule.get("IpRanges", []))
    ]
    assert bool(worlds) == (not named), worlds
    used = {
        tuple(k["node_config"]["SecurityGroupIds"]) for k in ready["available_node_types"].values()
    }
    assert (used == {(group,)}) == named
