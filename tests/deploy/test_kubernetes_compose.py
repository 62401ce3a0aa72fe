"""The manifests, compose.yaml and truth.json describe one fleet; where they differ, it is said here why."""

import json
import re
from typing import Any

import pytest
import yaml

from support.rig.kubernetes import COMPONENT, ROOT, Workload, of_kind, workloads

TRUTH = json.loads((ROOT / "truth.json").read_bytes())
AGENT, BUS = "agent", "bus"

# in compose alone, and what does the same here
NOT_HERE = {
    "access": "tools/kubernetes.sh, before anything starts",
    "operator": "the command line of whoever has the passwords",
    "healer-standby": "a second replica of the healer in overlays/ha",
    "prometheus": "the cluster's own: components/metrics",
    "grafana": "the cluster's own",
}
# variables that have a value in one of them alone
ONLY_HERE = {
    "TRUTH_WAIT_SEC": "nothing starts in order here",
    "BOOTSTRAP_TIMEOUT_SEC": "nothing starts in order here",
}
ONLY_IN_COMPOSE = {
    "METRICS_HOST": "components/metrics sets it, with METRICS_PORT",
    "METRICS_ALLOWED_HOSTS": "pods are scraped by their addresses",
    "BOARD_HOST": "port-forward reaches the pod's own loopback, and a container's nobody",
    "BOARD_OPEN_TO": "the same",
}
UNITS = {"k": 10, "m": 20, "g": 30, "Ki": 10, "Mi": 20, "Gi": 30}


def filled_in(text: str) -> str:
    """What compose makes of a text when nothing is set."""
    plain = re.sub(r"\$\{[A-Z_]+(?::?-([^}]*)|:?\+[^}]*)?\}", lambda found: found[1] or "", text)
    return plain.replace("$$", "$")


def size(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]*)", text).groups()  # type: ignore[union-attr]
    return int(number) << UNITS[unit]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    whole = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return dict(whole["services"])


def mounted(service: dict[str, Any]) -> set[str]:
    """The paths where a container of compose has something mounted."""
    said = service.get("volumes", [])
    return {each["target"] if isinstance(each, dict) else each.split(":")[1] for each in said}


def of_compose(service: dict[str, Any]) -> dict[str, Any]:
    """What both say of a program, in one form."""
    (tmpfs,) = service["tmpfs"]
    path, _, options = tmpfs.partition(":")
    health = service.get("healthcheck", {}).get("test", [None])
    said = service.get("environment", {})
    return {
        "image": filled_in(service["image"]),
        "command": service["command"],
        "memory": size(filled_in(service["mem_limit"])),
        "grace": service.get("stop_grace_period"),
        "tmp": (path, size(dict(each.split("=") for each in options.split(","))["size"])),
        "read_only": service["read_only"],
        "drop": service["cap_drop"],
        "no_more": service["security_opt"] == ["no-new-privileges:true"],
        "health": filled_in(health[-1]) if health[0] == "CMD-SHELL" else " ".join(health[1:]),
        "environment": {key: value for key, value in said.items() if value and filled_in(value)},
        "secrets": bool(service.get("secrets")),
    }


def of_kubernetes(each: Workload) -> dict[str, Any]:
    container, spec = each.container, each.pod
    (tmp,) = (mount for mount in each.mounts.values() if "emptyDir" in mount["of"])
    probe = container.get("readinessProbe" if each.labels[COMPONENT] == BUS else "livenessProbe")
    asked = probe["exec"]["command"] if probe else []
    return {
        "image": container["image"],
        "command": container["command"],
        "memory": size(container["resources"]["limits"]["memory"]),
        "grace": f"{spec['terminationGracePeriodSeconds']}s" if probe else None,
        "tmp": (tmp["mountPath"], size(tmp["of"]["emptyDir"]["sizeLimit"])),
        "read_only": container["securityContext"]["readOnlyRootFilesystem"],
        "drop": container["securityContext"]["capabilities"]["drop"],
        "no_more": not container["securityContext"]["allowPrivilegeEscalation"],
        "health": asked[-1] if asked[:2] == ["sh", "-c"] else " ".join(asked),
        "environment": {each["name"]: each["value"] for each in container.get("env", [])},
        "secrets": "/secrets" in each.mounts,
    }


