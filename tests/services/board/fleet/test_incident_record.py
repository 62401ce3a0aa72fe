"""The record of the medic as the board reads it: followed, folded, counted, and nothing in it can act."""

import asyncio
import time
from dataclasses import replace

import orjson
import pytest

from marketswarm.event import Event, Kind, encode_event
from marketswarm.keys import ALERT_LOG, MEDIC_INCIDENTS
from marketswarm.operator.healing import (
    DiagnosisRecord,
    EntryKind,
    TimelineEntry,
    fold_incidents,
    make_diagnosis_field,
)
from marketswarm.operator.healing_stats import measure_approvals, measure_remedies, measure_resolutions
from marketswarm.testing import MemoryBus
from services.board.fleet import incident_record
from services.board.fleet.incident_pages import find_modes, list_approvals
from services.board.fleet.incident_record import (
    IncidentRecord,
    RecordedIncidents,
    count_alerts,
    make_diagnoses,
    make_steps,
    read_newest_alerts,
    summarize_incident,
)

K = EntryKind
NOW = 1_793_000_000.0


def step(after_sec, what, svc="feed", **more):
    return TimelineEntry(incident=f"{svc}.1793000000000", ts=NOW + after_sec, svc=svc, what=what, **more)


def opened(svc="feed", severity="critical"):
    return step(1, K.OPENED, svc, reason="silent", severity=severity)


def restarts(svc="feed", *ends):
    """Return an incident with a restart for each of the ends: `verified`, `failed`, `abandoned`."""
    steps = [opened(svc), step(1, K.WAITING, svc, remedy="wait")]
    for number, end in enumerate(ends):
        acted = [] if end is K.ABANDONED else [step(2 + number, K.ACTED, svc, remedy="restart")]
        steps += [*acted, step(3 + number, end, svc, remedy="restart")]
    return steps


async def add(bus, *entries):
    for each in entries:
        raw = each if isinstance(each, bytes) else each.encode()
        await bus.client.xadd(MEDIC_INCIDENTS, {"entry": raw})


async def test_what_is_new_is_added_and_a_stream_that_was_begun_anew_replaces_all():
    bus = MemoryBus()
    record = IncidentRecord(lambda: bus)
    assert (await record.read()).incidents == ()
    await add(bus, opened(), b"[]", b'{"incident": "a b"}', opened("shop"))
    assert (await record.read()).incidents == ()  # asked a moment ago
    record.clear()
    found = await record.read()
    assert ([each.svc for each in found.incidents], found.unusable) == (["shop", "feed"], 2)
    await add(bus, step(9, K.ESCALATED, reason="exhausted"))
    record.clear()
    found = await record.read()
    assert [(each.svc, each.resolution) for each in found.incidents] == [
        ("feed", "escalated"),
        ("shop", "open"),
    ]
    await bus.client.delete(MEDIC_INCIDENTS)
    await bus.client.xadd(MEDIC_INCIDENTS, {"entry": opened("new").encode()}, id="1-1")
    record.clear()
    found = await record.read()
    assert ([each.svc for each in found.incidents], found.unusable) == (["new"], 0)


async def test_a_bus_that_is_away_leaves_what_was_read_last_and_says_why():
    bus = MemoryBus()
    record = IncidentRecord(lambda: bus)
    await add(bus, opened())
    assert (await record.read()).away is None
    bus.connected = False
    record.clear()
    found = await record.read()
    assert ([each.svc for each in found.incidents], "system-redis" in found.away) == (["feed"], True)


def diagnosis(after_sec, text, svc="feed", **more):
    told = {"svc": svc, "incident": f"{svc}.1793000000000", "ts": NOW + after_sec}
    return DiagnosisRecord(**told, reason="escalated", text=text, **more)


async def add_diagnosis(bus, record):
    entry = TimelineEntry(incident=record.incident, ts=record.ts, svc=record.svc, what=K.DIAGNOSED)
    await bus.client.xadd(MEDIC_INCIDENTS, {"entry": entry.encode(), "diagnosis": record.encode()})


