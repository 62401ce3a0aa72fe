"""What everyone may see of a fleet."""

import pytest

from marketswarm.status.service_rows import ServiceState
from services.board.fleet.visibility import is_public_path, list_public, simplify_state
from services.board.settings import PublicSettings
from support.board_examples import make_small

PUBLIC = PublicSettings(services=("mesh",), tags=("market",))
NOTHING = PublicSettings()


def test_services_are_public_by_name_or_by_tag():
    assert [one.svc for one in list_public(make_small(), PUBLIC)] == ["mesh", "prices", "quotes"]
    assert [one.svc for one in list_public(make_small(), PUBLIC, "market")] == ["prices", "quotes"]
    assert list_public(make_small(), NOTHING) == []


@pytest.mark.parametrize(
    "path",
    [
        *("/public", "/public/market"),
        *("/badge/mesh.svg", "/badge/prices.json", "/badge/tag/market.shields"),
    ],
)
def test_what_the_truth_marks_public_is_open_to_everyone(path):
    assert is_public_path(path, make_small(), PUBLIC)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/api/v1/fleet", "/services/mesh", "/incidents", "/publicity", "/badge/", "/badge/tag/"),
        *("/badge/rss_agg.svg", "/badge/nothing.svg", "/badge/tag/ingest.svg", "/badge/mesh", "/static"),
    ],
)
def test_nothing_else_is_open(path):
    assert not is_public_path(path, make_small(), PUBLIC)


@pytest.mark.parametrize("path", ["/public", "/badge/mesh.svg", "/badge/tag/market.svg"])
def test_without_a_mark_in_the_truth_nothing_is_public(path):
    assert not is_public_path(path, make_small(), NOTHING)


def test_before_the_first_look_no_service_is_known_to_be_public():
    assert not is_public_path("/badge/mesh.svg", None, PUBLIC)


def test_the_public_is_told_up_down_or_unknown():
    assert {simplify_state(state) for state in ServiceState} == {
        ServiceState.UP,
        ServiceState.DOWN,
        ServiceState.UNKNOWN,
    }
    assert simplify_state(ServiceState.SILENT) is ServiceState.DOWN
    assert simplify_state(ServiceState.FAILED) is ServiceState.DOWN, "a job whose last run failed is not up"
    assert simplify_state(ServiceState.UNWATCHABLE) is ServiceState.UNKNOWN