def test_the_same_programs_run_in_both(objects, compose):
    assert {each.name for each in workloads(objects)} == set(compose) - set(NOT_HERE)
    assert set(NOT_HERE) <= set(compose)


def test_each_program_is_told_allowed_and_asked_the_same_in_both(objects, compose):
    for each in workloads(objects):
        here, there = of_kubernetes(each), of_compose(compose[each.name])
        assert set(ONLY_HERE) & set(there["environment"]) == set()
        here["environment"] = {k: v for k, v in here["environment"].items() if k not in ONLY_HERE}
        there["environment"] = {k: v for k, v in there["environment"].items() if k not in ONLY_IN_COMPOSE}
        assert here == there, each.name


def test_each_program_finds_the_same_files_in_both(objects, compose):
    for each in workloads(objects):
        memory = {"/tmp", "/secrets"}  # noqa: S108 - compose says these elsewhere
        # a folder of all users there, here that of this bus alone
        here = {"/etc/redis/users" if path.startswith("/etc/redis/users/") else path for path in each.mounts}
        assert here - memory == mounted(compose[each.name]), each.name


def test_nobody_is_another_user_than_in_compose(objects, compose):
    (image_user,) = re.findall(
        r"^USER (\d+):\d+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )[-1:]
    for each in workloads(objects):
        assert str(each.pod["securityContext"]["runAsUser"]) == compose[each.name].get("user", image_user)


def test_every_service_of_the_truth_runs_and_nobody_else_beats(objects):
    agents = {each.name for each in workloads(objects) if each.labels[COMPONENT] == AGENT}
    assert agents == set(TRUTH["services"])


def test_every_bus_of_the_truth_is_a_server_where_the_truth_says(objects):
    services = {
        each["metadata"]["name"]: each["spec"]["ports"][0]["port"] for each in of_kind(objects, "Service")
    }
    urls = {f"redis://{name}:{port}" for name, port in services.items()}
    assert urls == {bus["url"] for bus in TRUTH["buses"].values()}
    assert set(services) == set(TRUTH["buses"])


def test_a_bus_finds_its_configuration_and_its_users_where_it_looks(objects):
    secrets = {each["metadata"]["name"]: each["data"] for each in of_kind(objects, "Secret")}
    configuration = {
        each["metadata"]["name"]: each["data"] for each in of_kind(objects, "ConfigMap") if "data" in each
    }
    for each in workloads(objects):
        if each.labels[COMPONENT] == BUS:
            conf = each.mounts["/etc/redis/redis.conf"]
            text = configuration[conf["of"]["configMap"]["name"]][conf["subPath"]]
            assert text == (ROOT / f"deploy/redis/{each.name}.conf").read_text(encoding="utf-8")
            for limits in re.findall(r"^include (\S+)$", text, re.MULTILINE):
                there = each.mounts[limits]
                said = configuration[there["of"]["configMap"]["name"]][there["subPath"]]
                assert said == (ROOT / "deploy/redis/limits.conf").read_text(encoding="utf-8")
            folder, _, file = re.search(r"^aclfile (\S+)$", text, re.MULTILINE)[1].rpartition("/")  # type: ignore[index]
            assert file in secrets[each.mounts[folder]["of"]["secret"]["secretName"]]
            assert re.search(r"^dir (\S+)$", text, re.MULTILINE)[1] in each.mounts  # type: ignore[index]


def test_a_standby_in_compose_is_a_replica_here(ha, compose):
    standby = {**compose["healer-standby"]}
    assert standby.pop("profiles") == ["standby"]
    assert standby == compose["healer"]
    (healer,) = (each for each in workloads(ha) if each.name == "healer")
    assert healer.replicas == 2
