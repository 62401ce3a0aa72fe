"""What the truth says of targets, to those who tell people of them."""

import orjson
import pytest

from marketswarm.truth import Probed, load, probed, probed_as


def truth(targets, **section):
    document = {"services": {"massive": {**section, "settings": {"targets": targets}}, "mesh": {}}}
    return load(orjson.dumps(document)).truth


def test_a_target_has_what_it_says_and_else_what_its_service_has():
    found = truth(
        [
            {"name": "a"},
            {"name": "b/c", "severity": "critical", "tags": ["x"], "depends_on": ["mesh", "massive/a"]},
            {"name": "d", "bus": "market-redis"},
        ],
        severity="info",
        tags=["outside"],
    )
    assert list(probed(found)) == [
        Probed("massive/a", "info", ("outside",)),
        Probed("massive/b/c", "critical", ("outside", "x"), ("mesh", "massive/a")),
        Probed("massive/d", "info", ("outside",), ("bus:market-redis",)),
    ]
    assert probed_as(found, "massive/b/c") == list(probed(found))[1]


@pytest.mark.parametrize("svc", ["massive", "massive/", "massive/z", "mesh/a", "nobody/a", "", "/", "bus:x"])
def test_what_is_no_target_is_none(svc):
    assert probed_as(truth([{"name": "a"}]), svc) is None


@pytest.mark.parametrize(
    "targets",
    [
        None,
        {},
        "x",
        7,
        [None, 7, "x", [], {}, {"name": 7}],
        [{"name": "a", "tags": 5, "depends_on": {"b": 1}}],
    ],
)
def test_what_makes_no_sense_is_passed_over(targets):
    assert [each.svc for each in probed(truth(targets))] in ([], ["massive/a"])


def test_a_severity_that_is_none_is_that_of_the_service():
    assert next(probed(truth([{"name": "a", "severity": 5}]))).severity == "warning"
