import orjson
import pytest

from marketswarm.truth import parse_truth
from services.board.board import list_sections
from services.board.settings import PublicSettings


def list_names(services, public=None):
    truth = parse_truth(orjson.dumps({"services": services})).truth
    return [name for _, name in list_sections(truth, PublicSettings(**(public or {})))]


def test_who_may_not_change_the_truth_is_offered_no_form_to_add_to_it():
    truth = parse_truth(b'{"services": {"backup": {}}}').truth
    assert ("/truth/add", "Add") in list_sections(truth, PublicSettings(), may_seed=True)
    assert ("/truth/add", "Add") not in list_sections(truth, PublicSettings())


def publishing(key):
    return {"feed": {"access_points": {"publish_to": [{"bus": "market-redis", "key": key}]}}}


ALWAYS = ["Fleet", "Incidents", "Alerts", "Truth", "Notifications"]


def test_a_fleet_of_jobs_has_the_pages_that_each_fleet_needs():
    assert list_names({"backup": {}}) == ALWAYS


@pytest.mark.parametrize(
    ("services", "public", "more"),
    [
        (publishing("feed:heartbeat"), {}, set()),
        (publishing("health:feed"), {}, set()),
        (publishing("rss:items"), {}, {"Topology"}),
        (publishing("bars:bars"), {}, {"Topology", "Market"}),
        ({"shop": {}}, {"services": ("shop",)}, {"Public"}),
        ({"shop": {}}, {"tags": ("shown",)}, {"Public"}),
    ],
)
def test_the_menu_has_what_the_truth_has_something_for(services, public, more):
    assert set(list_names(services, public)) == {*ALWAYS, *more}
