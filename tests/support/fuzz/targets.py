"""Targets of `mutation`: `parse_beat`, `parse_event` and `parse_truth` must survive any bytes."""

import hashlib
import math
import re
from collections.abc import Hashable
from dataclasses import asdict, fields, replace
from pathlib import Path

import orjson

from marketswarm import beat, event
from marketswarm.beat import MAX_BOOT_CHARS, MAX_DETAIL_CHARS, Beat, encode_beat
from marketswarm.event import Event, Kind, encode_event
from marketswarm.truth import TruthError, diff_truths, parse_truth
from support.fuzz.mutation import Target

SVC = "rss_agg"
SHIPPED = (Path(__file__).parents[3] / "truth.json").read_bytes()


def words(text: str) -> tuple[bytes, ...]:
    """Each word of a text, bare and as a JSON string."""
    return tuple(form for word in text.split() for form in (word.encode(), f'"{word}"'.encode()))


def examine_beat(raw: bytes) -> Hashable:
    """A beat or a reason; a beat has what it says it has, and comes back as it was when written again."""
    found = beat.parse_beat(raw, SVC)
    if type(found) is beat.MalformedBeat:
        assert found.reason in ("too_long", "not_json", "not_an_object", "other_svc", "bad_i", "bad_ts")
        return found.reason
    assert type(found) is Beat
    assert found.svc == SVC
    assert type(found.i) is int
    assert found.i >= 0
    assert type(found.ts) is float
    assert math.isfinite(found.ts)
    assert found.boot is None or 0 < len(found.boot) <= MAX_BOOT_CHARS
    assert found.status in ("ok", "degraded", "stopping")
    assert found.detail is None or 0 < len(found.detail) <= MAX_DETAIL_CHARS
    assert found.every is None or 0 < found.every < math.inf
    again = beat.parse_beat(encode_beat(found), SVC)
    every = None if found.every is None else round(found.every, 3) or None
    assert again == replace(found, ts=float(f"{found.ts:.3f}"), every=every), again
    return tuple(value is None for value in asdict(found).values()), found.status


def examine_event(raw: bytes) -> Hashable:
    """An event or a reason; an event is written and read back for ever the same."""
    found = event.parse_event(raw)
    if type(found) is event.MalformedEvent:
        return found.reason
    assert type(found) is Event
    assert type(found.type) is Kind
    assert all(type(text) is str for text in (found.svc, found.id, found.by))
    once = encode_event(found)
    again = event.parse_event(once)
    assert type(again) is Event, again
    assert encode_event(again) == once
    assert (again.type, again.svc, again.id, again.by) == (found.type, found.svc, found.id, found.by)
    return found.type, tuple(getattr(found, each.name) is None for each in fields(found))


def examine_truth(raw: bytes) -> Hashable:
    """Accepted, or told what is wrong in words fit for a log; an accepted one answers all that agents ask."""
    accepted = True
    try:
        loaded = parse_truth(raw)
    except TruthError as error:
        accepted = False
        problems = error.problems
        text = str(error)
        assert problems
        assert text
    else:
        problems = loaded.warnings
        text = "\n".join(map(str, problems))
        assert loaded.sha256 == hashlib.sha256(raw).hexdigest()
        _use(loaded.truth)
    text.encode()
    assert all(character.isprintable() for character in text.replace("\n", ""))
    assert all(len(line) < 2000 for line in text.splitlines()), text
    return accepted, tuple(sorted({_SHOWN.sub("…", problem.message)[:60] for problem in problems})[:3])


_SHOWN = re.compile(r"\d+|\"[^\"]*\"|'[^']*'")


