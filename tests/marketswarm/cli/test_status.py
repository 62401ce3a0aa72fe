"""How a status report is drawn: for the eye of somebody who was woken by it."""

import re
from pathlib import Path

import pytest
from rich.console import Console

from marketswarm.bus.stored_values import MAX_EPOCH_SEC
from marketswarm.cli.status import (
    StatusDrawing,
    StatusReport,
    describe_leader,
    format_instances,
)
from marketswarm.monitor.last_run import LastRun
from marketswarm.status.fleet_state import Leader
from marketswarm.status.notifications import Notifications, PendingDelivery
from marketswarm.status.service_rows import ServiceRow, ServiceState

NOW = 1_762_433_458.0


def row(svc, verdict="up", **more):
    known = dict.fromkeys(("silence_sec", "instances", "boot", "rev", "restarts", "status", "detail"))
    fields = {"verdict": ServiceState(verdict), "timeout_sec": 30.0, "bus": "system-redis", **known, **more}
    return ServiceRow(svc, **fields)


def drawn(rows, width=80, height=None, *, fit=False, by=None):
    report = StatusReport(rows, 1, notifications=Notifications(at=NOW))
    console = Console(width=width, height=height, highlight=False, no_color=True)
    with console.capture() as captured:
        console.print(StatusDrawing(report, fit_height=fit, by=by), height=height)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_what_is_down_stands_on_top_and_says_since_when():
    rows = [
        row("up", silence_sec=1.0, status="ok"),
        row("gone", "down", since=NOW - 7200),
        row("new", "down"),
        row("seen_to", "down", since=NOW - 60, acked_by="kim", held="rate_limit"),
    ]
    lines = drawn(rows, 200)
    assert lines[0] == "3 of 4 down"
    assert [line.split()[0] for line in lines[2:]] == ["gone", "new", "seen_to", "up"]
    assert "2 h" in lines[2]
    assert "silent since " in lines[2]
    assert lines[3].endswith("never heard")
    assert lines[4].endswith("; acknowledged by kim; message held back: rate limit")


def test_a_service_that_is_paused_is_called_so_and_one_that_beats_is_said_to_be():
    lines = drawn([row("quiet", "unknown", paused=True), row("beats", status="ok", paused=True)], 200)
    assert lines[0] == "all 1 up, 1 paused"
    assert lines[2].split()[:2] == ["quiet", "paused"]
    assert "paused: not monitored" in lines[3]
    assert "not monitored" not in lines[2]


def test_a_narrow_screen_goes_without_boot_and_revision_first():
    assert drawn([row("a")], 80)[1].split() == [
        "service", "verdict", "silence", "inst", "rev", "restarts", "boot", "state",
    ]  # fmt: skip
    assert drawn([row("a")], 79)[1].split() == ["service", "verdict", "silence", "inst", "restarts", "state"]
    assert drawn([row("a")], 50)[1].split() == ["service", "verdict", "silence", "state"]


def test_what_does_not_fit_on_a_screen_is_counted():
    rows = [*(row(f"up{n}") for n in range(30)), row("gone", "down")]
    lines = [line for line in drawn(rows, 80, 10, fit=True) if line]
    assert len(lines) <= 10
    assert lines[2].startswith("gone")
    assert lines[-1] == f"{31 - (len(lines) - 3)} more"
    assert len([line for line in drawn(rows) if line]) == 33


def test_by_host_each_machine_has_a_line_and_those_on_no_known_one_have_theirs():
    rows = [
        row("a", hosts=("web1",)),
        row("b", "down", hosts=("db1",)),
        row("c"),
        row("d", hosts=("db1",)),
        row("e", hosts=("db1", "web1")),
    ]
    lines = [line.split("  -")[0].rstrip() for line in drawn(rows, 200, by="host")[2:]]
    assert [re.sub(r" {2,}", " | ", line) for line in lines] == [
        "db1 | 1 of 2 down",
        "b | down",
        "d | up",
        "web1 | all 1 up",
        "a | up",
        "no known host | all 1 up",
        "c | up",
        "db1, web1 | all 1 up",
        "e | up",
    ]


def test_by_host_a_short_screen_counts_services_and_no_headings():
    rows = [row(f"s{number}", hosts=(f"h{number}",)) for number in range(30)]
    lines = [line for line in drawn(rows, 80, 9, fit=True, by="host") if line]
    shown = sum(line.startswith("s") for line in lines) - 1
    assert lines[-1] == f"{30 - shown} more"


def state(**more):
    """What the last column says of one service."""
    return (
        drawn([row("a", instances=1, rev=1, restarts=0, boot="b", **more)], 400)[2]
        .partition(" b ")[2]
        .strip()
    )


def test_the_last_run_of_a_command_is_shown_unless_the_goodbye_shows_it():
    run = LastRun(said="exit 3 after 1 s", ts=0.0, ok=False)
    assert state(status="ok", last_run=run).startswith("ok; last run exit 3 after 1 s at ")
    assert state(last_run=run).startswith("last run exit 3")
    assert state(status="stopping", detail="exit 3 after 1 s", last_run=run) == "stopping: exit 3 after 1 s"
    full = "exit 3 after 1 s: disk full\x1b"
    run = LastRun(said="exit 3 after 1 s", detail=full, ts=0.0, ok=False)
    assert state(status="ok", last_run=run).startswith("ok; last run exit 3 after 1 s: disk full\\x1b at ")
    assert state(status="stopping", detail=full, last_run=run) == "stopping: exit 3 after 1 s: disk full\\x1b"


