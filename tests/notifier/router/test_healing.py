"""What people are told of an outage that the medic works on: nothing until it is clear how that ends."""

import orjson
import pytest

from marketswarm.channels import MessageKind, Severity
from marketswarm.event import Kind
from notifier.router.healing import (
    ACTING,
    GOES_WELL,
    OPEN,
    PASSING,
    PAST,
    VERDICTS,
    WAIT,
    WORKS,
    MedicState,
    StoredRepair,
    may_medic_act,
    may_medic_act_anywhere,
)
from notifier.router.incident import Decision
from notifier.router.incident_store import FORGOTTEN_SEC
from services.medic.refusal import Refusal
from services.medic.remedies import Remedy
from services.medic.repair import AttemptVerdict, RepairState
from services.medic.settings import Mode
from support.simulation.router import Town, truth_of

DAY = 86_400.0


def medic(**settings):
    return {"medic": {"settings": settings}}


def town(*, services=None, mode="act", **policy):
    found = Town({"a": {}, "b": {"depends_on": ["a"]}, **(services or {}), **medic(mode=mode)}, **policy)
    found.lead()
    return found


def test_an_outage_that_the_medic_heals_is_a_line_of_the_digest_and_neither_a_miss_nor_an_ok():
    here = town()
    assert here.down("a") is Decision.HEALING
    here.heal("a", "waiting")
    here.run(5)
    at = here.now
    here.heal("a", "settling", ("wait", at - 5, "failed"), ("restart", at, "pending"))
    here.run(4)
    assert here.up("a") is Decision.HEALED
    here.run(DAY - 60)
    assert here.titles() == []
    here.run(120)
    assert here.titles() == ["a was healed"]
    message = here.last()
    assert message.text.splitlines()[0] == "restarted at 12:51:03 UTC, up again after 4 s"
    assert message.text.splitlines()[-1] == "next: marketswarm incidents"
    assert (message.severity, message.kind, message.opens, message.late) == (
        Severity.INFO,
        MessageKind.NOTE,
        False,
        False,
    )
    assert [orjson.loads(raw)["type"] for raw in message.events] == ["heartbeat_miss", "heartbeat_ok"]


def test_a_digest_has_a_line_for_each_outage_and_is_sent_once():
    here = town(digest_sec=600)
    for _ in range(2):
        here.down("a")
        here.heal("a", "waiting")
        here.run(2)
        here.up("a")
        here.run(200)
    here.run(2 * DAY)
    assert here.titles() == ["2 outages were healed"]
    assert [line.partition(": ")[0] for line in here.last().lines] == ["a", "a"]
    assert here.last().lines[0] == "a: down at 12:50:27 UTC, up again after 32 s"


def test_with_no_time_to_collect_each_is_sent_at_once():
    here = town(digest_sec=0)
    here.down("a")
    here.heal("a", "waiting")
    here.up("a", ts=here.now + 0.1)
    here.run(3)
    assert here.titles() == ["a was healed"]


def test_a_digest_of_two_hundred_lines_waits_no_longer():
    names = [f"s{n}" for n in range(200)]
    here = town(services={name: {} for name in names})
    for name in names:
        here.down(name)
        here.up(name, ts=here.now + 0.1)
    here.run(3)
    assert here.titles() == ["200 outages were healed"]


def test_a_remedy_that_was_not_carried_out_since_its_medic_died_is_none_that_did_not_help():
    here = town()
    here.down("a")
    here.heal("a", "open", ("restart", here.now, "undone"))
    here.run(30)
    assert here.titles() == []


def test_a_remedy_that_does_not_help_is_told_at_once_with_what_was_tried():
    here = town()
    here.down("a")
    here.heal("a", "settling", ("wait", here.now, "failed"), ("restart", here.now, "pending"))
    here.run(30)
    assert here.titles() == []
    here.heal("a", "open", ("wait", here.now - 30, "failed"), ("restart", here.now - 30, "failed"))
    here.run(0.5)
    assert here.titles() == ["a is down"]
    said = here.last().text.splitlines()[0]
    assert said.endswith("; the medic tried: restart at 12:50:58 UTC (failed)")
    here.heal("a", "settling", ("restart", here.now - 30, "failed"), ("restart", here.now, "pending"))
    here.up("a")
    here.run(5)
    assert here.titles() == ["a is down", "a is up again"]


@pytest.mark.parametrize(
    ("state", "refusal"),
    [
        ("open", "not_ours"),
        ("open", "too_many_remedies"),
        ("open", "cooldown"),
        ("proposed", None),
        ("escalated", None),
        ("what_a_later_medic_has", None),
    ],
)
def test_where_the_medic_does_nothing_people_are_told(state, refusal):
    here = town()
    here.down("a")
    here.heal("a", state, refusal=refusal)
    here.run(0.5)
    assert here.titles() == ["a is down"]


