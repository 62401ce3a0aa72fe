"""The manifests, made ready and built once for all tests of a run."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest

from support.rig import kubernetes as rig

MAKING_SEC = 900
"""Nine programs make the manifests once, beside busy workers, and the other workers wait for that."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "made" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(MAKING_SEC))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The objects of each overlay, and the k8s folder with their fleets; xdist's workers share them."""
    rig.needed()
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kubernetes.json"
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            k8s = rig.make_ready(tmp_path_factory.mktemp("kubernetes"))
            objects = {name: rig.built(k8s / "overlays" / name) for name in rig.OVERLAYS}
            shared.write_text(json.dumps({"k8s": str(k8s), "objects": objects}), encoding="utf-8")
    return dict(json.loads(shared.read_text(encoding="utf-8")))


@pytest.fixture
def k8s(made: dict[str, Any]) -> Path:
    """The folder with the overlays, and with the passwords, URLs and users of both fleets."""
    return Path(made["k8s"])


@pytest.fixture
def overlays(made: dict[str, Any]) -> dict[str, list[rig.Object]]:
    """What a cluster would get of each overlay."""
    return dict(made["objects"])


@pytest.fixture
def ha(overlays: dict[str, list[rig.Object]]) -> list[rig.Object]:
    return overlays["ha"]


@pytest.fixture
def market(overlays: dict[str, list[rig.Object]]) -> list[rig.Object]:
    return overlays["market"]
