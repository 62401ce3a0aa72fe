"""The objects of each overlay: valid by Kubernetes' schemas, within its rules for pods, known to each other.

Whatever is named is there, whatever selects finds. A failure names the overlay and the object.
"""

import copy
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate

from support.rig.kubernetes import (
    COMPONENT,
    NAME,
    TRUTHS,
    Object,
    Peer,
    Workload,
    built,
    may,
    of_kind,
    plain,
    renew,
    selects,
    title,
    workloads,
)
from support.rig.pod_rules import RULES, broken

OLDEST, NEWEST = "1.29", "1.37"  # as docs/kubernetes.md says

# where a pod is changed, and to what; each breaks the rule beside it and no other
BREAKS: list[tuple[str, tuple[str | int, ...], object]] = [
    ("no part of the node's", ("hostNetwork",), True),
    ("no part of the node's", ("hostPID",), True),
    ("volumes of harmless kinds", ("volumes", 0), {"name": "node", "hostPath": {"path": "/"}}),
    ("nobody is root", ("securityContext", "runAsNonRoot"), False),
    ("nobody is root", ("securityContext", "runAsUser"), 0),
    ("nobody is root", ("containers", 0, "securityContext", "runAsUser"), 0),
    ("system calls are filtered", ("securityContext", "seccompProfile", "type"), "Unconfined"),
    ("nobody becomes more", ("containers", 0, "securityContext", "allowPrivilegeEscalation"), True),
    ("nobody is privileged", ("containers", 0, "securityContext", "privileged"), True),
    ("no capability", ("containers", 0, "securityContext", "capabilities"), {"drop": ["NET_RAW"]}),
    ("no capability", ("containers", 0, "securityContext", "capabilities", "add"), ["NET_BIND_SERVICE"]),
    ("no port of the node's", ("containers", 0, "ports"), [{"containerPort": 1, "hostPort": 1}]),
    (
        "nothing can be written but what is said",
        ("containers", 0, "securityContext", "readOnlyRootFilesystem"),
        False,
    ),
    ("no token of the cluster's", ("automountServiceAccountToken",), True),
    ("no variables of the cluster's", ("enableServiceLinks",), True),
    ("an end to the memory it takes", ("containers", 0, "resources", "limits"), {}),
    ("it says what it needs", ("containers", 0, "resources", "requests"), {"memory": "1Mi"}),
    ("it is not held back", ("containers", 0, "resources", "limits", "cpu"), "1"),
    ("memory that it writes to has an end", ("volumes", 0), {"name": "tmp", "emptyDir": {}}),
    ("secrets are for its own group", ("volumes", 0), {"name": "keys", "secret": {"secretName": "x"}}),
]


def of_each_overlay(check: Callable[[list[Object], dict[str, Workload]], None]) -> Callable[..., None]:
    """Make a test of a check of an overlay's objects and pods; its first failure names the overlay."""

    def test(overlays):
        for overlay, objects in overlays.items():
            try:
                check(objects, {each.name: each for each in workloads(objects)})
            except AssertionError as error:
                error.add_note(f"of the overlay {overlay}")
                raise

    return test


