"""The parts of the manifests know each other: whatever is named is there, whatever selects finds."""

import json
from pathlib import Path

from support.rig.kubernetes import (
    COMPONENT,
    METRICS,
    NAME,
    ROOT,
    Object,
    Peer,
    built,
    may,
    needed,
    of_kind,
    plain,
    ready,
    renew,
    selects,
    title,
    workloads,
)


def test_each_workload_selects_its_own_pods_and_nobody_else_s(objects):
    found = workloads(objects)
    for each in found:
        selector = each.whole["spec"].get("selector")
        if selector is not None:  # a Job makes its own
            assert [other.name for other in found if selects(selector, other.labels)] == [each.name]


def test_each_service_leads_to_the_bus_of_its_name(objects):
    services = of_kind(objects, "Service")
    assert len(services) == 2
    for each in services:
        selector = {"matchLabels": each["spec"]["selector"]}
        (bus,) = (pod for pod in workloads(objects) if selects(selector, pod.labels))
        assert bus.name == each["metadata"]["name"]
        assert {port["targetPort"] for port in each["spec"]["ports"]} == {
            port["name"] for port in bus.container["ports"]
        }


def test_no_policy_and_no_budget_is_about_nobody(objects):
    for each in of_kind(objects, "NetworkPolicy", "PodDisruptionBudget"):
        selector = each["spec"].get("podSelector", each["spec"].get("selector"))
        assert any(selects(selector, pod.labels) for pod in workloads(objects)), title(each)


def test_each_file_and_variable_that_a_pod_is_given_is_there(objects):
    given = {
        (each["kind"], each["metadata"]["name"]): each for each in of_kind(objects, "ConfigMap", "Secret")
    }
    used = set()
    for each in workloads(objects):
        for path, mount in each.mounts.items():
            volume = mount["of"]
            if "configMap" in volume or "secret" in volume:
                key = "ConfigMap" if "configMap" in volume else "Secret"
                name = (
                    volume["configMap"]["name"] if "configMap" in volume else volume["secret"]["secretName"]
                )
                assert (key, name) in given, f"{each.name} mounts {name}"
                assert mount.get("subPath", "") in {"", *given[key, name]["data"]}, f"{each.name}: {path}"
                assert mount["readOnly"], f"{each.name}: {path}"
                used.add((key, name))
        for source in each.container.get("envFrom", []):
            used.add(("ConfigMap", source["configMapRef"]["name"]))
            assert ("ConfigMap", source["configMapRef"]["name"]) in given
    assert used == set(given), "some are made for nobody"


def test_each_program_is_given_a_url_for_every_variable_that_names_a_file(objects):
    secrets = {each["metadata"]["name"]: each["data"] for each in of_kind(objects, "Secret")}
    for each in workloads(objects):
        for variable in each.container.get("env", []):
            if variable["name"].endswith("_FILE"):
                folder, _, file = variable["value"].rpartition("/")
                assert file in secrets[each.mounts[folder]["of"]["secret"]["secretName"]], variable


def test_each_volume_is_mounted_and_each_class_of_priority_is_there(objects):
    classes = {each["metadata"]["name"] for each in of_kind(objects, "PriorityClass")}
    for each in workloads(objects):
        volumes = {volume["name"] for volume in each.pod["volumes"]}
        assert volumes <= {mount["name"] for mount in each.container["volumeMounts"]}
        assert each.pod.get("priorityClassName") in {None, *classes}


def test_nothing_is_so_immutable_that_it_can_t_be_applied_twice(objects):
    """The server forgets `data: {}`, so it comes again as a change; of an immutable Secret it takes none."""
    assert not [title(each) for each in of_kind(objects, "ConfigMap", "Secret") if each.get("immutable")]


def test_all_is_in_one_namespace_and_says_what_it_belongs_to(objects):
    (space,) = of_kind(objects, "Namespace")
    cluster_wide = {"Namespace", "PriorityClass"}
    for each in objects:
        at = each["metadata"]
        assert each["kind"] in cluster_wide or at["namespace"] == space["metadata"]["name"], title(each)
        assert at["labels"]["app.kubernetes.io/part-of"] == "marketswarm", title(each)
    for each in workloads(objects):
        assert {NAME, COMPONENT, "app.kubernetes.io/part-of"} <= set(each.labels)


def test_what_changed_starts_anew_and_nothing_else_does(tmp_path):
    needed()
    k8s = ready(tmp_path)
    files = {file: file.read_bytes() for file in k8s.rglob("*") if file.is_file()}
    job, pods = jobs_and_pods(k8s)

    renew(k8s)  # passwords are made once
    assert {file: file.read_bytes() for file in k8s.rglob("*") if file.is_file()} == files

    other = tmp_path / "other.json"
    other.write_text(json.dumps(truth_with_another_pause()), encoding="utf-8")
    renew(k8s, other)  # agents follow it where they run
    another_job, same_pods = jobs_and_pods(k8s)
    assert another_job != job
    assert plain(another_job) == plain(job) == "bootstrap"
    assert same_pods == pods

    (k8s / "fleet/secrets/mesh").unlink()
    renew(k8s, other)  # a new password
    same_job, other_pods = jobs_and_pods(k8s)
    assert same_job == another_job
    assert {name for name in pods if pods[name] != other_pods[name]} == {
        "mesh",
        "system-redis",
        "market-redis",
    }


def jobs_and_pods(k8s: Path) -> tuple[str, dict[str, Object]]:
    """The name of the Job, which is the ConfigMap's with the truth; and what pods are made of, by program."""
    objects = built(k8s / "overlays/single-node")
    (job,) = (str(each["metadata"]["name"]) for each in of_kind(objects, "Job"))
    assert job in {each["metadata"]["name"] for each in of_kind(objects, "ConfigMap")}
    return job, {each.name: each.pod for each in workloads(objects) if each.whole["kind"] != "Job"}


def truth_with_another_pause() -> Object:
    truth = json.loads((ROOT / "truth.json").read_bytes())
    truth["services"]["rss_agg"]["settings"]["poll_sec"] = 61
    return dict(truth)


def test_with_the_component_every_agent_tells_prometheus_where_it_is_announced_and_let_in(made):
    objects = made["objects"][METRICS]
    agents = [each for each in workloads(objects) if each.labels[COMPONENT] == "agent"]
    assert len(agents) == 8
    for each in agents:
        said = {variable["name"]: variable["value"] for variable in each.container["env"]}
        annotations = each.whole["spec"]["template"]["metadata"]["annotations"]
        (port,) = each.container["ports"]
        assert said["METRICS_PORT"] == annotations["prometheus.io/port"] == str(port["containerPort"])
        asking = Peer({"app": "prometheus"}, namespace="monitoring")
        policies = of_kind(objects, "NetworkPolicy")
        assert may(policies, asking, Peer(each.labels), port["containerPort"])
        assert not may(policies, asking, Peer(each.labels), port["containerPort"] + 1)
        assert not may(
            policies, Peer({"app": "x"}, namespace="default"), Peer(each.labels), port["containerPort"]
        )
