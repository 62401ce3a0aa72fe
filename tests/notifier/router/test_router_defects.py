"""An exception anywhere between an event and its message loses nothing: the bad one is named, alone."""

from collections import Counter

import orjson
import pytest

from marketswarm.event import Kind
from notifier.router import grouping, render
from notifier.router.defect import DefectKind
from notifier.router.suppression import Suppression
from notifier.router.timers import Timers
from support.simulation.router import Town

CIRCLE = {
    "massive": {
        "settings": {
            "targets": [
                {"name": "dns", "host": "h", "port": 1, "depends_on": ["massive/gw"]},
                {"name": "gw", "host": "h", "port": 2, "depends_on": ["massive/dns"]},
            ]
        }
    },
    "cache": {},
}


def raise_for_b(original):
    """Break a function for what is about b alone."""

    def broken(*args, **named):
        found = str([*args, *named.values()])
        if "'b'" in found or '"b"' in found:
            raise IndexError("a defect")
        return original(*args, **named)

    return broken


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (Timers, "describe"),
        (grouping, "inhibit"),
        (render, "describe_event"),
        (Suppression, "severity_of"),
        (Suppression, "route"),
    ],
)
def test_a_notice_whose_words_cant_be_made_is_sent_plain_and_its_neighbours_as_always(
    monkeypatch, place, name
):
    monkeypatch.setattr(place, name, raise_for_b(getattr(place, name)))
    town = Town()
    for svc in "abc":
        town.down(svc)
    town.run(3)
    told = Counter(orjson.loads(raw)["svc"] for _, message, _ in town.messages for raw in message.events)
    assert told == {"a": 1, "b": 1, "c": 1}
    assert name == "route" or "b is down" in town.titles()
    assert {each.about for each in town.router.take_defects()} == {"b"}
    assert all(each.is_notified for each in town.router.open_incidents())


def test_an_exception_that_nothing_isolates_leaves_the_notices_where_they_are(monkeypatch):
    town = Town()
    town.down("a")
    with monkeypatch.context() as broken:
        broken.setattr(grouping.Grouper, "_record_message", raise_for_b(None))
        town.down("b")
        with pytest.raises((IndexError, TypeError)):
            town.run(3)
    town.restart()
    town.run(3)
    assert town.titles() == ["2 services are down"]


def test_a_check_that_fails_stops_no_other_and_is_made_again(monkeypatch):
    town = Town(services=("a", "b", "c"))
    town.be_silent("*", sec=100)
    for svc in "abc":
        town.down(svc)
    with monkeypatch.context() as broken:
        broken.setattr(Timers, "find_next_notices", raise_for_b(Timers.find_next_notices))
        town.run(110)
    assert town.titles() == ["2 services are down"]
    assert {each.kind for each in town.router.take_defects()} == {DefectKind.CHECK}
    town.run(70)
    assert town.titles()[1:] == ["b is down"]


def test_targets_that_need_each_other_are_both_named():
    town = Town(CIRCLE)
    for svc in ("massive/dns", "massive/gw"):
        town.down(svc, Kind.PROBE_MISS)
    town.run(3)
    assert {orjson.loads(raw)["svc"] for _, message, _ in town.messages for raw in message.events} == {
        "massive/dns",
        "massive/gw",
    }
    assert all(any(svc in line for line in town.last().lines) for svc in ("massive/dns", "massive/gw"))


def test_targets_that_need_each_other_hide_each_other_for_no_longer_than_one_of_them_is_told():
    town = Town(CIRCLE)
    for svc in ("massive/dns", "massive/gw"):
        town.down(svc, Kind.PROBE_MISS)
        town.run(5)
    assert town.titles() == ["massive/dns is down"]
    town.up("massive/dns", Kind.PROBE_OK)
    town.run(5)
    town.down("massive/dns", Kind.PROBE_MISS)
    town.run(1000)
    assert any("massive/dns" in title for title in town.titles()[2:]), town.titles()
    assert town.router.take_defects() == []


def test_who_depends_on_two_of_which_one_needs_the_other_is_named_below_a_leading_one():
    tree = {"b": {}, "c": {"depends_on": ["b"]}, "a": {"depends_on": ["b", "c"]}}
    town = Town(tree)
    for svc in ("a", "c", "b"):
        town.down(svc)
    town.run(3)
    assert town.titles() == ["b is down, and 2 that depend on it"]
    assert [line.split()[0] for line in town.last().lines] == ["b", "a", "c"]


def test_a_message_without_an_id_is_that_of_no_outage():
    town = Town()
    town.down("a")
    town.run(3)
    town.be_silent("b", sec=100)
    town.down("b")
    town.run(3)
    town.router.changes()
    town.router.forget_message("")
    assert town.router.changes() == {}
