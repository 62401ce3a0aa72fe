"""The manifests, compose.yaml and truth.json describe one fleet; where they differ, it is said here why."""

import re
from typing import Any

from marketswarm.fleet.postgres import SETTINGS
from support.compose_files import DOCUMENTS, FLEETS, TRUTHS, Service, filled_in, get_target, size
from support.rig.kubernetes import COMPONENT, ROOT, SHIPPED, Workload, of_kind, workloads

AGENT, BUS, DATABASE = "agent", "bus", "database"
COMPOSE = {overlay: "market" if "market" in fleet else "fleet" for overlay, fleet in SHIPPED.items()}

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
    "BOARD_BRAND_FOLDER": "a logo is a ConfigMap of your own, and a patch that mounts it",
    "BOARD_TLS_PORT": "the board of a cluster is published to no other machine",
}


def of_compose(service: Service) -> dict[str, Any]:
    """What both say of a program, in one form."""
    health = service.get("healthcheck", {}).get("test", [None])
    memory = {path: dict(each.split("=") for each in options.split(","))["size"]
              for path, _, options in (each.partition(":") for each in service["tmpfs"])}  # fmt: skip
    memory |= {"/dev/shm": service["shm_size"]} if "shm_size" in service else {}  # noqa: S108 - the container's
    return {
        "image": filled_in(service["image"]),
        "command": service.get("command"),
        "memory": size(filled_in(service["mem_limit"])),
        "grace": service.get("stop_grace_period") if health[0] else None,
        "memory file systems": {path: size(each) for path, each in memory.items()},
        "read-only": service["read_only"],
        "drops": service["cap_drop"],
        "no more": service["security_opt"] == ["no-new-privileges:true"],
        "health": filled_in(health[-1]) if health[0] == "CMD-SHELL" else " ".join(health[1:]),
        "environment": {k: v for k, v in service.get("environment", {}).items() if v and filled_in(v)},
        "secrets": bool(service.get("secrets")),
    }


def list_awaited(spec: dict[str, Any]) -> list[str]:
    return [word for each in spec.get("initContainers", ()) for word in each["command"]]


def of_kubernetes(each: Workload) -> dict[str, Any]:
    container, spec = each.container, each.pod
    memory = {
        path: mount["of"]["emptyDir"] for path, mount in each.mounts.items() if "emptyDir" in mount["of"]
    }
    is_server = each.labels[COMPONENT] in (BUS, DATABASE)
    probe = container.get("readinessProbe" if is_server else "livenessProbe")
    asked = probe["exec"]["command"] if probe else []
    return {
        "image": container["image"],
        # what its init container waits for, its container waits for in Compose
        "command": list_awaited(spec) + container["command"] if "command" in container else None,
        "memory": size(container["resources"]["limits"]["memory"]),
        "grace": f"{spec['terminationGracePeriodSeconds']}s" if probe else None,
        "memory file systems": {path: size(each["sizeLimit"]) for path, each in memory.items()},
        "read-only": container["securityContext"]["readOnlyRootFilesystem"],
        "drops": container["securityContext"]["capabilities"]["drop"],
        "no more": not container["securityContext"]["allowPrivilegeEscalation"],
        "health": asked[-1] if asked[:2] == ["sh", "-c"] else " ".join(asked),
        "environment": {each["name"]: each["value"] for each in container.get("env", [])},
        "secrets": "/secrets" in each.mounts,
    }


def list_pairs(overlays):
    """Yield each program of each overlay, with the service of compose that it is."""
    for overlay, fleet in COMPOSE.items():
        for each in workloads(overlays[overlay]):
            yield f"{overlay}: {each.name}", each, FLEETS[fleet][each.name]


def test_the_same_programs_run_in_both_and_every_service_of_the_truth_does(overlays):
    assert set(NOT_HERE) <= set(FLEETS["fleet"])
    for overlay, fleet in COMPOSE.items():
        found = workloads(overlays[overlay])
        assert {each.name for each in found} == set(FLEETS[fleet]) - set(NOT_HERE), overlay
        assert {each.name for each in found if each.labels[COMPONENT] == AGENT} == set(TRUTHS[fleet]), overlay