async def test_each_diagnosis_of_an_outage_is_shown_once_the_newest_first_and_with_its_own_command():
    bus = MemoryBus()
    await add(bus, opened(), opened("shop"))
    first = diagnosis(10, "Slow.", patch="-\told\x1b[2J", altered=True, model="small")
    second, archived = diagnosis(20, "Full."), diagnosis(5, "Old.", patch="+old")
    for each in (first, diagnosis(15, "Other.", "shop"), second):
        await add_diagnosis(bus, each)
    await bus.client.hset("medic:state", make_diagnosis_field("feed"), second.encode())
    junk = {"entry": step(21, K.DIAGNOSED).encode(), "diagnosis": b'{"svc": 7}'}
    await bus.client.xadd(MEDIC_INCIDENTS, junk)
    record = IncidentRecord(lambda: bus)
    incident = (await record.read()).find("feed.1793000000000")
    found = [*await record.read_diagnoses(incident), archived, first]
    shown = make_diagnoses(incident.id, found)
    command = f"marketswarm medic patch {incident.id}"
    assert [(each.text, each.command) for each in shown] == [
        ("Full.", ""),
        ("Slow.", f"{command} --back 1"),
        ("Old.", f"{command} --back 2"),
    ]
    assert (shown[1].model, shown[1].altered, shown[1].patch) == ("small", True, "-\told\\x1b[2J")
    assert not shown[2].altered
    bus.connected = False
    assert await record.read_diagnoses(incident) == []


def test_only_the_newest_diagnoses_of_an_outage_are_shown():
    shown = make_diagnoses("feed.1", [diagnosis(number, f"n{number}") for number in range(30)])
    assert [each.text for each in shown] == [f"n{number}" for number in range(29, 9, -1)]


def test_an_outage_has_the_values_that_the_view_of_postgresql_has():
    end = step(99, K.RESOLVED, reason="healed", sec=98.5)
    (found,) = fold_incidents([*restarts("feed", K.FAILED, K.VERIFIED), end])
    summary = summarize_incident(found)
    assert (summary.id, summary.timestamp, summary.container_name) == (found.id, NOW + 1, "feed")
    assert (summary.issue_type, summary.severity, summary.escalated) == ("silent", "critical", False)
    assert (summary.healing_attempts, summary.healing_strategies_tried) == (2, ("restart",))
    assert (summary.resolution_status, summary.resolution_details) == ("healed", "verified restart")
    assert (summary.resolved_at, summary.resolution_time_seconds) == (NOW + 99, 98.5)
    assert [each.text for each in make_steps(found)][:3] == [
        "opened: silent",
        "waiting wait",
        "acted restart",
    ]


def test_a_proposal_waits_until_it_is_answered_or_left():
    proposed = step(2, K.PROPOSED, remedy="restart", proposal="3f9a1c04")
    for more, waits in (
        ([], True),
        ([step(3, K.RESTARTED, reason="up")], True),
        ([step(3, K.DIAGNOSED, text="it hangs")], True),
        ([step(3, K.APPROVED, remedy="restart")], False),
        ([step(3, K.EXPIRED, remedy="restart")], False),
        ([step(3, K.RECOVERED)], False),
    ):
        (found,) = fold_incidents([opened(), proposed, *more])
        assert (found.proposal is not None) is waits, more
        assert summarize_incident(found).proposal == ("3f9a1c04" if waits else None)


async def test_a_proposal_whose_id_no_one_could_approve_is_not_read():
    bus = MemoryBus()
    wrong = orjson.loads(step(2, K.PROPOSED, remedy="restart", proposal="3f9a1c04").encode())
    await add(bus, opened(), *(orjson.dumps(wrong | {"proposal": each}) for each in ("a b", "x" * 51, 7)))
    found = await IncidentRecord(lambda: bus).read()
    assert (found.list_proposals(), found.unusable) == ((), 3)