def find_mistakes(objects: list[Object], version: str) -> list[str]:
    found = []
    for each in objects:
        try:
            kubernetes_validate.validate(each, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{title(each)}: {'.'.join(map(str, error.path))}: {error.message}")
    return found


def test_every_object_is_valid_and_a_field_that_is_unknown_is_found_wherever_it_is(overlays, ha, monkeypatch):
    reads = functools.cache(kubernetes_validate.utils.schema_contents)
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", reads)
    different = list({json.dumps(each): each for objects in overlays.values() for each in objects}.values())
    assert {version: find_mistakes(different, version) for version in (OLDEST, NEWEST)} == {
        OLDEST: [],
        NEWEST: [],
    }
    deployment = copy.deepcopy(of_kind(ha, "Deployment")[0])
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    assert "livenessprobe" in find_mistakes([deployment], NEWEST)[0]


# --- pods ---


@of_each_overlay
def test_every_pod_keeps_every_rule(objects, pods):
    assert {name: broken(each.pod) for name, each in pods.items() if broken(each.pod)} == {}


def test_what_breaks_a_rule_is_found_by_it_alone(ha):
    for rule, (*path, last), value in BREAKS:
        pod = copy.deepcopy(workloads(ha)[0].pod)
        place: Any = pod
        for step in path:
            place = place[step]
        place[last] = value
        assert broken(pod) == {rule}, (path, last)
    assert {rule for rule, _, _ in BREAKS} == set(RULES)


@of_each_overlay
def test_the_namespace_lets_in_no_other_pods(objects, pods):
    (space,) = of_kind(objects, "Namespace")
    prefix = "pod-security.kubernetes.io/"
    labels = space["metadata"]["labels"].items()
    assert {key.removeprefix(prefix): value for key, value in labels if prefix in key} == {
        f"{mode}{part}": value
        for mode in ("enforce", "audit", "warn")
        for part, value in (("", "restricted"), ("-version", "latest"))
    }


@of_each_overlay
def test_every_process_that_lasts_is_asked_how_it_is_in_time(objects, pods):
    for name, each in pods.items():
        if each.whole["kind"] == "Job":
            continue
        probes = {kind: each.container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
        for kind, probe in probes.items():
            assert probe["timeoutSeconds"] <= probe["periodSeconds"] or kind == "startup", name
        if each.labels[COMPONENT] == "agent":  # ready is who was heard; one that was not needs no restart
            asked = {kind: probe["exec"]["command"][2:] for kind, probe in probes.items()}
            assert asked == {"startup": [], "readiness": ["--ready"], "liveness": []}, name
        # longer than the agent's own watchdog takes, so that it is the one who says where it hangs
        patience = probes["liveness"]["periodSeconds"] * probes["liveness"]["failureThreshold"]
        assert patience >= 30 + 2, name


@of_each_overlay
def test_those_that_monitor_are_kept_longest(objects, pods):
    classes = {each["metadata"]["name"] for each in of_kind(objects, "PriorityClass")}
    kept = {
        name: each.pod["priorityClassName"] for name, each in pods.items() if "priorityClassName" in each.pod
    }
    assert set(kept) == {"system-redis", "market-redis", "healer", "sentinel", "notifier"}
    assert set(kept.values()) <= classes


# --- parts that know each other ---


@of_each_overlay
def test_each_selector_finds_its_own_pods_and_no_others(objects, pods):
    for name, each in pods.items():
        selector = each.whole["spec"].get("selector")  # a Job makes its own
        if selector is not None:
            assert [other for other in pods if selects(selector, pods[other].labels)] == [name]
    for each in of_kind(objects, "NetworkPolicy", "PodDisruptionBudget"):
        selector = each["spec"].get("podSelector", each["spec"].get("selector"))
        assert any(selects(selector, pod.labels) for pod in pods.values()), title(each)
    servers = {name for name, pod in pods.items() if pod.labels[COMPONENT] in ("bus", "database")}
    services = of_kind(objects, "Service")
    assert {each["metadata"]["name"] for each in services} == servers
    for each in services:
        selector = {"matchLabels": each["spec"]["selector"]}
        (server,) = (pod for pod in pods.values() if selects(selector, pod.labels))
        assert server.name == each["metadata"]["name"]
        ports = {port["name"] for port in server.container["ports"]}
        assert {port["targetPort"] for port in each["spec"]["ports"]} == ports


@of_each_overlay
def test_all_is_in_one_namespace_and_says_what_it_belongs_to(objects, pods):
    for each in objects:
        at = each["metadata"]
        assert each["kind"] in {"Namespace", "PriorityClass"} or at["namespace"] == "marketswarm", title(each)
        assert at["labels"]["app.kubernetes.io/part-of"] == "marketswarm", title(each)
        # the server forgets `data: {}`, so it comes again as a change, which an immutable Secret refuses
        assert not each.get("immutable"), title(each)
    for each in pods.values():
        assert {NAME, COMPONENT, "app.kubernetes.io/part-of"} <= set(each.labels)


@of_each_overlay
def test_each_file_and_variable_that_a_pod_is_given_is_there_and_none_is_made_for_no_pod(objects, pods):
    made = {
        (each["kind"], each["metadata"]["name"]): each.get("data", {})
        for each in of_kind(objects, "ConfigMap", "Secret")
    }
    used = set()
    for name, pod in pods.items():
        containers = [pod.container, *pod.pod.get("initContainers", [])]
        mounts = [mount for each in containers for mount in each.get("volumeMounts", [])]
        assert {each["name"] for each in pod.pod["volumes"]} <= {each["name"] for each in mounts}, name
        sources = {each["name"]: find_source(each) for each in pod.pod["volumes"]}
        used |= set(filter(None, sources.values()))
        for mount in mounts:
            if source := sources.get(mount["name"]):
                assert mount.get("subPath", "") in {"", *made[source]}, (name, mount)
                assert mount["readOnly"], (name, mount)
        used |= {("ConfigMap", each["configMapRef"]["name"]) for each in pod.container.get("envFrom", [])}
        for variable in pod.container.get("env", []):
            if variable["name"].endswith("_FILE"):
                folder, _, file = variable["value"].rpartition("/")
                assert file in made["Secret", pod.mounts[folder]["of"]["secret"]["secretName"]], variable
    assert used <= set(made)
    # the Job of that name takes its name from it
    assert {plain(name) for _, name in set(made) - used} == ({"gate"} if "gate" in pods else set())


def find_source(volume: Object) -> tuple[str, str] | None:
    """Return the kind and the name of what is mounted, for a ConfigMap or a Secret."""
    if "configMap" in volume:
        return "ConfigMap", volume["configMap"]["name"]
    return ("Secret", volume["secret"]["secretName"]) if "secret" in volume else None


def test_what_changed_starts_anew_and_nothing_else_does(made, market, tmp_path):
    k8s = Path(shutil.copytree(Path(made["k8s"]).parent, tmp_path / "deploy")) / "k8s"
    fleet, truth = k8s / "fleet/market", json.loads(TRUTHS["fleet/market"].read_bytes())
    truth["services"]["sources"]["settings"]["load"] = {"refresh": "7 * * * *"}
    other = tmp_path / "other.json"
    other.write_text(json.dumps(truth), encoding="utf-8")
    before = read_files(fleet)
    jobs, pods = list_jobs(market), list_lasting(market)
    assert {plain(name) for name in jobs} == {"bootstrap", "gate"}
    assert jobs <= {each["metadata"]["name"] for each in of_kind(market, "ConfigMap")}

    renew(fleet, other)  # passwords are made once, and agents follow the truth where they run
    assert read_files(fleet) == before
    after = built(k8s / "overlays/market")
    assert list_jobs(after).isdisjoint(jobs)
    assert {plain(name) for name in list_jobs(after)} == {"bootstrap", "gate"}
    assert list_lasting(after) == pods

    (fleet / "secrets/mesh").unlink()
    renew(fleet, other)
    last = built(k8s / "overlays/market")
    assert list_jobs(last) == list_jobs(after)
    changed = {name for name, pod in list_lasting(last).items() if pod != pods[name]}
    assert changed == {"mesh", "system-redis", "market-redis"}


def read_files(fleet: Path) -> dict[Path, bytes]:
    """Return what is made for a fleet, but for its truth."""
    made = (path for path in fleet.rglob("*") if path.is_file() and path.name != "truth.json")
    return {path: path.read_bytes() for path in made}


def list_jobs(objects: list[Object]) -> set[str]:
    return {str(each["metadata"]["name"]) for each in of_kind(objects, "Job")}


def list_lasting(objects: list[Object]) -> dict[str, Object]:
    """Return what the pods that last are made of, by program."""
    return {each.name: each.pod for each in workloads(objects) if each.whole["kind"] != "Job"}


def test_with_the_component_every_agent_tells_prometheus_where_it_is_announced_and_let_in(overlays):
    asking, stranger = (
        Peer({"app": "prometheus"}, namespace="monitoring"),
        Peer({"app": "x"}, namespace="default"),
    )
    for overlay, objects in overlays.items():
        policies = of_kind(objects, "NetworkPolicy")
        for each in workloads(objects):
            scraped = overlay.endswith("-metrics") and each.labels[COMPONENT] == "agent"
            assert may(policies, asking, Peer(each.labels), 9100) == scraped, (overlay, each.name)
            assert not may(policies, asking, Peer(each.labels), 9101), (overlay, each.name)
            assert not may(policies, stranger, Peer(each.labels), 9100), (overlay, each.name)
            said = {variable["name"]: variable["value"] for variable in each.container.get("env", [])}
            assert ("METRICS_PORT" in said) == scraped, (overlay, each.name)
            if scraped:
                annotations = each.whole["spec"]["template"]["metadata"]["annotations"]
                (port,) = each.container["ports"]
                given = (said["METRICS_PORT"], annotations["prometheus.io/port"], str(port["containerPort"]))
                assert given == ("9100",) * 3, (overlay, each.name)


# --- the market ---


def test_the_agents_of_the_market_are_as_all_agents_are(k8s):
    """Kustomize reads no file outside the folder of the component, so it has a copy."""
    copies = [k8s / folder / "every-agent.yaml" for folder in ("components/market", "base")]
    assert copies[0].read_bytes() == copies[1].read_bytes()


def test_readers_begin_after_the_gate_with_their_own_password_and_no_others_wait(market):
    pods = {each.name: each for each in workloads(market)}
    waiting = {name: pod.pod["initContainers"] for name, pod in pods.items() if "initContainers" in pod.pod}
    assert set(waiting) == {"bars", "archive", "signals"}
    for name, (each,) in waiting.items():
        assert each["image"] == pods[name].container["image"]
        assert each["env"] == [{"name": "MARKET_REDIS_URL_FILE", "value": "/keys/market-redis"}]
        assert each["command"] == ["python", "-m", "services.sources.await_gate"]


def test_backups_are_on_a_claim_that_one_pod_at_a_time_mounts(market):
    (archive,) = (each for each in workloads(market) if each.name == "archive")
    environ = {each["name"]: each["value"] for each in archive.container["env"]}
    volume = archive.mounts[environ["ARCHIVE_BACKUP_FOLDER"]]["of"]
    claims = {each["metadata"]["name"] for each in of_kind(market, "PersistentVolumeClaim")}
    assert volume["persistentVolumeClaim"]["claimName"] in claims
    assert archive.whole["spec"]["strategy"] == {"type": "Recreate"}


# --- high availability ---


def test_what_leads_by_a_lease_runs_twice_on_two_nodes_and_is_renewed_one_by_one(ha):
    twice = {each.name: each for each in workloads(ha) if each.replicas > 1}
    assert set(twice) == {"healer", "notifier"}
    for name, each in twice.items():
        (term,) = each.pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        assert term["labelSelector"]["matchLabels"].items() <= each.labels.items(), name
        assert each.whole["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_a_budget_leaves_one_and_lets_one_go(ha):
    budgets = of_kind(ha, "PodDisruptionBudget")
    assert len(budgets) == 3
    for each in budgets:
        wanted = each["spec"]["selector"]["matchLabels"].items()
        pods = sum(pod.replicas for pod in workloads(ha) if wanted <= pod.labels.items())
        assert (each["spec"]["minAvailable"], pods) == (1, 2), each["metadata"]["name"]


def test_the_buses_are_apart_and_the_agents_spread(ha):
    for each in workloads(ha):
        if each.labels[COMPONENT] == "bus":
            (term,) = each.pod["affinity"]["podAntiAffinity"][
                "requiredDuringSchedulingIgnoredDuringExecution"
            ]
            assert term["labelSelector"]["matchLabels"].items() <= each.labels.items()
        if each.labels[COMPONENT] == "agent":
            spreads = each.pod["topologySpreadConstraints"]
            assert {one["topologyKey"] for one in spreads} == {
                "kubernetes.io/hostname",
                "topology.kubernetes.io/zone",
            }
            for one in spreads:
                assert one["labelSelector"]["matchLabels"].items() <= each.labels.items()