def test_each_program_is_told_allowed_and_asked_the_same_in_both(overlays):
    for name, each, service in list_pairs(overlays):
        here, there = of_kubernetes(each), of_compose(service)
        if each.labels[COMPONENT] == DATABASE:  # the pod has its passwords before it starts
            started = re.findall(r"^exec docker-entrypoint.sh (.+)$", there.pop("command")[-1], re.MULTILINE)
            assert started == [" ".join(each.container["args"])]
            assert here.pop("command") is None
            given = dict(word.split("=") for word in each.container["args"] if "=" in word)
            assert given.items() <= SETTINGS.items()
            folders = [side["environment"].pop("PGDATA") for side in (here, there)]
            assert folders[0].startswith(f"{folders[1]}/")  # not a volume's own folder
        assert set(ONLY_HERE) & set(there["environment"]) == set()
        here["environment"] = {k: v for k, v in here["environment"].items() if k not in ONLY_HERE}
        there["environment"] = {k: v for k, v in there["environment"].items() if k not in ONLY_IN_COMPOSE}
        assert here == there, name


def test_each_program_finds_the_same_files_in_both(overlays):
    for name, each, service in list_pairs(overlays):
        memory = {"/tmp", "/secrets", "/var/run/postgresql", "/dev/shm"}  # noqa: S108 - compose says these elsewhere
        # a folder of all users there, here that of one server alone; a script there, its folder here
        here, there = (
            {re.sub(r"^(/etc/\w+/users|/docker-entrypoint-initdb\.d)/.*", r"\1", path) for path in paths}
            for paths in (each.mounts, map(get_target, service.get("volumes", [])))
        )
        # a recording is too large for a cluster, what listens in one is published to no other machine, and
        # its logo is a ConfigMap of its owner
        assert here - memory == there - {"/app/examples", "/etc/redis/tls", "/tls", "/brand"}, name


def test_no_program_is_another_user_than_in_compose(overlays):
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    image_user = re.findall(r"^USER (\d+):\d+$", dockerfile, re.MULTILINE)[-1]
    for name, each, service in list_pairs(overlays):
        assert str(each.pod["securityContext"]["runAsUser"]) == service.get("user", image_user), name


def test_every_bus_of_the_truth_is_a_server_where_the_truth_says(overlays):
    for overlay, fleet in COMPOSE.items():
        services = {
            f"redis://{each['metadata']['name']}:{each['spec']['ports'][0]['port']}"
            for each in of_kind(overlays[overlay], "Service")
            if each["metadata"]["name"] != "postgres"
        }
        assert services == {bus["url"] for bus in DOCUMENTS[fleet]["buses"].values()}, overlay


def test_a_server_finds_its_configuration_and_its_users_where_it_looks(overlays):
    for overlay in SHIPPED:
        secrets, files = (
            {each["metadata"]["name"]: each.get("data", {}) for each in of_kind(overlays[overlay], kind)}
            for kind in ("Secret", "ConfigMap")
        )
        for each in workloads(overlays[overlay]):

            def read(path: str, mounts=each.mounts, files=files) -> str:
                return files[mounts[path]["of"]["configMap"]["name"]][mounts[path]["subPath"]]

            if each.labels[COMPONENT] == BUS:
                text = read("/etc/redis/redis.conf")
                assert text == (ROOT / f"deploy/redis/{each.name}.conf").read_text(encoding="utf-8")
                limits = (ROOT / "deploy/redis/limits.conf").read_text(encoding="utf-8")
                assert [read(path) for path in re.findall(r"^include (\S+)$", text, re.MULTILINE)] == [limits]
                said = dict(re.findall(r"^(aclfile|dir) (\S+)$", text, re.MULTILINE))
                folder, _, file = said["aclfile"].rpartition("/")
                assert file in secrets[each.mounts[folder]["of"]["secret"]["secretName"]]
                assert said["dir"] in each.mounts
            if each.labels[COMPONENT] == DATABASE:
                (roles,) = (mount["of"] for path, mount in each.mounts.items() if "initdb.d" in path)
                script = (ROOT / "deploy/postgres/roles.sh").read_text(encoding="utf-8")
                assert files[roles["configMap"]["name"]] == {"roles.sh": script}
                data = each.mounts["/var/lib/postgresql/data"]["of"]["claim"]
                assert data["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_a_standby_in_compose_is_a_replica_here(ha):
    standby = {**FLEETS["fleet"]["healer-standby"]}
    assert standby.pop("profiles") == ["standby"]
    assert standby == FLEETS["fleet"]["healer"]
    (healer,) = (each for each in workloads(ha) if each.name == "healer")
    assert healer.replicas == 2
