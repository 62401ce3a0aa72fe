"""The manifests of deploy/k8s as a cluster would get them: made ready and built by kubectl.

What the objects mean to each other (which pod a selector takes, who may reach whom) is worked out here by the
rules of Kubernetes; what they ought to be is said by the tests.
"""

import functools
import ipaddress
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
TRUTHS = {"fleet": ROOT / "truth.json", "fleet/market": ROOT / "examples/market.json"}
"""The truth of each fleet, by its folder in deploy/k8s."""
SHIPPED = {"single-node": "fleet", "ha": "fleet", "market": "fleet/market"}
"""The fleet of each overlay that is there."""
OVERLAYS = SHIPPED | {"ha-metrics": "fleet", "market-metrics": "fleet/market"}
"""The same with overlays such as a user would write: with the component `metrics`."""
OLDEST_KUSTOMIZE = (5, 0)  # that of kubectl 1.27
NAME = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"

Object = dict[str, Any]


def make_ready(folder: Path) -> Path:
    """Return the k8s folder of a copy of deploy/ with passwords of both fleets, and overlays with metrics."""
    made = shutil.ignore_patterns("secrets", "urls", "acl", "database", "truth.json", "*.env")
    shutil.copytree(DEPLOY, folder / "deploy", ignore=made)
    k8s = folder / "deploy/k8s"
    for fleet, truth in TRUTHS.items():
        renew(k8s / fleet, truth)
    for overlay in OVERLAYS.keys() - SHIPPED.keys():
        (k8s / "overlays" / overlay).mkdir()
        text = f"resources: [../{overlay.removesuffix('-metrics')}]\ncomponents: [../../components/metrics]\n"
        (k8s / "overlays" / overlay / "kustomization.yaml").write_text(text, encoding="utf-8")
    return k8s


def renew(fleet: Path, truth: Path) -> None:
    """Run `make kubernetes` for the fleet in this folder."""
    environ = {"PATH": os.environ["PATH"], "FLEET": str(fleet), "TRUTH_PATH": str(truth)}
    subprocess.run(["sh", "tools/kubernetes.sh"], cwd=ROOT, env=environ, check=True, capture_output=True)


def built(folder: Path) -> list[Object]:
    """The objects of a kustomization, each with what the hash of its content made of its name."""
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


@functools.cache
def why_none() -> str:
    """Why kubectl can't build these; empty when it can."""
    if shutil.which("kubectl") is None:
        return "needs kubectl on PATH"
    asked = ["kubectl", "version", "--client", "-o", "json"]
    said = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout).get(
        "kustomizeVersion", ""
    )
    found = tuple(map(int, re.findall(r"\d+", said)[:2]))
    return "" if found >= OLDEST_KUSTOMIZE else f"kubectl's kustomize is {said or 'too old'}; 5 is needed"


def needed() -> None:
    """Skips where kubectl is missing or too old: seen by the user, a failure in CI."""
    if why := why_none():
        pytest.skip(why)


# --- what there is ---


def of_kind(objects: Iterable[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def plain(name: str) -> str:
    """A name without the hash that kustomize put there."""
    return re.sub(r"-[0-9a-z]{10}$", "", name)


def title(each: Object) -> str:
    return f"{each['kind']} {plain(each['metadata']['name'])}"


@dataclass(frozen=True)
class Workload:
    """An object that makes pods: the whole object, its pods' labels and spec, and its one container."""

    whole: Object

    @property
    def name(self) -> str:
        """As in the truth and in compose."""
        return str(self.labels[NAME])

    @property
    def replicas(self) -> int:
        return int(self.whole["spec"].get("replicas", 1))

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.whole["spec"]["template"]["metadata"]["labels"])

    @property
    def pod(self) -> Object:
        return dict(self.whole["spec"]["template"]["spec"])

    @property
    def container(self) -> Object:
        (only,) = self.pod["containers"]
        return dict(only)

    @property
    def mounts(self) -> dict[str, Object]:
        """By path, with the volume that is mounted there under `of`."""
        volumes = {volume["name"]: volume for volume in self.pod["volumes"]}
        claims = self.whole["spec"].get("volumeClaimTemplates", [])
        volumes |= {claim["metadata"]["name"]: {"claim": claim} for claim in claims}
        mounts = self.container["volumeMounts"]
        return {mount["mountPath"]: mount | {"of": volumes[mount["name"]]} for mount in mounts}


def workloads(objects: Iterable[Object]) -> list[Workload]:
    return [Workload(each) for each in of_kind(objects, "Deployment", "StatefulSet", "Job")]


# --- what it means ---


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return True if a label selector matches these labels; an empty selector matches all."""
    wanted = selector.get("matchLabels", {})
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(each, labels) for each in selector.get("matchExpressions", [])
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert expression["operator"] == "In", expression  # all that ours use
    return labels.get(expression["key"]) in expression["values"]


@dataclass(frozen=True)
class Peer:
    """An end of a connection: a pod of a namespace, or an address outside."""

    labels: Mapping[str, str] | None = None
    namespace: str = "marketswarm"
    address: str = ""


def may(policies: Iterable[Object], source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Return True if the policies let `source` connect to a port of `target`."""
    specs = [each["spec"] for each in policies]
    return all(
        any(
            _is_among(other, rule.get(side)) and _is_open(rule.get("ports"), port, protocol) for rule in rules
        )
        for end, other, way, side in ((source, target, "Egress", "to"), (target, source, "Ingress", "from"))
        if (rules := _rules(specs, end, way)) is not None
    )


def _rules(specs: list[Object], end: Peer, way: str) -> list[Object] | None:
    """Return the rules about a pod in one direction; None, which allows all, if there is no policy."""
    if end.namespace != "marketswarm" or end.labels is None:
        return None
    about = [
        spec for spec in specs if way in spec["policyTypes"] and selects(spec["podSelector"], end.labels)
    ]
    return [rule for spec in about for rule in spec.get(way.lower(), [])] if about else None


def _is_open(ports: list[Object] | None, port: int, protocol: str) -> bool:
    return ports is None or any((each["port"], each["protocol"]) == (port, protocol) for each in ports)


def _is_among(peer: Peer, peers: list[Object] | None) -> bool:
    return peers is None or any(_is(peer, each) for each in peers)


def _is(peer: Peer, said: Object) -> bool:
    if block := said.get("ipBlock"):
        return bool(peer.address) and _inside(peer.address, block)
    if peer.labels is None:
        return False
    spaces = said.get("namespaceSelector", {"matchLabels": {"kubernetes.io/metadata.name": "marketswarm"}})
    return selects(spaces, {"kubernetes.io/metadata.name": peer.namespace}) and selects(
        said.get("podSelector", {}), peer.labels
    )


def _inside(address: str, block: Object) -> bool:
    where = ipaddress.ip_address(address)
    return where in ipaddress.ip_network(block["cidr"]) and not any(
        where in ipaddress.ip_network(each) for each in block.get("except", [])
    )


def texts(value: Any) -> Iterator[str]:
    """Every text in an object, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.items():
            yield from texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts(each)
