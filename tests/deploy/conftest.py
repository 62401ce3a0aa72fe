"""The manifests, made ready and built once for all tests of a run."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from support.rig import kubernetes as rig


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The objects of each overlay, and the folder of their fleet; xdist's workers share them."""
    rig.needed()
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kubernetes.json"
    if not shared.exists():
        folder = tmp_path_factory.mktemp("kubernetes")
        k8s = rig.ready(folder)
        rig.with_component(k8s, rig.METRICS)
        objects = {name: rig.built(k8s / "overlays" / name) for name in (*rig.OVERLAYS, rig.METRICS)}
        draft = folder / "made.json"
        draft.write_text(json.dumps({"fleet": str(k8s / "fleet"), "objects": objects}), encoding="utf-8")
        draft.replace(shared)  # whole or not at all: another worker may look just now
    return dict(json.loads(shared.read_text(encoding="utf-8")))


@pytest.fixture
def fleet(made: dict[str, Any]) -> Path:
    """The folder with passwords, URLs and users."""
    return Path(made["fleet"])


@pytest.fixture(params=rig.OVERLAYS)
def objects(made: dict[str, Any], request: pytest.FixtureRequest) -> list[rig.Object]:
    """What a cluster would get of an overlay."""
    return list(made["objects"][request.param])


@pytest.fixture
def ha(made: dict[str, Any]) -> list[rig.Object]:
    return list(made["objects"]["ha"])