async def test_proposals_are_listed_with_the_fuse_first():
    bus = MemoryBus()
    await add(
        bus,
        opened(),
        step(2, K.PROPOSED, remedy="restart", proposal="3f9a1c04"),
    )
    await bus.client.hset("medic:state", "fuse", b'{"acted":[1000.0],"blown_at":1001.5}')
    found = (await IncidentRecord(lambda: bus).read()).list_proposals()
    assert [(each.id, each.svc, each.since) for each in found] == [
        ("fuse", "", 1001.5),
        ("3f9a1c04", "feed", found[1].since),
    ]
    for raw in (b'{"acted":[],"blown_at":null}', b"junk", b'{"blown_at":"now"}'):
        await bus.client.hset("medic:state", "fuse", raw)
        assert [each.id for each in (await IncidentRecord(lambda: bus).read()).list_proposals()] == [
            "3f9a1c04"
        ]


async def test_the_fuse_is_proposed_by_the_state_alone():
    bus = MemoryBus()
    await add(bus, opened(), step(2, K.PROPOSED, remedy="restart", proposal="fuse"))
    assert (await IncidentRecord(lambda: bus).read()).list_proposals() == ()


def test_the_success_of_a_remedy_is_what_was_verified_and_did_not_come_back():
    incidents = fold_incidents(
        [
            *restarts("a", K.FAILED, K.VERIFIED),
            *restarts("b", K.VERIFIED),
            step(9, K.RELAPSED, "b"),
            *restarts("c", K.ABANDONED),
            *[opened("f"), step(2, K.ABANDONED, "f", remedy="restart", reason="undone")],
            *[opened("d"), step(1, K.WAITING, "d", remedy="wait"), step(3, K.RECOVERED, "d")],
            *[opened("e"), step(1, K.WAITING, "e", remedy="wait")],
            *[step(2, K.REFUSED, "e", remedy="restart", reason="observed"), step(3, K.RECOVERED, "e")],
        ]
    )
    wait, restart = measure_remedies(incidents)
    assert (wait.remedy, wait.attempts, wait.verified, wait.success) == ("wait", 5, 1, 0.2)
    counted = (restart.attempts, restart.verified, restart.failed, restart.relapsed, restart.unknown)
    assert counted == (4, 2, 1, 1, 1)
    assert restart.success == pytest.approx(0.25)


def approved(svc, number, end):
    ident = {"incident": f"{svc}.{number}", "ts": NOW + 100 * number, "svc": svc}
    steps = [(K.OPENED, "", "silent"), (K.PROPOSED, "restart", ""), (K.APPROVED, "restart", "")]
    steps += [
        (K.INTENDED, "restart", ""),
        (K.ACTED, "restart", ""),
        (end, "restart", ""),
        (K.RESOLVED, "", ""),
    ]
    return [TimelineEntry(**ident, what=what, remedy=remedy, reason=why) for what, remedy, why in steps]


def test_what_became_of_approvals_is_shown_by_service_the_most_frequent_first():
    ends = [("mesh", K.VERIFIED), *[("feed", K.FAILED), ("feed", K.VERIFIED), ("feed", K.VERIFIED)]]
    entries = [entry for number, (svc, end) in enumerate(ends) for entry in approved(svc, number, end)]
    found = list_approvals(RecordedIncidents(tuple(fold_incidents(entries))))
    shown = [(each.svc, each.remedy, each.helped, each.failed, each.in_a_row) for each in found]
    assert shown == [("feed", "restart", 2, 1, 2), ("mesh", "restart", 1, 0, 1)]
    many = [entry for number in range(60) for entry in approved(f"s{number}", number, K.VERIFIED)]
    assert len(list_approvals(RecordedIncidents(tuple(fold_incidents(many))))) == 50


def test_times_to_resolve_are_those_of_outages_that_are_over():
    assert measure_resolutions(()).median_sec is None
    ends = [step(9, K.RESOLVED, f"s{n}", reason="healed", sec=float(n)) for n in (10, 20, 30)]
    found = [*ends, opened("open"), step(2, K.ESCALATED, "open", reason="exhausted")]
    stats = measure_resolutions(fold_incidents(found))
    assert (stats.count, stats.escalated, stats.median_sec, stats.p95_sec) == (4, 1, 20.0, 30.0)
    assert stats.by_status == {"healed": 3, "escalated": 1}


