"""One outage at one moment: the table of steps is that of the documentation, and each decision follows it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from services.medic.decision import conclude, decide, find_window_sec, open_repair
from services.medic.facts import FleetFacts, Health, Symptom, TargetFacts
from services.medic.guards import Fuse, Situation
from services.medic.refusal import Refusal
from services.medic.remedies import OrderResult, Remedy, RemedyOrder
from services.medic.repair import (
    TRANSITIONS,
    AttemptVerdict,
    RemedyAttempt,
    Repair,
    RepairEvent,
    RepairState,
    RepairStep,
)
from services.medic.settings import HealingSettings, Mode
from support.simulation.patient import OLD

PAGE = Path(__file__).parents[3] / "docs/services/medic-decisions.md"
NOW = 1_000_000.0
TARGET = TargetFacts(
    svc="feed", health=Health.DOWN, down_since=NOW - 9, down_sec=9.0, boot="b1", owner="up", processes=(OLD,)
)


def look(target=TARGET, now=NOW, **settings):
    return Situation(FleetFacts({"feed": target}), HealingSettings(mode=Mode.ACT, **settings), now, epoch=7)


def make_repair(state, *verdicts, **more):
    attempts = tuple(RemedyAttempt(Remedy.RESTART, NOW - 5, "b1", "start 1", each) for each in verdicts)
    usual = {"incident": "feed.1", "symptom": Symptom.SILENT, "down_since": NOW - 9, "opened_at": NOW - 8}
    return Repair(svc="feed", state=state, attempts=attempts, **{**usual, "since": NOW - 5, **more})


def test_the_table_of_the_documentation_is_that_of_the_code():
    row = r"^\| (`\w+`|each of them) \| `(\w+)` \| [^|]+\|([^|]+)\|([^|]*)\|([^|]*)\|$"
    rows = re.findall(row, PAGE.read_text(), re.MULTILINE)
    shown = {}
    for state, event, *parts in rows:
        states = list(RepairState)[:-1] if state == "each of them" else [state.strip("`")]
        shown |= {(each, event): [part.strip(" `") for part in parts] for each in states}
    held = {}
    for (state, event), after in TRANSITIONS.items():
        is_judged = state not in (RepairState.OPEN, RepairState.PROPOSED, RepairState.ESCALATED)
        verdict = event.verdict if is_judged else None  # no attempt is without one there
        held[state, event.word] = [str(after), event.entry or "", verdict or ""]
    assert shown == held


@pytest.mark.parametrize(("state", "event"), TRANSITIONS, ids=lambda each: each.name)
def test_each_step_leads_to_a_repair_without_a_contradiction(state, event):
    busy = state in (RepairState.WAITING, RepairState.INTENDED, RepairState.SETTLING)
    last = AttemptVerdict.PENDING if busy else AttemptVerdict.VERIFIED
    up_at = NOW - 1 if state is RepairState.STABILIZING else None
    repair = make_repair(state, AttemptVerdict.FAILED, last, until=NOW, up_at=up_at)
    assert repair.find_contradiction() is None
    if event in (RepairEvent.WAIT, RepairEvent.INTEND):
        repair = repair.add_attempt(RemedyAttempt(Remedy.RESTART, NOW))
    moved = repair.move(event, NOW, NOW + 5)
    assert (moved.state, moved.since) == (TRANSITIONS[state, event], NOW)
    if moved.state is not RepairState.RESOLVED:
        assert moved.find_contradiction() is None
        judged = event.verdict if busy or event is RepairEvent.RELAPSE else None
        assert moved.attempts[-1].verdict is (judged or repair.attempts[-1].verdict)
        assert (moved.up_at is not None) is (moved.state is RepairState.STABILIZING)


@pytest.mark.parametrize(
    "repair",
    [
        make_repair(RepairState.SETTLING, AttemptVerdict.FAILED, until=NOW),
        make_repair(RepairState.SETTLING, until=NOW),
        make_repair(RepairState.SETTLING, AttemptVerdict.PENDING),
        make_repair(RepairState.INTENDED, AttemptVerdict.PENDING, AttemptVerdict.PENDING),
        make_repair(RepairState.OPEN, AttemptVerdict.PENDING),
        make_repair(RepairState.PROPOSED),
    ],
)
def test_a_repair_whose_attempts_or_time_are_at_odds_with_its_state_contradicts_itself(repair):
    assert repair.find_contradiction()
    assert RepairStep(repair).find_contradiction()


def test_an_order_is_the_attempt_that_is_stored_or_contradicts_it():
    repair = make_repair(RepairState.INTENDED, AttemptVerdict.PENDING)
    order = RemedyOrder("feed", Remedy.RESTART, "start 1")
    assert RepairStep(repair, order=order).find_contradiction() is None
    for other in (replace(order, identity="start 2"), replace(order, remedy=Remedy.COMMAND)):
        assert RepairStep(repair, order=other).find_contradiction()
    judged = make_repair(RepairState.OPEN, AttemptVerdict.FAILED)
    assert RepairStep(judged, order=order).find_contradiction()


def test_a_decision_has_all_that_follows_in_what_it_returns():
    opened = open_repair(TARGET, look())
    waiting = decide(opened.repair, TARGET, look())
    assert [each.what for each in (*opened.entries, *waiting.entries)] == ["opened", "waiting"]
    assert waiting.repair.until == NOW + find_window_sec(
        waiting.repair, RepairState.WAITING, HealingSettings()
    )
    later = look(now=NOW + 60)
    begun, again = (decide(waiting.repair, TARGET, later) for _ in range(2))
    assert begun == again, "nothing is kept beside it"
    assert begun.order == RemedyOrder("feed", Remedy.RESTART, "start 1", "up")
    assert ([each.what for each in begun.entries], begun.repair.epoch) == (["intended"], 7)
    assert waiting.repair.state is RepairState.WAITING, "what was decided before is as it was"


@pytest.mark.parametrize(
    ("result", "state", "said", "verdict"),
    [
        (OrderResult.DONE, RepairState.SETTLING, "acted", AttemptVerdict.PENDING),
        (OrderResult.CHANGED, RepairState.OPEN, "abandoned", AttemptVerdict.ABANDONED),
        (OrderResult.REFUSED, RepairState.OPEN, "abandoned", AttemptVerdict.ABANDONED),
        (OrderResult.UNKNOWN, RepairState.OPEN, "abandoned", AttemptVerdict.ABANDONED),
        ("undone", RepairState.OPEN, "abandoned", AttemptVerdict.UNDONE),
    ],
)
def test_what_became_of_an_order_is_a_step_of_the_table(result, state, said, verdict):
    found = conclude(make_repair(RepairState.INTENDED, AttemptVerdict.PENDING), result, "said", look())
    assert (found.repair.state, found.repair.attempts[-1].verdict) == (state, verdict)
    (entry,) = found.entries
    assert (entry.what, entry.text) == (said, "said")
    assert entry.reason == ("" if result is OrderResult.DONE else result)


def test_the_fuse_follows_from_what_was_decided():
    settings, fuse = HealingSettings().fuse, Fuse()
    order = RemedyOrder("feed", Remedy.RESTART, "start 1")
    acted = RepairStep(make_repair(RepairState.INTENDED, AttemptVerdict.PENDING), order=order)
    for count in range(settings.remedies):
        fuse = fuse.follow(acted, settings, NOW + count)
    assert (len(fuse.acted), fuse.blown_at) == (settings.remedies, None)
    refused = RepairStep(make_repair(RepairState.OPEN, refusal=Refusal.TOO_MANY_REMEDIES))
    assert fuse.follow(RepairStep(make_repair(RepairState.OPEN)), settings, NOW + 9) == fuse
    assert fuse.follow(refused, settings, NOW + 9).blown_at == NOW + 9
    assert Fuse().follow(refused, settings, NOW + 9) == Fuse(), "a person has approved meanwhile"
