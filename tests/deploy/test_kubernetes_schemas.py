"""The API server would take each object, by Kubernetes' own schemas; what they don't know is an error."""

import copy
import functools

import kubernetes_validate
import pytest

from support.rig.kubernetes import Object, of_kind, title

OLDEST, NEWEST = "1.29", "1.37"  # as docs/kubernetes.md says


@pytest.fixture(autouse=True)
def _each_schema_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = kubernetes_validate.utils.schema_contents
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", functools.cache(reads))


def mistakes(objects: list[Object], version: str) -> list[str]:
    found = []
    for each in objects:
        try:
            kubernetes_validate.validate(each, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{title(each)}: {'.'.join(map(str, error.path))}: {error.message}")
    return found


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_is_valid_and_has_no_unknown_field(made, version):
    assert {name: mistakes(objects, version) for name, objects in made["objects"].items()} == {
        "single-node": [],
        "ha": [],
        "metrics": [],
    }


def test_a_field_that_nobody_knows_is_found_wherever_it_is(ha):
    deployment = copy.deepcopy(of_kind(ha, "Deployment")[0])
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    deployment["spec"]["replicas"] = "two"
    (first,) = mistakes([deployment], NEWEST)
    assert "livenessprobe" in first or "replicas" in first
    del deployment["spec"]["replicas"]
    assert "livenessprobe" in mistakes([deployment], NEWEST)[0]