async def test_no_text_of_the_record_can_act_on_a_terminal_or_a_line():
    bus, evil = MemoryBus(), "x\n\x1b[31m\u202e"
    await add(bus, step(1, K.OPENED, "x", reason=evil, text=evil, severity=evil))
    await add(bus, step(2, K.ACTED, "x", remedy=evil, reason=evil))
    (found,) = (await IncidentRecord(lambda: bus).read()).incidents
    summary = orjson.loads(orjson.dumps(summarize_incident(found)))
    shown = [*(each.text for each in make_steps(found)), *map(str, summary.values())]
    assert all(text.isprintable() for text in shown)
    assert all(each.remedy.isprintable() for each in measure_remedies([found]))
    evil_steps = [
        replace(each, svc=evil, remedy=each.remedy and evil) for each in approved("x", 1, K.VERIFIED)
    ]
    (shown,) = measure_approvals(fold_incidents(evil_steps))
    assert (shown.svc + shown.remedy).isprintable()


async def test_alerts_are_counted_by_type_and_only_the_recent_ones():
    buses = MemoryBus("system-redis"), MemoryBus("market-redis")
    now = time.time()
    for number, (kind, age_sec) in enumerate(
        [
            (Kind.HEARTBEAT_MISS, 9000),
            (Kind.BUS_MISS, 60),
            (Kind.HEARTBEAT_MISS, 50),
            (Kind.HEARTBEAT_MISS, 5),
        ]
    ):
        event = encode_event(Event(kind, "feed", now - age_sec, f"e{number}", "healer"))
        for bus in buses:  # both logs have it
            await bus.client.xadd(ALERT_LOG, {"event": event})
    newest = await read_newest_alerts(buses)
    counts, is_complete = count_alerts(newest, now - 3600)
    counted = [(each.type, each.severity, each.count) for each in counts]
    assert counted == [("heartbeat_miss", "warning", 2), ("bus_miss", "critical", 1)]
    assert (is_complete, newest.away) == (True, {})


async def test_an_alert_whose_copies_are_on_different_pages_of_the_log_counts_once(monkeypatch):
    monkeypatch.setattr(incident_record, "MAX_PAGE_EVENTS", 2)
    buses = MemoryBus("system-redis"), MemoryBus("market-redis")
    now = time.time()

    async def log(bus: MemoryBus, ident: str, kind: Kind, at_sec: int) -> None:
        event = encode_event(Event(kind, "feed", now, ident, "healer"))
        await bus.client.xadd(ALERT_LOG, {"event": event}, id=f"{at_sec}-0")

    for number in range(5):
        await log(buses[0], f"e{number}", Kind.HEARTBEAT_MISS, 10 + number)
    await log(buses[0], "bus", Kind.BUS_MISS, 15)
    await log(buses[1], "bus", Kind.BUS_MISS, 5)  # this bus was slower, or its clock is
    newest = await read_newest_alerts(buses)
    assert [each.id for each in newest.events] == ["bus", "e4", "e3", "e2", "e1", "e0"]
    counts, _ = count_alerts(newest, now - 3600)
    assert {each.type: each.count for each in counts} == {"heartbeat_miss": 5, "bus_miss": 1}


async def test_looks_at_the_same_time_read_each_entry_once():
    bus = MemoryBus()
    record = IncidentRecord(lambda: bus)
    await add(bus, *restarts("feed", K.VERIFIED))

    async def look():
        record.clear()
        return await record.read()

    found = await asyncio.gather(*(look() for _ in range(5)))
    assert {len(each.incidents[0].timeline) for each in found} == {4}


@pytest.mark.parametrize(
    ("settings", "modes"),
    [
        ({}, {}),
        ({"targets": {"a": {"mode": "act"}, "b": {}, "c": {"mode": None}}}, {"a": "act"}),
        ({"targets": [1]}, {}),
        ({"targets": {"a": 1, "b": {"mode": 7}}}, {}),
    ],
)
def test_modes_are_those_that_the_truth_names(settings, modes):
    assert find_modes(settings) == modes
