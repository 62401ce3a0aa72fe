"""What a pod may do to its node and its node to it: the standard `restricted`, and what we ask beyond it.

A rule is a line of a table, and each is shown to hold something: a pod that breaks it alone is found by it.
"""

import copy

import pytest

from support.rig.kubernetes import COMPONENT, of_kind, workloads
from support.rig.pod_rules import RULES, broken

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


def test_every_pod_keeps_every_rule(objects):
    assert {each.name: broken(each.pod) for each in workloads(objects) if broken(each.pod)} == {}


@pytest.mark.parametrize(("rule", "where", "value"), BREAKS)
def test_what_breaks_a_rule_is_found_by_it_alone(ha, rule, where, value):
    pod = copy.deepcopy(workloads(ha)[0].pod)
    *path, last = where
    place = pod
    for step in path:
        place = place[step]
    place[last] = value  # type: ignore[index]
    assert broken(pod) == {rule}


def test_every_rule_is_broken_once():
    assert {rule for rule, _, _ in BREAKS} == set(RULES)


def test_the_namespace_lets_in_no_other_pods(objects):
    (space,) = of_kind(objects, "Namespace")
    prefix = "pod-security.kubernetes.io/"
    labels = {
        key.removeprefix(prefix): value for key, value in space["metadata"]["labels"].items() if prefix in key
    }
    assert labels == {
        f"{mode}{part}": value
        for mode in ("enforce", "audit", "warn")
        for part, value in (("", "restricted"), ("-version", "latest"))
    }


def test_every_process_that_lasts_is_asked_how_it_is_in_time(objects):
    for each in workloads(objects):
        if each.whole["kind"] == "Job":
            continue
        probes = {name: each.container[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
        for name, probe in probes.items():
            assert probe["timeoutSeconds"] <= probe["periodSeconds"] or name == "startup", each.name
        if each.labels[COMPONENT] == "agent":  # ready is who was heard; one that was not needs no restart
            asked = {name: probe["exec"]["command"][2:] for name, probe in probes.items()}
            assert asked == {"startup": [], "readiness": ["--ready"], "liveness": []}, each.name
        # longer than the agent's own watchdog takes, so that it is the one who says where it hangs
        patience = probes["liveness"]["periodSeconds"] * probes["liveness"]["failureThreshold"]
        assert patience >= 30 + 2, each.name


def test_those_that_watch_are_kept_longest(objects):
    kept = {each.name for each in workloads(objects) if "priorityClassName" in each.pod}
    assert kept == {"system-redis", "market-redis", "healer", "sentinel", "notifier"}


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
            keys = {spread["topologyKey"] for spread in each.pod["topologySpreadConstraints"]}
            assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
            for spread in each.pod["topologySpreadConstraints"]:
                assert spread["labelSelector"]["matchLabels"].items() <= each.labels.items()