def test_a_service_that_beats_and_is_down_for_a_reported_failure_is_not_silent():
    run = LastRun(said="failed", ts=0.0, ok=False, detail="disk full\x1b[2J on /backup")
    known = {"verdict": "down", "reason": "failed", "since": NOW - 3600, "down_since": NOW - 3000}
    beats = known | {"silence_sec": 2.0, "status": "ok"}
    words = r"failed since \S*( \S+)* ?\d\d:\d\d: reported: disk full on /backup; it beats"
    assert re.fullmatch(words, state(failure="disk full on /backup", last_run=run, **beats))
    silent = state(failure="disk full on /backup", **known | {"silence_sec": 50.0, "status": "ok"})
    assert silent.endswith(": reported: disk full on /backup")
    assert state(**beats | {"since": None, "down_since": None}) == "failed: a failure was reported; it beats"


def test_a_failure_is_shown_once_whoever_repeats_it():
    known = {"verdict": "down", "reason": "failed", "down_since": NOW - 60, "exit_code": 3}
    said = "exit 3 after 1 s"
    run = LastRun(said=said, ts=0.0, ok=False, detail=said)
    found = state(failure=said, last_run=run, status="stopping", detail=said, **known)
    assert found.endswith(": its command ended with exit code 3 after 1 s; stopping")
    later = LastRun(said="exit 4 after 9 s", ts=0.0, ok=False, detail="exit 4 after 9 s")
    found = state(failure=said, last_run=later, status="stopping", detail="exit 4 after 9 s", **known)
    assert found.endswith("exit code 3 after 1 s; stopping: exit 4 after 9 s")


def test_a_service_that_is_down_is_not_called_ok():
    assert state(verdict="down", status="ok") == "never heard"
    assert "ok" not in state(verdict="down", status="ok", since=NOW - 60, silence_sec=60.0, reason="silent")


@pytest.mark.parametrize(("reason", "words"), [("overdue", "overdue"), ("never_ended", "never ended")])
def test_a_job_without_its_run_is_not_silent(reason, words):
    assert state(verdict="down", reason=reason, since=NOW - 60).startswith(f"{words}, no run since ")
    assert state(verdict="down", reason=reason) == f"{words}, no run ever"


@pytest.mark.parametrize("ok", [False, True])
def test_a_failed_run_is_yellow(ok):
    report = StatusReport([row("a", last_run=LastRun(said="exit 3", ts=0.0, ok=ok))], 1)
    console = Console(width=200, force_terminal=True, color_system="standard")
    with console.capture() as captured:
        console.print(StatusDrawing(report))
    assert ("\x1b[33mlast run" in captured.get()) is not ok


@pytest.mark.parametrize(
    "run",
    [
        LastRun(code=1),
        LastRun(said="x", ts=MAX_EPOCH_SEC),
        LastRun(said="x"),
        LastRun(said="x" * 9999),
        LastRun(said="\x1b[2J", ts=0.0),
    ],
)
def test_a_run_with_parts_that_are_missing_long_or_hostile_can_be_shown(run):
    assert len(state(status="ok", last_run=run)) < 140
    assert "\x1b" not in state(last_run=run)


def test_a_notification_that_the_rate_limit_holds_back_is_shown_with_its_end():
    held = row("a", "down", since=NOW - 60, held="rate_limit", held_until=NOW + 60)
    (line,) = [line for line in drawn([held], 200) if line.startswith("a ")]
    assert re.search(r"; message held back: rate limit until .*\d\d:\d\d$", line)


def test_without_a_channel_it_is_said_that_none_is_configured():
    lines = drawn([row("a", "down", since=NOW - 60, held="nobody")], 200)
    assert lines[2].endswith("; no message sent: no channel is configured")


def test_a_command_that_failed_stands_above_what_is_up():
    lines = drawn([row("a"), row("b", "failed")], 200)
    assert lines[0] == "none of 2 down, 1 failed"
    assert [line.split()[0] for line in lines[2:]] == ["b", "a"]


def test_messages_that_wait_are_counted_by_channel_with_the_next_attempt():
    pending = (
        PendingDelivery("m1", "slack", "a is down", NOW - 90, NOW - 60, NOW + 60),
        PendingDelivery("m2", "slack", "b is down", NOW - 30, None, NOW + 60),
        PendingDelivery("m2", "email", "b is down", NOW - 30),
    )
    report = StatusReport([row("a")], 1, notifications=Notifications(pending=pending, at=NOW), data=Path("d"))
    (note,) = report.notes()
    assert re.fullmatch(
        r"2 messages wait for slack, failing since \d\d:\d\d, next attempt at \d\d:\d\d: "
        r"`marketswarm dead --data d`",
        note,
    )


def test_which_healer_leads_is_shown_with_its_epoch():
    assert describe_leader(Leader("0f3c", 7, 0.0)) == "healer 0f3c leads, epoch 7"


def test_a_lapsed_lease_is_shown_as_no_leader():
    assert describe_leader(Leader("0f3c", 7, 12.1)) == (
        "no healer leads: the lease of 0f3c ran out 12 s ago, and no alert is published"
    )


def test_instances_are_compared_with_the_number_that_the_truth_asks_for():
    assert format_instances(row("a", instances=2, replicas=3)) == "2 of 3"
    assert format_instances(row("a", instances=1)) == "1"
    assert format_instances(row("a", replicas=3)) is None


def test_the_notes_tell_a_refused_channel_from_a_flooded_one():
    rows = [row("old", "unwatchable", watch_reason="auth"), row("loud", "unwatchable", watch_reason="flood")]
    notes = StatusReport(rows, 1, notifications=Notifications(at=NOW)).notes()
    assert [note for note in notes if "old" in note] == [
        "the healer may not hear old: renew the users (`make seed`, or `marketswarm acl`)"
    ]
    assert [note for note in notes if "loud" in note] == [
        "the healer can't watch loud: more comes on its channel than is read"
    ]
