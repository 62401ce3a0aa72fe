from types import SimpleNamespace

import pytest

from marketswarm.bus.stored_values import count_unusable
from marketswarm.detector import SavedJob, SavedService, State
from marketswarm.monitor.leadership import UNFENCED, Fence
from marketswarm.monitor.roster_entry import parse_entry
from marketswarm.monitor.store import (
    BATCH_SIZE,
    SavedSilence,
    StateStore,
    combine_service,
    parse_saved_silence,
)
from support.simulation.manual_detector import Hand, stored, watch

UNUSABLE = [
    b"",
    b"\xff\xfe",
    b"null",
    b"7",
    b"[]",
    b"{}",
    b'"x"',
    b"NaN",
    b"x" * 100_000,
    b"0x10",
    b"inf",
    b"9" * 400,
]
BUS = {"a": "system-redis"}
CLOCKS = {"system-redis": (100.0, 5000.0), "market-redis": (900.0, 5000.0)}


def recalled(entry=None, silence=None, clocks=None, bus_of=None) -> SavedService:
    bus = (bus_of or BUS).get("a", "")
    clock = (CLOCKS if clocks is None else clocks).get(bus)
    return combine_service(None if entry is None else stored(**entry), silence, clock, bus, None)


def test_who_was_up_with_no_silence_saved_was_beating_when_the_clock_was_last_written():
    entry = {"verdict": "up", "since": 4000.0, "boot": "b", "i": 7}
    assert recalled(entry) == SavedService(State.UP, 5000.0, None, True, "b", 7)


def test_a_silence_is_what_the_clock_has_moved_since_its_beginning():
    found = recalled({"verdict": "up"}, SavedSilence(80.0, 4980.0, True, "system-redis"))
    assert found == SavedService(State.UP, 4980.0, 20.0, True)


def test_a_silence_that_reaches_back_before_the_clocks_beginning_is_as_long():
    assert recalled({"verdict": "up"}, SavedSilence(-15.0, 4885.0, True, "system-redis")).silent_sec == 115


def test_a_beat_heard_ahead_of_what_was_proven_is_no_negative_silence():
    assert recalled({"verdict": "up"}, SavedSilence(100.8, 5000.0, True, "system-redis")).silent_sec == 0


def test_who_was_watched_in_vain_was_not_seen_and_has_no_since():
    found = recalled(None, SavedSilence(70.0, 0.0, False, "system-redis"))
    assert found == SavedService(State.UNKNOWN, None, 30.0, False)


def test_who_is_told_up_was_seen_whatever_silence_a_killed_run_left():
    entry = {"verdict": "up", "ts": 5003.0}
    found = recalled(entry, SavedSilence(70.0, 0.0, False, "system-redis"))
    assert found == SavedService(State.UP, 5003.0, None, True)


def test_who_is_down_was_silent_since_its_last_beat():
    found = recalled({"verdict": "down", "since": 4000.0, "boot": "b", "i": 3})
    assert (found.state, found.since, found.seen, found.i) == (State.DOWN, 4000.0, True, 3)


def test_who_is_down_is_so_since_its_event_says():
    event = {"type": "heartbeat_miss", "svc": "a", "ts": 4900, "since": 4000}
    found = recalled(
        {"verdict": "down", "since": 4000.0, "ts": 4900.0, "event": {**event, "down_since": 4800}}
    )
    assert (found.since, found.missed_at, found.down_since) == (4000.0, 4900.0, 4800.0)
    for none in (event, {**event, "down_since": -4800}, {**event, "down_since": "x"}, "x"):
        assert recalled({"verdict": "down", "ts": 4900.0, "event": none}).down_since is None


def test_who_is_down_and_never_was_seen_has_no_since():
    found = recalled({"verdict": "down"})
    assert (found.state, found.since, found.seen) == (State.DOWN, None, False)


@pytest.mark.parametrize("bus", ["market-redis", "gone"])
def test_a_silence_on_another_buses_clock_is_as_one_that_nobody_saved(bus):
    found = recalled({"verdict": "up"}, SavedSilence(80.0, 4980.0, True, "system-redis"), bus_of={"a": bus})
    assert (found.silent_sec, found.since, found.seen) == (None, 4980.0, True)


def test_a_silence_without_its_clock_is_as_one_that_nobody_saved():
    assert (
        recalled({"verdict": "up"}, SavedSilence(80.0, 4980.0, True, "system-redis"), {}).silent_sec is None
    )


@pytest.mark.parametrize("entry", [{"verdict": "up", "boot": 5, "i": "7"}, {"verdict": "down", "since": "x"}])
def test_what_is_of_a_wrong_type_in_the_roster_is_passed_over(entry):
    found = recalled(entry)
    assert (found.boot, found.i) == (None, 0)
    assert found.since in (None, 5000.0)


