"""What the healer may not hear, and that it reached nobody, on its way to people."""

import pytest

from marketswarm.channels import MessageKind, Severity
from marketswarm.event import Kind
from notifier.router.incident import Decision
from support.simulation.router import Town

NIGHT = {"services": {"a": {"tags": ["night"]}, "b": {}}, "channels": ("one", "two")}


def refuse(town: Town, svc: str) -> Decision:
    event, raw = town.event(Kind.WATCH_MISS, svc, reason="auth", since=town.now - 20)
    return town.take(event, raw)


def test_one_that_cannot_be_watched_is_told_and_that_it_can_be_in_the_same_thread():
    town = Town()
    assert refuse(town, "a") is Decision.TELL
    town.run(3)
    miss = town.last()
    assert (miss.title, miss.kind, miss.severity, miss.opens) == (
        "a can't be watched",
        MessageKind.DOWN,
        Severity.WARNING,
        True,
    )
    assert [each.key for each in town.router.open_incidents()] == ["watch:a"]
    assert town.up("a", Kind.WATCH_OK) is Decision.TELL
    town.run(3)
    ok = town.last()
    assert (ok.title, ok.kind, ok.opens, ok.closes, ok.thread) == (
        "a is watched again",
        MessageKind.UP,
        False,
        (miss.id,),
        miss.id,
    )
    assert town.router.open_incidents() == []


def test_one_that_is_dropped_while_it_cannot_be_watched_is_closed():
    town = Town()
    refuse(town, "a")
    town.run(3)
    assert town.up("a", Kind.WATCH_UNWATCHED) is Decision.TELL
    town.run(3)
    assert town.titles() == ["a can't be watched", "a is no longer watched"]
    assert town.last().closes == (town.messages[0][1].id,)


def test_an_outage_and_not_being_watchable_are_two_things():
    town = Town()
    town.down("a")
    town.run(3)
    assert refuse(town, "a") is Decision.TELL
    town.run(3)
    town.up("a", Kind.WATCH_OK)
    town.run(3)
    assert [each.key for each in town.router.open_incidents()] == ["a"]


@pytest.mark.parametrize("how", [{"services": ["a"]}, {"tags": ["night"]}])
def test_it_goes_where_the_news_of_the_service_goes(how):
    town = Town(**NIGHT, routes=[{**how, "channels": ["two"]}, {"channels": ["one"]}])
    refuse(town, "a")
    refuse(town, "b")
    town.run(3)
    assert (town.titles("two"), town.titles("one")) == (["a can't be watched"], ["b can't be watched"])


@pytest.mark.parametrize("how", [{"services": ["a"]}, {"tags": ["night"]}])
def test_maintenance_of_the_service_is_of_it_too(how):
    town = Town(**NIGHT, maintenance=[{**how, "at": "* * * * *", "for_sec": 600}])
    assert refuse(town, "a") is Decision.MAINTENANCE
    assert refuse(town, "b") is Decision.TELL


@pytest.mark.parametrize("how", [{"services": ["a"]}, {"tags": ["night"]}])
def test_a_silence_of_the_service_is_of_it_too(how):
    town = Town(**NIGHT)
    town.be_silent(*how.get("services", ()), tags=how.get("tags", ()), sec=600)
    assert refuse(town, "a") is Decision.SILENCED
    assert refuse(town, "b") is Decision.TELL


def test_it_is_held_back_for_nothing_that_the_service_depends_on():
    town = Town({"a": {"depends_on": ["b"]}, "b": {}})
    town.down("b")
    town.run(3)
    assert refuse(town, "a") is Decision.TELL


def test_nobody_reads_that_it_was_down():
    town = Town(remind_sec=[60])
    refuse(town, "a")
    town.run(70)
    assert town.last().text.splitlines()[0] == "for 60.5 s"  # since it is refused, whenever it beat last
    refuse(town, "b")
    town.up("b", Kind.WATCH_OK)
    town.run(3)
    assert town.titles() == [
        "a can't be watched",
        "the watch on a is still down",
        "the watch on b was down for 30 s, and is up again",
    ]


def test_that_no_bus_was_reached_is_news_once_that_opens_nothing():
    town = Town()
    event, raw = town.event(Kind.REACH_GAP, "healer", since=town.now - 31, gap_sec=31.0)
    assert town.take(event, raw) is Decision.TELL
    assert town.take(event, raw) is Decision.REPEAT
    town.run(3)
    said = town.last()
    assert town.titles() == ["the healer reached no bus"]
    assert (said.kind, said.severity, said.opens, said.closes) == (MessageKind.NOTE, Severity.INFO, False, ())
    assert town.router.open_incidents() == []


def test_that_no_bus_was_reached_goes_where_news_of_the_healer_goes():
    town = Town(**NIGHT, routes=[{"services": ["healer"], "channels": ["two"]}, {"channels": ["one"]}])
    event, raw = town.event(Kind.REACH_GAP, "healer", since=town.now - 31, gap_sec=31.0)
    town.take(event, raw)
    town.run(3)
    assert (town.titles("two"), town.titles("one")) == (["the healer reached no bus"], [])
