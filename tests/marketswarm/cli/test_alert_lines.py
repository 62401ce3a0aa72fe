"""The line of an event on the terminal; its words are held by tests/marketswarm/test_event_text.py."""

from datetime import UTC

import pytest

from marketswarm.cli.alerts import format_event_line
from marketswarm.cli.output import DIM, GREEN, RED

TS = 1762433458.3
BACK = {"type": "bus_ok", "svc": "b", "ts": TS}


@pytest.mark.parametrize(
    ("event", "line", "style"),
    [
        (
            {"type": "heartbeat_miss", "svc": "a", "late_sec": 31.2, "timeout_sec": 30.0},
            "✗ a is down: no beat for 31.2 s (timeout 30 s)",
            RED,
        ),
        (
            {"type": "heartbeat_ok", "svc": "a", "age_sec": 0.004, "down_sec": 250},
            "✓ a is up again, after 4 min 10 s",
            GREEN,
        ),
        (
            {"type": "heartbeat_gap", "svc": "a", "gap_sec": 95.0, "restarted": True},
            "· a restarted, and is up: silent for at least 95 s while nobody listened",
            DIM,
        ),
        ({"type": "new_kind", "svc": "b"}, "· new_kind b", DIM),
        ({"type": "heartbeat_ok", "svc": 7}, "· heartbeat_ok 7", DIM),
        ({"type": "probe_miss", "svc": "b", "late_sec": "x"}, "· probe_miss b", DIM),
        ({}, "· None", DIM),
        ({"type": "x", "svc": "\x1b[2J\nb"}, r"· x \x1b[2J\nb", DIM),
    ],
)
def test_every_event_is_a_line_and_has_a_colour(event, line, style):
    assert format_event_line(event | {"ts": TS}, UTC) == (f"12:50:58 {line}", style)


@pytest.mark.parametrize("ts", [None, "x", float("nan"), 1e300, {}])
def test_an_event_without_a_time_is_shown_all_the_same(ts):
    assert format_event_line(BACK | {"ts": ts}, now=TS)[0] == "--:--:-- ✓ bus b is back: it answers"


def test_an_event_of_another_day_has_its_date():
    assert format_event_line(BACK, UTC, now=TS + 3600)[0] == "12:50:58 ✓ bus b is back: it answers"
    assert format_event_line(BACK, UTC, now=TS + 86_400)[0].startswith("Thu 06 Nov 2025 12:50:58 ✓")
