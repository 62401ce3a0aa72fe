"""The notifier's settings: mistakes are named by their path, defaults are what the docs say."""

import pytest
from pydantic import ValidationError

from marketswarm.agent.service_config import require_config
from marketswarm.channels import Severity
from marketswarm.exit import Exit
from marketswarm.truth import Heartbeat, Service
from notifier.router.policy import Policy, Route, Section


def test_nothing_said_is_grouping_reminders_and_all_channels():
    policy = Section().settings
    assert policy.group_wait_sec == 2
    assert policy.rate_limit_sec is None
    assert policy.remind_sec == (900, 3600, 14_400, 43_200)
    assert (policy.routes, policy.maintenance, policy.escalate, policy.channels) == ((), (), (), {})


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"group_wait_sec": -1}, "group_wait_sec"),
        ({"remind_sec": [3600, 900]}, "remind_sec"),
        ({"time_zone": "Europe/Zurch"}, "time_zone"),
        ({"time_zone": "Europe/Zurch"}, "Europe/Zurich"),
        ({"time_zone": "x" * 101}, "time_zone"),
        ({"time_zone": "../UTC"}, "time_zone"),
        ({"remind_sec": [900, 900]}, "remind_sec"),
        ({"routes": [{"channels": []}]}, "routes[0].channels"),
        ({"routes": [{"channels": ["a"], "tag": ["b"]}]}, "routes[0].tag"),
        ({"routes": [{"channels": ["a"], "severities": ["grave"]}]}, "routes[0].severities[0]"),
        ({"escalate": [{"after_sec": 0, "channels": ["a"]}]}, "escalate[0].after_sec"),
        ({"channels": {"ops": {"type": "slack"}}, "routes": [{"channels": ["opps"]}]}, "opps is named"),
        ({"maintenance": [{"at": "* * * * *"}]}, "maintenance[0].for_sec"),
    ],
)
def test_a_mistake_is_named_by_its_path(settings, path):
    section = Service(heartbeat=Heartbeat(channel="notifier:heartbeat"), settings=settings)
    with pytest.raises(Exit) as refusal:
        require_config(Section, "notifier", section)
    assert "services.notifier.settings" in str(refusal.value)
    assert path in str(refusal.value)


def test_a_value_is_never_repeated_in_a_mistake():
    with pytest.raises(ValidationError) as error:
        Policy.model_validate({"channels": {"ops": "https://hooks.example.org/s3cret"}})
    assert "s3cret" not in str(error.value)


def test_a_route_takes_by_name_by_tag_and_by_severity():
    route = Route(services=("rss_*",), tags=("ingest",), severities=(Severity.CRITICAL,), channels=("a",))
    assert route.matches(Severity.CRITICAL, "rss_agg", ())
    assert route.matches(Severity.CRITICAL, "massive", ("ingest",))
    assert not route.matches(Severity.CRITICAL, "massive", ())
    assert not route.matches(Severity.WARNING, "rss_agg", ())
    assert Route(channels=("a",)).matches(Severity.INFO, "any", ())
