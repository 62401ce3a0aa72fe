"""Thousands of outages at once: what is due of them is found without a look at all of them each time."""

import pytest

from notifier.outbox import Outbox
from notifier.router.incident import parse_known_event
from notifier.router.policy import Route
from support.simulation.router import Town

MANY = 3000


def down(town):
    """Takes all services down as one reader's batch does: without a turn after each."""
    for svc in town.truth.services:
        if svc != "healer":
            event, raw = town.event("heartbeat_miss", svc, late_sec=30.0, since=town.now - 30)
            town.router.handle_event(event, raw, town.now)


class Counted(dict):
    """A dictionary that counts how often all of it was gone through."""

    times = 0

    def values(self):
        self.times += 1
        return super().values()


@pytest.mark.slow
def test_many_outages_are_notified_in_short_turns_and_their_reminders_go_through_them_once_a_turn():
    town = Town([f"s{n}" for n in range(MANY)], incidents=(counted := Counted()))
    turns, take_due = [], town.router.take_due

    def counting(*args):
        found = take_due(*args)
        turns.append(sum(len(due.message.about) for due in found))
        return found

    town.router.take_due = counting
    down(town)
    town.run(10)
    assert sum(turns) == MANY
    assert max(turns) <= 2000
    town.messages.clear()
    town.run(900)
    assert sum(len(m.about) for _, m, _ in town.messages if m.kind == "reminder") == MANY
    assert counted.times <= 20, "once for each outage"


def test_an_event_is_parsed_once_for_all_that_is_made_of_its_message():
    town, outbox = Town([f"s{n}" for n in range(800)]), Outbox()
    down(town)
    parse_known_event.cache_clear()
    town.run(10)
    for _, message, channels in town.messages:
        outbox.add(message, channels)
    assert sum(len(message.events) for _, message, _ in town.messages) == 800
    assert parse_known_event.cache_info().misses == 800


@pytest.mark.slow
def test_services_that_the_rate_limit_holds_back_are_matched_with_routes_once(monkeypatch):
    matched, matches = [], Route.matches
    monkeypatch.setattr(Route, "matches", lambda self, *of: matched.append(of) or matches(self, *of))
    names, routes = [f"s{n}" for n in range(300)], [{"services": ["x*"], "channels": ["one"]}]
    town = Town([*names, *"abc"], rate_limit_sec=3000, rate_limit_max_hold_sec=3000, routes=routes)
    for svc in names:
        for _ in range(2):
            town.down(svc)
            town.run(3)
            town.up(svc)
            town.run(0.1)
    for svc in "abc":
        town.down(svc)
        town.run(10)
        assert "300 more held" in town.last().text
    assert len(matched) <= len(names) + 3


def test_what_suffers_from_a_cause_is_named_in_its_reminder_by_an_index():
    town = Town({"db": {}, "api": {"depends_on": ["db"]}, "web": {"depends_on": ["api"]}, "lone": {}})
    town.down("db")
    town.run(10)
    town.down("api")
    town.down("web")
    town.down("lone")
    town.run(910)
    reminders = [message for _, message, _ in town.messages if message.kind == "reminder"]
    assert "with it api, web" in reminders[0].text
    town.up("web")
    town.run(3600 - 900)
    reminders = [m for _, m, _ in town.messages if "with it" in f"{m.text} {m.lines}"]
    assert "with it api" in f"{reminders[-1].text} {reminders[-1].lines}"
    assert "web" not in reminders[-1].text
