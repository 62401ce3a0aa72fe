from datetime import UTC

import pytest

from marketswarm.cli.event_text import describe_event, format_moment, format_seconds

TS = 1762433458.3


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            {"type": "heartbeat_miss", "svc": "rss_agg", "late_sec": 31.2, "timeout_sec": 30.0},
            "✗ rss_agg is down: no beat for 31.2 s (timeout 30 s)",
        ),
        (
            {"type": "heartbeat_miss", "svc": "a", "late_sec": 30, "timeout_sec": 30, "reason": "stopped"},
            "✗ a is down: no beat for 30 s, after it said goodbye (timeout 30 s)",
        ),
        (
            {"type": "heartbeat_miss", "svc": "a", "late_sec": 30, "timeout_sec": 30, "reason": "never_seen"},
            "✗ a is down: no beat for 30 s, none ever (timeout 30 s)",
        ),
        (
            {"type": "heartbeat_ok", "svc": "a", "age_sec": 0.004, "down_sec": 250},
            "✓ a is up, after 4 min 10 s",
        ),
        ({"type": "heartbeat_ok", "svc": "a", "age_sec": 0.004}, "✓ a is up"),
        ({"type": "heartbeat_unwatched", "svc": "a"}, "· a is no longer watched; it was down"),
        (
            {"type": "healer_miss", "svc": "healer", "late_sec": 35, "timeout_sec": 30},
            "✗ healer is down, nobody watches: no beat for 35 s (timeout 30 s)",
        ),
        ({"type": "healer_ok", "svc": "healer"}, "✓ healer is up"),
        (
            {"type": "bus_miss", "svc": "market-redis", "late_sec": 12, "reason": "oom"},
            "✗ bus market-redis is away for 12 s (oom)",
        ),
        ({"type": "bus_ok", "svc": "market-redis"}, "✓ bus market-redis is back"),
        (
            {"type": "bus_ok", "svc": "extra", "reason": "unwatched", "since": 1.0},
            "· bus extra is no longer watched; it was away",
        ),
        ({"type": "truth_drift", "svc": "b"}, "✗ the truth on b is not the same as elsewhere"),
        ({"type": "truth_drift", "svc": "b", "reason": "missing"}, "✗ the truth on b is missing"),
        (
            {"type": "heartbeat_gap", "svc": "a", "gap_sec": 0.0, "restarted": True},
            "· a was restarted while nobody could listen; it is up",
        ),
        (
            {"type": "heartbeat_gap", "svc": "a", "gap_sec": 95.0, "restarted": True},
            "· a was restarted while nobody could listen, silent for at least 95 s; it is up",
        ),
        (
            {"type": "heartbeat_gap", "svc": "a", "gap_sec": 250.0, "restarted": False},
            "· a was silent for at least 4 min 10 s while nobody could listen; it is up",
        ),
        ({"type": "truth_ok", "svc": "b"}, "✓ the truth on b is as elsewhere again"),
        (
            {"type": "probe_miss", "svc": "massive/shop", "late_sec": 30.1, "reason": "nxdomain"},
            "✗ massive/shop is down: its probes have failed for 30.1 s (nxdomain)",
        ),
        (
            {"type": "heartbeat_miss", "svc": "b", "reason": "overdue", "since": 3.0, "late_sec": 90000},
            "✗ b is overdue: no run was reported by its deadline; no run for 25 h 0 min",
        ),
        (
            {"type": "heartbeat_miss", "svc": "b", "reason": "never_ended"},
            "✗ b never ended: its run started, and did not end within its longest time; no run ever",
        ),
        ({"type": "probe_miss", "svc": "b"}, "✗ b is down: its probes have failed for ? s"),
        (
            {"type": "probe_ok", "svc": "massive/shop", "down_sec": 250},
            "✓ massive/shop is up, after 4 min 10 s",
        ),
        (
            {"type": "probe_unwatched", "svc": "massive/shop"},
            "· massive/shop is no longer probed; it was down",
        ),
        (
            {"type": "watch_miss", "svc": "a", "reason": "auth"},
            "✗ a can't be watched: its channel is refused to the healer",
        ),
        ({"type": "watch_ok", "svc": "a", "down_sec": 20}, "✓ a can be watched again"),
        ({"type": "watch_unwatched", "svc": "a"}, "· a is no longer watched; it could not be heard"),
        ({"type": "reach_gap", "svc": "healer", "gap_sec": 31.5}, "· the healer reached no bus for 31.5 s"),
        ({"type": "new_kind", "svc": "b"}, "· new_kind b"),
        ({}, "· None"),
    ],
)
def test_every_event_is_a_sentence(event, said):
    assert describe_event(event | {"ts": TS}, UTC) == f"12:50:58 {said}"


@pytest.mark.parametrize("ts", [None, "x", float("nan"), 1e300, {}])
def test_an_event_without_a_time_is_told_all_the_same(ts):
    assert describe_event({"type": "bus_ok", "svc": "b", "ts": ts}) == "--:--:-- ✓ bus b is back"


def test_an_event_of_another_day_has_its_date():
    event = {"type": "bus_ok", "svc": "b", "ts": TS}
    assert describe_event(event, UTC, now=TS + 3600) == "12:50:58 ✓ bus b is back"
    assert describe_event(event, UTC, now=TS + 86_400) == "Thu 06 Nov 2025 12:50:58 ✓ bus b is back"
    assert describe_event(event | {"ts": None}, UTC, now=TS) == "--:--:-- ✓ bus b is back"


def test_a_name_cannot_touch_the_terminal():
    assert describe_event({"type": "x", "svc": "\x1b[2J\nb"}).endswith(r"· x \x1b[2J\nb")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0 s"),
        (31.24, "31.2 s"),
        (119.9, "119.9 s"),
        (250, "4 min 10 s"),
        (7500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
        (None, "? s"),
        (True, "? s"),
        ("x", "? s"),
    ],
)
def test_durations_read_well(value, said):
    assert format_seconds(value) == said


@pytest.mark.parametrize(
    ("ts", "said"),
    [(TS + 3600, "13:50"), (TS + 12 * 3600, "Fri 07 Nov 2025 00:50"), (TS - 86_400, "Wed 05 Nov 2025 12:50")],
)
def test_a_moment_is_a_time_of_day_and_has_its_day_when_that_is_another(ts, said):
    assert format_moment(ts, TS, UTC) == said
