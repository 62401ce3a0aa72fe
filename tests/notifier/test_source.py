"""Of a log's end, the outages that last."""

from collections import Counter
from types import SimpleNamespace

import orjson

from marketswarm.event import Event, Kind
from marketswarm.operator.silences import KEPT_SEC, Silence
from notifier.inbox import Inbox, ReceivedEvent
from notifier.source import LogReader, SilenceSync, find_unfinished_outages


def log(*entries):
    """Oldest first, as it was written; given as it is read, latest first."""
    raw = [
        orjson.dumps({"type": kind, "svc": svc, "ts": float(n), "id": f"{kind}.{n}"})
        for n, (kind, svc) in enumerate(entries)
    ]
    return raw[::-1]


def lasting(*entries):
    known, latest_first = set(), log(*entries)
    pages = [latest_first[n : n + 2] for n in range(0, len(latest_first), 2)]
    return [event.id for page in pages for event, _ in find_unfinished_outages(page, known)][::-1]


def test_what_is_down_last_lasts_in_the_order_in_which_it_began():
    assert lasting(
        ("heartbeat_miss", "a"),
        ("heartbeat_ok", "a"),
        ("heartbeat_miss", "b"),
        ("heartbeat_miss", "a"),
        ("truth_drift", "bus"),
        ("bus_miss", "bus"),
        ("bus_ok", "bus"),
        ("heartbeat_miss", "c"),
        ("heartbeat_unwatched", "c"),
    ) == ["heartbeat_miss.2", "heartbeat_miss.3", "truth_drift.4"]


def test_a_gap_moves_nothing():
    assert lasting(("heartbeat_miss", "a"), ("heartbeat_gap", "a")) == ["heartbeat_miss.0"]


def test_what_cannot_be_watched_lasts_until_it_can_or_is_dropped():
    assert lasting(
        ("watch_miss", "a"),
        ("heartbeat_ok", "a"),
        ("watch_miss", "b"),
        ("watch_miss", "c"),
        ("watch_ok", "b"),
        ("watch_unwatched", "c"),
        ("reach_gap", "healer"),
    ) == ["watch_miss.0"]


def test_a_bus_and_a_service_of_one_name_are_two_things():
    assert lasting(("bus_miss", "a"), ("heartbeat_ok", "a")) == ["bus_miss.0"]


def test_nonsense_is_passed_over():
    assert find_unfinished_outages([b"", b"{", b"[]"], set()) == []


def silence(ident="q1", changed_at=10.0, ends_at=100.0):
    return Silence(
        id=ident,
        starts_at=0.0,
        ends_at=ends_at,
        author="ops",
        reason="move",
        changed_at=changed_at,
        services=("a",),
    )


def held(*silences):
    return {each.id.encode(): each.encode() for each in silences}


def test_a_bus_is_told_what_it_lacks_and_changes_are_told_once():
    told = []
    silences = SilenceSync(told.append)
    one = silence()
    assert silences.record_silences("a", held(one)) == {}
    assert silences.record_silences("b", {}) == {"q1": one.encode()}
    assert told == [[one]]
    assert silences.record_silences("b", held(one)) == {}
    assert told == [[one]]


def test_the_later_version_counts():
    told = []
    silences = SilenceSync(told.append)
    old, new = silence(), silence(changed_at=20.0, ends_at=50.0)
    silences.record_silences("a", held(old))
    assert silences.record_silences("b", held(new)) == {}
    assert told[-1] == [new]
    assert silences.record_silences("a", held(old)) == {"q1": new.encode()}


def test_a_silence_that_no_bus_holds_any_more_is_gone_and_one_that_was_seen_once_counts():
    told = []
    silences = SilenceSync(told.append)
    silences.record_silences("a", held(silence("q1")))
    silences.record_silences("b", held(silence("q2")))
    silences.record_silences("b", {})
    assert [each.id for each in told[-1]] == ["q1"]


def test_a_poll_parses_what_is_new_or_has_changed_and_nothing_else(monkeypatch):
    parsed, parse = [], Silence.parse
    monkeypatch.setattr(Silence, "parse", lambda raw: parsed.append(raw) or parse(raw))
    silences = SilenceSync(lambda _: None)
    many = [silence(f"q{n}", ends_at=float(n)) for n in range(300)]
    for bus in "ab":
        silences.record_silences(bus, held(*many))
    assert len(parsed) == 600
    parsed.clear()
    for _ in range(10):
        for bus in "ab":
            assert silences.record_silences(bus, held(*many)) == {}
    assert parsed == []
    changed = silence("q7", changed_at=20.0, ends_at=7.0)
    silences.record_silences("a", held(*many[:7], changed, *many[8:]))
    assert parsed == [changed.encode()]
    assert silences.record_silences("b", held(*many)) == {"q7": changed.encode()}
    assert silences.find_deletable("b", 2.0 + KEPT_SEC) == ["q0", "q1", "q2"]


async def test_a_log_counts_as_read_again_once_its_events_are_stored(monkeypatch):
    inbox, ended = Inbox(Counter()), []
    reader = LogReader(
        SimpleNamespace(name="one"),
        "me",
        inbox,
        room=None,
        answered=None,
        failed=None,
        replay_after=b"5-0",
        replayed=ended.append,
    )

    async def read_before(_bus, _stream, before, *, count):
        return [SimpleNamespace(id=b"%d-0" % n) for n in (7, 6, 5)] if before == b"+" else []

    async def fetch(_stream, idents):
        assert idents == [b"6-0", b"7-0"]
        inbox.add_events(
            ReceivedEvent("one", ident, Event(Kind.HEARTBEAT_OK, "a", 1.0, ident.decode(), "healer"), b"{}")
            for ident in idents
        )

    monkeypatch.setattr("notifier.source.read_entries_before", read_before)
    monkeypatch.setattr(reader, "_fetch", fetch)
    await reader.replay()
    reader.report_replay()
    assert ended == [], "a notifier that is killed now leaves that to the next one"
    inbox.take_events(10)
    inbox.mark_stored()
    reader.report_replay()
    reader.report_replay()
    assert ended == ["one"]