def _use(truth) -> None:
    names = truth.bus_names()
    channels = set()
    for watch in truth.watched():
        assert watch.bus in names
        assert 0 < watch.interval_sec < watch.timeout_sec < math.inf
        assert (watch.bus, watch.channel) not in channels
        channels.add((watch.bus, watch.channel))
    for svc in truth.services:
        assert truth.bus_of(svc) in names
        assert truth.timeout_of(svc) > 0
    truth.alert_target("healer:alerts")
    assert truth.bus_timeout_sec() > 0
    assert not diff_truths(truth, truth).changed
    diff_truths(None, truth)


_BEATS = (
    encode_beat(Beat(SVC, 1, 1762433458.125)),
    encode_beat(Beat(SVC, 42, 1762433458.5, boot="b00700b007aa", rev=3, every=10.0)),
    encode_beat(
        Beat(SVC, 999, 1.0, boot="x" * 64, rev=2**53, status="stopping", detail="é\u2028" * 50, every=0.001)
    ),
    encode_beat(Beat(SVC, 7, 1762433458.0, status="degraded", detail="no feed")),
    b'{"svc":"rss_agg","i":1,"ts":1762433458}',
    b'{ "ts" : 1762433458, "i" : 0 , "svc" : "rss_agg", "new": {"a": [1, 2.5, null]} }',
)
_EVENTS = (
    *(
        encode_event(
            Event(kind, SVC, 1762433458.3, f"{kind}.{SVC}.1", "healer", late_sec=31.2, timeout_sec=30.0)
        )
        for kind in Kind
    ),
    encode_event(
        Event(
            Kind.HEARTBEAT_OK, SVC, 1762433458.3, "x", "healer", age_sec=0.004, reason="silent",
            down_sec=99.5, since=1762433300.0, gap_sec=12.0, restarted=True,
        )
    ),
    b'{"type":"heartbeat_ok","svc":"rss_agg","age_sec":0.004,"ts":1762433561.0}',
    b'{"type":"heartbeat_ok","svc":"rss_agg","ts":1.7e308}',
)  # fmt: skip
_SMALL = {
    "version": 1,
    "buses": {"system-redis": {"url": "redis://system-redis:6379"}},
    "services": {
        "rss_agg": {
            "heartbeat": {"interval_sec": 10, "redis_url": "redis://system-redis:6379", "timeout_sec": 30},
            "depends_on": ["mesh"],
            "severity": "critical",
            "access_points": {"publish_to": [{"bus": "market-redis", "key": "rss:items"}]},
            "settings": {"poll_sec": 60, "token": "env:TOKEN"},
        },
        "mesh": {"heartbeat": {"channel": "mesh:heartbeat", "monitored": False}},
        "healer": {
            "access_points": {
                "subscribe_to": [{"bus": "system-redis", "key": "rss_agg:heartbeat"}],
                "publish_to": [{"bus": "system-redis", "key": "healer:alerts"}],
            },
            "threshold": {"heartbeat_cadence": 30, "bus_timeout_sec": 10},
        },
    },
}

BEAT = Target(
    "beat",
    examine_beat,
    _BEATS,
    words("svc i ts boot rev status detail every ok degraded stopping rss_agg"),
    0.4,
)
EVENT = Target(
    "event",
    examine_event,
    _EVENTS,
    (*words(" ".join(each.name for each in fields(Event)) + " " + " ".join(Kind)), b'"ts":1.7e308,'),
    0.2,
)
TRUTH = Target(
    "truth",
    examine_truth,
    (orjson.dumps(_SMALL), orjson.dumps(_SMALL, option=orjson.OPT_INDENT_2), SHIPPED, b'{"services":{}}'),
    words(
        "services buses version rss_agg healer heartbeat channel interval_sec redis_url timeout_sec "
        "monitored threshold heartbeat_cadence bus_timeout_sec access_points subscribe_to publish_to bus key "
        "depends_on tags severity critical info description endpoints settings url password token "
        "system-redis market-redis "
        "env:NAME redis://system-redis:6379 redis://u:p@h:1/2 rediss://[::1]:99999 unix:///x"
    ),
    0.05,
    longest=16384,
)