@pytest.mark.parametrize("bad", UNUSABLE)
def test_an_entry_without_a_usable_verdict_is_none_and_is_counted(bad):
    before = count_unusable()
    assert parse_entry("bus", "healer:roster", "a", bad) is None
    assert parse_entry("bus", "healer:roster", "a", b'{"verdict":%b}' % (bad or b'""')) is None
    assert count_unusable() == before + 2


def test_an_event_that_can_be_read_and_not_written_again_is_left_out_and_counted():
    event = b'{"type":"heartbeat_miss","svc":"a","ts":5,"x":%b}' % (b"[" * 300 + b"]" * 300)
    before, raw = count_unusable(), b'{"verdict":"down","ts":5,"since":4,"event":%b}' % event
    assert parse_entry("bus", "healer:roster", "a", raw).event is None
    assert count_unusable() == before + 1


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        (name, bad)
        for name in ("ts", "since", "boot", "i", "mark", "event")
        for bad in (b"[]", b"{}", b"true", b'"0x10"', b"-1", b"1e999", b"1e300", b'"%b"' % (b"x" * 600))
        if bad != b'"0x10"' or name not in ("boot", "mark")  # there it is a text like any other
    ],
)
def test_what_is_unusable_of_an_entry_is_left_out_and_counted_and_its_verdict_stands(name, bad):
    raw = b'{"verdict":"down","ts":5,"since":4,"%b":%b}' % (name.encode(), bad)
    before, entry = count_unusable(), parse_entry("bus", "healer:roster", "a", raw)
    assert count_unusable() == before + 1
    if bad == b"1e999":  # it is no JSON that anybody here reads
        assert entry is None
        return
    assert (entry.verdict, getattr(entry, name)) == (State.DOWN, 0.0 if name == "ts" else None)


@pytest.mark.parametrize(
    "raw",
    [
        *UNUSABLE,
        *(
            b"-inf 0",
            b"inf 0 1 system-redis",
            b"nan 0 1 system-redis",
            b"0x10 0 1 system-redis",
            b"1e3 0",
            b"1_0 0",
        ),
        *(b"1 -1 1 b", b"1 99999999999999 1 b", b"1 1 2 b", b"1 1 1", b"1", b"1 inf", b"1  1", b"\xd9\xa1 1"),
        b"99999999999 1 1 b",
        *(b"1 1 1 b x", b"1 1 1 b -1", b"1 1 1 b nan", b"1 1 1 b 1 1", b"1 1 1 b "),
        b"1 1 1 " + b"b" * 1000,
    ],
)
def test_what_is_no_silence_is_none(raw):
    assert parse_saved_silence(raw) is None


def test_a_silence_and_a_clock_are_read_as_they_were_written():
    assert parse_saved_silence(b"-15.000 1762433458.300 1 system-redis") == SavedSilence(
        -15, 1762433458.3, True, "system-redis"
    )
    assert parse_saved_silence(b"-15.000 1762433458.300 1 system-redis 30.000") == SavedSilence(
        -15, 1762433458.3, True, "system-redis", 30.0
    )
    assert parse_saved_silence(b"12.500 1762433458.300") == SavedSilence(12.5, 1762433458.3, True, "")


async def test_very_many_jobs_are_saved_and_deleted_in_batches(monkeypatch):
    asked: list[tuple[int, int]] = []

    async def count(_bus, transaction):
        [write] = transaction.hashes
        asked.append((len(write.fields), len(write.deleted)))
        return True

    monkeypatch.setattr("marketswarm.monitor.store.commit", count)
    jobs = {f"job{n}": SavedJob(1e9) for n in range(2 * BATCH_SIZE + 1)}
    gone = {f"gone{n}": None for n in range(BATCH_SIZE + 1)}
    store = StateStore(SimpleNamespace(), "healer")
    assert await store.save_jobs(Fence("b", 1), jobs | gone)
    assert asked == [(BATCH_SIZE, 0), (BATCH_SIZE, 0), (1, BATCH_SIZE - 1), (0, 2)]


async def test_more_silences_than_one_write_takes_are_all_saved_and_all_deleted(monkeypatch):
    monkeypatch.setattr("marketswarm.monitor.store.BATCH_SIZE", 2)
    hand = Hand(*(watch(svc) for svc in "abcde"))
    written, deleted = set(), set()

    async def save(_bus, transaction):
        [write] = transaction.hashes
        written.update(write.fields)
        deleted.update(write.deleted)
        return True

    monkeypatch.setattr("marketswarm.monitor.store.commit", save)
    store, services = StateStore(SimpleNamespace(), "healer"), hand.detector.services
    changed = {svc: services[svc] if svc in "abd" else None for svc in "abcde"}
    assert await store.save_silences(UNFENCED, changed, hand.detector, hand.now)
    clocks = {f"@{name}" for name in hand.detector.buses}
    assert written == clocks | {"a", "b", "d"}
    assert deleted == {"c", "e"}
    written.clear()
    assert await store.save_silences(UNFENCED, {}, hand.detector, hand.now)
    assert written == clocks  # the readings of the clocks are saved without a silence, too