def test_an_outage_that_comes_back_is_told_at_once():
    here = town()
    here.heal("a", "stabilizing", ("restart", here.now - 20, "verified"))
    assert here.down("a") is Decision.HEALING
    here.heal("a", "open", ("restart", here.now - 20, "relapsed"))
    here.run(0.5)
    assert here.titles() == ["a is down"]
    assert "(the outage came back)" in here.last().text


def test_a_medic_that_sees_nothing_of_the_outage_or_whose_lease_ends_holds_nothing_back():
    here = town()
    here.down("a")
    here.run(2.5)
    assert here.titles() == []
    here.run(2)
    assert here.titles() == ["a is down"], "no repair was opened"
    here.down("b")
    here.run(0)
    other = town()
    other.down("a")
    other.heal("a", "settling", ("restart", other.now, "pending"))
    other.run(10)
    assert other.titles() == []
    other.lead(False)
    other.run(0.5)
    assert other.titles() == ["a is down"]
    assert "restart at 12:50:58 UTC (not verified yet)" in other.last().text


def test_nothing_is_held_for_longer_than_the_policy_says_whatever_the_bus_says():
    here = town(healing_max_hold_sec=20)
    here.down("a")
    here.heal("a", "settling", ("restart", here.now, "pending"))
    here.run(19)
    (incident,) = here.router.open_incidents()
    assert (here.titles(), incident.held_until) == ([], here.now + 1)
    here.run(3)
    assert here.titles() == ["a is down"]


def test_a_reading_that_grew_old_holds_nothing_back():
    here = town()
    here.down("a")
    here.heal("a", "settling", ("restart", here.now, "pending"))
    old = MedicState(is_leading=True, read_at=here.now, repairs=here.medic.repairs)
    assert old.is_working_on("a", 1.0, here.now + 2)
    assert not old.is_working_on("a", 1.0, here.now + 4)
    assert not old.is_working_on("a", 1.0, here.now - 4)


@pytest.mark.parametrize("is_medic_gone", [False, True])
def test_a_notifier_that_is_killed_meanwhile_loses_no_outage(is_medic_gone):
    here = town()
    here.down("a")
    here.heal("a", "settling", ("restart", here.now, "pending"))
    here.restart()
    if is_medic_gone:
        here.lead(False)
        here.run(2)
        assert here.titles() == ["a is down"]
        return
    here.run(2)
    assert here.titles() == []
    here.up("a")
    here.restart()
    here.run(DAY + 60)
    assert here.titles() == ["a was healed"]


def test_what_is_critical_waits_for_nothing_even_if_its_cause_is_being_healed():
    here = town(services={"c": {"severity": "critical", "depends_on": ["a"]}})
    here.down("a")
    here.heal("a", "settling", ("restart", here.now, "pending"))
    assert here.down("b") is Decision.DEPENDS
    assert here.down("c") is Decision.TELL
    here.run(5)
    assert here.titles() == ["c is down"]


def test_only_beats_wait_and_only_where_the_medic_may_act():
    here = town()
    assert here.down("a", Kind.PROBE_MISS) is Decision.TELL
    assert town(mode="propose").down("a") is Decision.TELL
    assert town(healing_max_hold_sec=0).down("a") is Decision.TELL
    silenced = town()
    silenced.be_silent("a", sec=100)
    assert silenced.down("a") is Decision.SILENCED
    late = town()
    assert late.down("a", ts=late.now - 100) is Decision.TELL, "nobody listened when it began"


def test_a_silence_that_begins_meanwhile_ends_the_wait_for_good():
    here = town()
    here.down("a")
    here.heal("a", "settling", ("restart", here.now, "pending"))
    here.be_silent("a", sec=10)
    here.run(8)
    assert here.titles() == []
    here.run(5)
    assert here.titles() == ["a is down"]


def test_an_outage_that_is_no_longer_monitored_was_not_healed():
    here = town()
    here.down("a")
    event, raw = here.event(Kind.HEARTBEAT_UNWATCHED, "a")
    assert here.take(event, raw) is Decision.NOT_NOTIFIED
    here.run(DAY + 60)
    assert here.titles() == []


@pytest.mark.parametrize(
    ("settings", "acts_on_a", "acts"),
    [
        ({}, False, False),
        ({"mode": "act"}, True, True),
        ({"mode": "act", "paused": True}, False, False),
        ({"targets": {"a": {"mode": "act"}}}, True, True),
        ({"mode": "act", "targets": {"a": {"mode": "observe"}}}, False, True),
        ({"targets": {"a": {"remedies": {"restart": "act"}}}}, True, True),
        ({"targets": {"b": {"mode": "act"}}}, False, True),
        ({"targets": {"other": {"mode": "act"}}}, False, False),
        ({"mode": "earned"}, True, True),
        ({"targets": {"a": {"remedies": {"restart": "earned"}}}}, True, True),
        ({"mode": "propose"}, False, False),
        ({"mode": 7, "targets": ["a"]}, False, False),
        ({"mode": ["act"], "targets": {"a": {"mode": {}}}}, False, False),
        ({"targets": {"a": "act"}}, False, False),
    ],
)
def test_the_truth_says_where_the_medic_acts(settings, acts_on_a, acts):
    truth = truth_of({"a": {}, "b": {}, **medic(**settings)})
    assert (may_medic_act(truth, "a"), may_medic_act_anywhere(truth)) == (acts_on_a, acts)
    assert not may_medic_act(truth_of({"a": {}}), "a")


