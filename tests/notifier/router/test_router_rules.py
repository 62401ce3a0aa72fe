"""What the medic's rules tell is told like the news of services: severity, silences, causes, ends."""

import pytest

from marketswarm.event import Kind
from notifier.router.incident import Decision
from support.simulation.router import Town

MISS, OK = Kind.MONITOR_MISS, Kind.MONITOR_OK
SERVICES = {"feed": {"tags": ["ingest"]}, "mesh": {}, "medic": {}}


def town():
    return Town(SERVICES)


def test_a_rule_that_holds_and_its_end_are_told_in_one_thread():
    place = town()
    assert place.down("medic/memory/feed", MISS) is Decision.TELL
    place.run(3)
    miss = place.last()
    place.run(60)
    assert place.up("medic/memory/feed", OK) is Decision.TELL
    place.run(3)
    assert place.titles() == ["medic/memory/feed holds", "medic/memory/feed no longer holds"]
    assert place.last().closes == (miss.id,)


@pytest.mark.parametrize(
    ("named", "severity"),
    [("critical", "critical"), ("info", "info"), (None, "warning"), ("panic", "warning")],
)
def test_it_is_as_urgent_as_its_event_says(named, severity):
    place = town()
    place.down("medic/memory/feed", MISS, severity=named)
    place.run(3)
    assert place.last().severity.value == severity


def test_a_check_of_the_signals_is_as_urgent_as_its_event_says():
    place = town()
    place.down("signals/witness", Kind.SIGNALS_MISS, severity="critical")
    place.run(3)
    assert place.last().severity.value == "critical"
    assert place.titles() == ["signals/witness fails"]


@pytest.mark.parametrize(
    ("miss", "ok", "svc"),
    [(MISS, OK, "medic/memory/feed"), (Kind.SIGNALS_MISS, Kind.SIGNALS_OK, "signals/witness")],
)
def test_each_outage_of_a_rule_takes_the_route_of_the_severity_in_its_own_event(miss, ok, svc):
    routes = [{"severities": ["critical"], "channels": ["pager"]}, {"channels": ["team"]}]
    place = Town(SERVICES, ["team", "pager"], routes=routes, rate_limit_sec=0)
    for severity, channel in (("warning", "team"), ("critical", "pager"), ("warning", "team")):
        place.down(svc, miss, severity=severity)
        place.run(3)
        assert (place.last().severity.value, place.messages[-1][2]) == (severity, (channel,))
        place.up(svc, ok)
        place.run(3)


def test_the_severity_of_another_event_is_that_of_the_truth():
    place = town()
    place.down("feed", severity="critical")
    place.run(3)
    assert place.last().severity.value == "warning"


@pytest.mark.parametrize(
    ("names", "tags"), [(["medic/memory/feed"], []), (["medic/memory/*"], []), ([], ["ingest"])]
)
def test_it_can_be_silenced_by_name_and_by_the_tags_of_its_service(names, tags):
    place = town()
    place.be_silent(*names, tags=tags, sec=3600)
    assert place.down("medic/memory/feed", MISS) is Decision.SILENCED


def test_while_the_service_is_down_only_that_it_was_given_up_or_waits_for_a_person_is_told():
    place = town()
    place.down("feed")
    place.run(3)
    assert place.down("medic/memory/feed", MISS) is Decision.DEPENDS
    assert place.down("medic/escalated/feed", MISS) is Decision.TELL
    assert place.down("medic/proposed/feed", MISS) is Decision.TELL
    assert place.down("medic/memory/mesh", MISS) is Decision.TELL


def test_a_batch_of_many_messages_is_sent_whole():
    names = list("abcdef")
    town = Town(names, group_wait_sec=2.0)
    for svc in names:
        town.down(svc)
    town.run(5)
    for svc in names:
        event, raw = town.event(Kind.HEARTBEAT_OK, svc, down_sec=35.0)
        assert town.router.handle_event(event, raw, town.now) is Decision.TELL
    due = town.router.take_due(town.now + 5, lambda key: f"not delivered about {key}")
    assert [each.message.title for each in due] == [f"{svc} is up again" for svc in names]
