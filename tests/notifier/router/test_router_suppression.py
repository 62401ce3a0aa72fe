"""What people are spared: what suffers from a cause they know, what they silenced."""

import pytest

from marketswarm.event import Kind
from marketswarm.operator.silences import Silence
from notifier.router.incident import Decision
from support.simulation.router import TIMEOUT_SEC, Town

HOUR = 3600.0


# -- dependencies


TREE = {"db": {}, "api": {"depends_on": ["db"]}, "web": {"depends_on": ["api"]}, "lone": {}}


@pytest.mark.parametrize("order", ["db api web lone", "web api lone db"])
def test_what_dies_with_its_cause_is_folded_into_the_causes_line(order):
    town = Town(TREE)
    for svc in order.split():
        town.down(svc)
    town.run(3)
    [message] = [message for _, message, _ in town.messages]
    assert message.title == "4 services are down"
    assert len(message.lines) == 4
    assert sum("which it depends on, is down" in line for line in message.lines) == 2


def test_the_cause_alone_names_those_that_suffer_from_it():
    town = Town(TREE)
    for svc in ("db", "web", "api"):
        town.down(svc)
    town.run(3)
    assert town.titles() == ["db is down, and 2 that depend on it"]
    assert "with it web, api" in town.last().text
    for svc in ("db", "web", "api"):
        town.up(svc)
    town.run(3)
    assert town.last().title == "3 services are up again"
    assert town.last().closes == (town.messages[0][1].id,)


def test_a_service_that_came_back_and_failed_again_with_its_cause_is_read_in_that_order():
    town = Town(TREE, rate_limit_sec=0)
    town.down("api")
    town.run(60)
    town.down("db")
    town.up("api")
    town.down("api", ts=town.now + 0.1)
    town.run(3)
    assert [line.split(":")[0].split(",")[0] for line in town.last().lines] == [
        "db is down",
        "api is up again",
        "api is down",
    ]
    [state] = [each for each in town.last().states if each.svc == "api"]
    assert state.ended_at is None, "a receiver of alerts must not close what is open"


def test_what_dies_after_its_cause_waits_for_it_and_is_told_when_it_does_not_come_back_with_it():
    town = Town(TREE)
    town.down("db")
    town.run(10)
    assert town.down("web") is Decision.DEPENDS
    town.run(20 * 60)
    assert town.titles() == ["db is down", "db is still down"]
    assert "with it web" in town.last().text
    town.up("db")
    town.run(TIMEOUT_SEC - 5)
    assert town.titles()[2:] == ["db is up again"]
    town.run(30)
    assert town.titles()[3:] == ["web is down"]
    assert "it lasts for" in town.last().text


def test_what_comes_back_with_its_cause_is_not_told_at_all():
    town = Town(TREE)
    town.down("db")
    town.run(10)
    town.down("api")
    town.run(60)
    town.up("db")
    town.run(5)
    assert town.up("api") is Decision.NOT_NOTIFIED
    town.run(HOUR)
    assert town.titles() == ["db is down", "db is up again"]


@pytest.mark.parametrize("reason", ["failed", "overdue", "never_ended"])
@pytest.mark.parametrize("schedule", ["0 3 * * *", "0 3 1 * *"])
def test_a_missed_run_of_a_job_is_told_once_its_cause_is_back_and_not_after_its_longest_pause(
    reason, schedule
):
    town = Town({"db": {}, "backup": {"depends_on": ["db"], "heartbeat": {"schedule": schedule}}})
    town.down("db")
    town.run(10)
    event, raw = town.event("heartbeat_miss", "backup", late_sec=1.0, reason=reason, since=town.now - 1)
    assert town.take(event, raw) is Decision.DEPENDS
    town.run(600)
    assert town.titles() == ["db is down"]
    town.up("db")
    town.run(10)
    assert sorted(message.about for _, message, _ in town.messages[1:]) == [("backup",), ("db",)]


def test_whoever_hears_nothing_of_the_cause_hears_of_what_suffers_from_it():
    routes = [{"services": ["db"], "channels": ["one"]}, {"channels": ["two"]}]
    town = Town(TREE, ["one", "two"], routes=routes)
    town.down("db")
    town.run(10)
    assert town.down("api") is Decision.TELL
    town.run(3)
    assert town.titles("two") == ["api is down"]


# -- silences and maintenance


def test_what_is_still_down_at_the_end_of_a_silence_is_told_then():
    town = Town(remind_sec=[900, 7200])
    town.be_silent("a*", sec=HOUR)
    town.down("a")
    town.down("b")
    town.run(HOUR - 5)
    assert town.titles() == ["b is down", "b is still down"]
    town.run(10)
    assert town.titles()[-1] == "a is down"
    assert "it lasts for" in town.last().text
    assert town.last().timestamp == pytest.approx(town.now, abs=15), "it is not late: it was held back"