@pytest.mark.parametrize(
    "change",
    [
        {"svc": 7},
        {"state": "x" * 31},
        {"state": None},
        {"refusal": "a\nb"},
        {"attempts": [{"remedy": "restart", "at": "12", "verdict": "pending"}]},
        {"attempts": [{"remedy": "@here", "at": 1.0, "verdict": "pending"}]},
        {"attempts": [{"remedy": "restart", "at": 1e12, "verdict": "pending"}]},
        {"attempts": [{"remedy": "restart", "at": 1.0, "verdict": "failed"}] * 51},
        {"attempts": 3},
    ],
)
def test_a_stored_repair_that_no_medic_writes_is_refused(change):
    usual = {"svc": "a", "state": "open", "attempts": [], "refusal": None, "incident": "a.1"}
    assert StoredRepair.parse(orjson.dumps(usual)) is not None
    assert StoredRepair.parse(orjson.dumps(usual | change)) is None


def test_the_words_of_the_medic_are_those_that_the_notifier_knows():
    assert set(RepairState) >= WORKS | {OPEN}
    assert set(Refusal) >= PASSING
    assert set(AttemptVerdict) == VERDICTS.keys()
    assert set(AttemptVerdict) >= GOES_WELL
    assert ({Mode.ACT, Mode.EARNED}, Remedy.WAIT) == (ACTING, WAIT)
    assert set(Remedy) >= PAST.keys()


def test_a_remedy_that_is_read_after_the_ok_is_in_the_line_as_well():
    here = town(digest_sec=0)
    here.down("a")
    here.heal("a", "waiting")
    at = here.now
    here.run(0.5)
    event, raw = here.event(Kind.HEARTBEAT_OK, "a")
    assert here.router.handle_event(event, raw, here.now) is Decision.HEALED
    assert here.router.list_waiting_for_medic() == ["a"]
    here.heal("a", "stabilizing", ("restart", at, "verified"))
    assert here.router.list_waiting_for_medic() == []
    here.restart()
    here.run(3)
    assert here.last().text.startswith("restarted at 12:50:58 UTC, up again after 0.5 s")


def test_an_outage_that_was_forgotten_before_the_medic_was_read_again_ends_nothing(monkeypatch):
    here = town(digest_sec=0)
    here.down("a")
    here.heal("a", "waiting")
    here.run(0.5)
    event, raw = here.event(Kind.HEARTBEAT_OK, "a")
    assert here.router.handle_event(event, raw, here.now) is Decision.HEALED
    monkeypatch.setattr(here, "_read_medic", lambda: None)  # it may act nowhere, so no one reads it
    here.run(2 * FORGOTTEN_SEC)
    assert here.router.list_waiting_for_medic() == ["a"]
    monkeypatch.undo()
    here.heal("a", "stabilizing")
    assert here.router.list_waiting_for_medic() == []


def handle(here, kind, **more):
    """The router takes an event of `a` while the medic is not read."""
    event, raw = here.event(kind, "a", **more)
    return here.router.handle_event(event, raw, here.now)


def test_the_line_of_an_outage_is_about_that_one_though_the_next_began_before_the_medic_was_read():
    here = town(digest_sec=600)
    here.down("a")  # silent since 12:50:27
    here.heal("a", "waiting")
    here.run(10)
    assert handle(here, Kind.HEARTBEAT_OK) is Decision.HEALED
    here.now += 1
    assert handle(here, Kind.HEARTBEAT_MISS, since=here.now) is Decision.HEALING
    here.run(700)
    assert "a was healed" in here.titles()
    [line] = [each.text.splitlines()[0] for _, each, _ in here.messages if each.title == "a was healed"]
    assert line == "down at 12:50:27 UTC, up again after 40 s"


def test_each_line_has_its_own_remedy_though_the_medic_was_read_after_several_outages():
    here = town(digest_sec=600)
    here.down("a")
    here.heal("a", "waiting")
    tried = []
    for _ in range(2):
        tried.append(("restart", here.now, "verified"))
        here.now += 0.5
        assert handle(here, Kind.HEARTBEAT_OK) is Decision.HEALED
        here.now += 0.5
        handle(here, Kind.HEARTBEAT_MISS, since=here.now)
    assert here.router.list_waiting_for_medic() == ["a"]
    here.heal("a", "settling", *tried)
    assert here.router.list_waiting_for_medic() == ["a"], "it is down again"
    here.run(700)
    [digest] = [each for _, each, _ in here.messages if each.title == "2 outages were healed"]
    assert digest.lines == (
        "a: restarted at 12:50:58 UTC, up again after 0.5 s",
        "a: restarted at 12:50:59 UTC, up again after 0.5 s",
    )