def test_silences_that_have_ended_cost_an_event_and_a_check_nothing(monkeypatch):
    matched, matches = [], Silence.matches
    monkeypatch.setattr(Silence, "matches", lambda self, *of: matched.append(self.id) or matches(self, *of))
    town = Town()
    for n in range(500):
        town.be_silent(f"deploy-{n}*", sec=60)
    town.now += HOUR
    town.be_silent("b", sec=HOUR)
    matched.clear()
    assert town.down("a") is Decision.TELL
    assert town.down("b") is Decision.SILENCED
    town.run(600)
    assert set(matched) == {"s500"}


@pytest.mark.parametrize("waits_for", ["its group", "a channel"])
def test_a_silence_covers_an_outage_whose_notice_still_waits(waits_for):
    town = Town(group_wait_sec=30)
    town.down("a")
    town.down("b")
    if waits_for == "a channel":
        town.router.set_channels(())
    town.now += 5
    town.be_silent("*", sec=300)
    town.router.set_channels(town.open)
    town.run(290)
    assert town.titles() == []
    assert {each.held for each in town.router.open_incidents()} == {Decision.SILENCED}
    town.run(60)
    assert town.titles() == ["2 services are down"]


def test_a_silence_survives_a_restart_as_does_what_it_holds_back():
    town = Town()
    town.be_silent("a", sec=HOUR)
    town.down("a")
    town.run(60)
    town.restart()
    town.run(30 * 60)
    assert town.titles() == []
    town.run(HOUR)
    assert town.titles()[:1] == ["a is down"]


def test_a_silence_by_tag_and_one_on_a_bus():
    town = Town({"a": {"tags": ["ingest"]}, "b": {}})
    town.be_silent(sec=HOUR, tags=["ingest"])
    town.be_silent("bus:market-redis", sec=HOUR)
    assert town.down("a") is Decision.SILENCED
    assert town.down("b") is Decision.TELL
    assert town.down("market-redis", Kind.BUS_MISS) is Decision.SILENCED
    assert town.down("system-redis", Kind.BUS_MISS) is Decision.TELL


@pytest.mark.parametrize("kind", [Kind.BUS_MISS, Kind.TRUTH_DRIFT])
@pytest.mark.parametrize("name", ["market-redis", "market-*", "bus:market-redis", "truth:market-redis"])
def test_a_silence_a_window_and_a_route_name_a_bus_by_its_own_name_or_by_its_key(name, kind):
    key = f"{kind.partition('_')[0]}:market-redis"
    is_so = not name.startswith(("bus:", "truth:")) or name == key
    town = Town()
    town.be_silent(name, sec=HOUR)
    assert (town.down("market-redis", kind) is Decision.SILENCED) is is_so
    town = Town(maintenance=[{"services": [name], "at": "50 12 * * *", "for_sec": 120}])
    assert (town.down("market-redis", kind) is Decision.MAINTENANCE) is is_so
    assert town.down("system-redis", kind) is Decision.TELL
    town = Town(
        channels=["ops", "redis"], routes=[{"services": [name], "channels": ["redis"]}, {"channels": ["ops"]}]
    )
    town.down("market-redis", kind)
    town.run(3)
    assert [channels for _, _, channels in town.messages] == [("redis",) if is_so else ("ops",)]


@pytest.mark.parametrize("kind", [Kind.WATCH_MISS, Kind.REACH_GAP])
@pytest.mark.parametrize("named", [{"services": ["a"]}, {"tags": ["ingest"]}])
def test_a_service_is_called_by_its_name_whatever_about_it_is_told(named, kind):
    town = Town({"a": {"tags": ["ingest"]}}, maintenance=[{**named, "at": "50 12 * * *", "for_sec": 120}])
    assert town.down("a", kind) is Decision.MAINTENANCE


def test_reminders_are_silenced_too_and_an_ok_of_what_was_told_is_not():
    town = Town()
    town.down("a")
    town.run(60)
    town.be_silent("a", sec=HOUR)
    town.run(50 * 60)
    assert town.titles() == ["a is down"]
    town.up("a")
    town.run(3)
    assert town.titles() == ["a is down", "a is up again"]


def test_maintenance_holds_back_for_as_long_as_it_lasts():
    # 2025-11-06 12:50:58 UTC is a Thursday
    window = {"services": ["a"], "at": "0 13 * * THU", "for_sec": 1800, "tz": "UTC"}
    town = Town(maintenance=[window])
    town.run(15 * 60)
    assert town.down("a") is Decision.MAINTENANCE
    assert town.down("b") is Decision.TELL
    town.run(20 * 60)
    assert "a is down" not in town.titles()
    town.run(10 * 60)
    assert "a is down" in town.titles()
