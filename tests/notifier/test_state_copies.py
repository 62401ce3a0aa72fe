"""Of the copies of the notifier's state none that another one does not include is lost or written over."""

import asyncio
import contextlib

import pytest

from marketswarm.bus import BusError
from marketswarm.net.retry import Backoff
from marketswarm.tasks import end_tasks
from notifier.router.incident import Incident, Notice, NoticeKind
from notifier.state import NotifierState
from notifier.state_copies import (
    TERMS_KEPT,
    Lineage,
    StateCopy,
    find_apart,
    find_newest,
    find_replay_starts,
    join_lineages,
    merge_fields,
)
from notifier.store import LOAD_WITHIN_SEC, Store, Transaction


class ScriptedBus:
    """A bus that holds one hash, and does what `commit.lua` does to it; `errors` come first, then answers."""

    def __init__(self, name, state=None):
        self.name, self.state = name, dict(state or {})
        self.away = False
        self.answers_after_sec = 0.0
        self.errors = []
        self.client = self

    def hgetall(self, _key):
        return None

    async def ask(self, _command, _within_sec=None):
        if self.errors:
            raise BusError(self.name, self.errors.pop(0))
        await self._answer()
        return {name.encode(): value for name, value in self.state.items()}

    async def script(self, _script, _keys, args, _within_sec):
        await self._answer()
        _boot, term, is_whole, *held, seq = args[:6]
        stored = [self.state.get(name, b"") for name in ("by", "seq")]
        if stored != [each if isinstance(each, bytes) else str(each).encode() for each in held]:
            return stored
        self.state = {} if is_whole else self.state
        rest = list(args[10 + 1 :])
        assert rest.pop(0) == 0, "no answers"
        for _ in range(rest.pop(0)):
            name, value = rest.pop(0), rest.pop(0)
            self.state[name] = value
        for _ in range(rest.pop(0)):
            self.state.pop(rest.pop(0), None)
        self.state |= {"seq": str(seq).encode(), "by": term.encode()}
        return 1

    async def _answer(self):
        await asyncio.sleep(self.answers_after_sec)
        if self.away:
            raise BusError(self.name, "timeout")


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr("notifier.store.PAUSES", Backoff(0.0, 0.0))
    monkeypatch.setattr("notifier.store.LOADING_PAUSE_SEC", 0.0)


@contextlib.asynccontextmanager
async def term(*buses, boot="me"):
    """A store that was loaded and runs; `ends` are the buses for which its term was to end."""
    ends: list[str] = []
    store = Store(
        boot,
        {bus.name: bus for bus in buses},
        rejected=print,
        acknowledged=lambda *_: None,
        ahead=ends.append,
    )
    fields = await store.load()
    task = asyncio.create_task(store.run())
    try:
        yield store, fields, ends
    finally:
        await end_tasks(task)


async def turns():
    for _ in range(100):
        await asyncio.sleep(0)


def rest(bus):
    return {name: value for name, value in bus.state.items() if name not in ("seq", "by", "past")}


def older_release(seq, by="old", **fields):
    return {"seq": str(seq).encode(), "by": by.encode(), **fields}


async def test_a_newer_state_on_a_bus_that_was_away_ends_the_term_and_the_next_one_has_both(no_pauses):
    a = ScriptedBus("a", older_release(2, **{"r:i:a": b"told"}))
    b = ScriptedBus("b", older_release(1))
    a.away = True
    async with asyncio.timeout(10), term(a, b) as (store, fields, ends):
        assert fields == {}
        assert await store.commit(Transaction({"x": b"1"}))
        for n in range(5):
            await store.commit(Transaction({"y": b"%d" % n}))
        a.away = False
        await turns()
        assert set(ends) == {"a"}
        assert rest(a) == {"r:i:a": b"told"}, "it is not written over"
    async with asyncio.timeout(10), term(a, b) as (store, fields, ends):
        assert fields == {"r:i:a": b"told", "x": b"1", "y": b"4"}
        assert await store.commit(Transaction({"z": b"1"}))
        await store.settle()
        assert ends == []
        assert rest(a) == rest(b) == {**fields, "z": b"1"}


async def test_an_older_state_on_a_bus_that_was_away_is_replaced_and_the_term_goes_on(no_pauses):
    a, b = ScriptedBus("a"), ScriptedBus("b")
    async with asyncio.timeout(10), term(a, b) as (store, _, _):
        await store.commit(Transaction({"x": b"1"}))
        await store.settle()
        b.away = True
        await store.commit(Transaction({"x": b"2", "gone": b"1"}))
    for n in range(3):  # terms that know nothing of b, and a bus that lags behind all of them
        async with asyncio.timeout(10), term(a, b, boot=f"boot{n}") as (store, fields, _):
            await store.commit(Transaction({"x": b"%d" % n, "gone": None}))
    b.away = False
    async with asyncio.timeout(10), term(a, b) as (store, fields, ends):
        assert fields == {"x": b"2"}, "what the older copy has besides was deleted since"
        await store.commit(Transaction({"z": b"1"}))
        await store.settle()
        assert (ends, rest(b)) == ([], {"x": b"2", "z": b"1"})


async def test_a_bus_that_comes_back_with_an_older_copy_gets_the_newer_one_within_the_term(no_pauses):
    a, b = ScriptedBus("a"), ScriptedBus("b")
    async with asyncio.timeout(10), term(a, b) as (store, _, ends):
        await store.commit(Transaction({"x": b"1"}))
        await store.settle()
        before = dict(b.state)
        await store.commit(Transaction({"x": b"2"}))
        await store.settle()
        b.state = before  # as after a crash that lost its last second
        store.writers["b"].check_seq(b.state["seq"])
        await turns()
        assert (ends, rest(b)) == ([], {"x": b"2"})


async def test_of_two_writers_the_one_that_did_not_load_the_others_state_writes_nothing_over_it(no_pauses):
    bus = ScriptedBus("a")
    async with asyncio.timeout(10), term(bus) as (first, _, first_ends):
        await first.commit(Transaction({"x": b"1"}))
        async with term(bus, boot="other") as (second, fields, second_ends):
            assert fields == {"x": b"1"}
            assert await second.commit(Transaction({"x": b"2"}))
            assert not await first.commit(Transaction({"x": b"3"}))
            await turns()
            assert (set(first_ends), second_ends, rest(bus)) == ({"a"}, [], {"x": b"2"})


async def test_a_bus_that_reads_its_data_from_disk_is_waited_for(no_pauses):
    a, b = ScriptedBus("a", older_release(2, newest=b"1")), ScriptedBus("b", older_release(1))
    a.errors = ["loading"] * 50
    async with asyncio.timeout(10), term(a, b) as (_, fields, _):
        assert fields == {"newest": b"1"}


async def test_a_bus_that_answers_late_is_waited_for(moved_time):
    a, b = ScriptedBus("a", older_release(2, newest=b"1")), ScriptedBus("b", older_release(1))
    a.answers_after_sec = LOAD_WITHIN_SEC - 1
    async with term(a, b) as (_, fields, _):
        assert fields == {"newest": b"1"}


async def test_loading_ends_though_a_bus_never_ends_reading_its_data(no_pauses, monkeypatch):
    monkeypatch.setattr("notifier.store.LOADING_WITHIN_SEC", 0.05)
    a, b = ScriptedBus("a"), ScriptedBus("b", older_release(1, x=b"1"))
    a.errors = ["loading"] * 1_000_000
    async with asyncio.timeout(10), term(a, b) as (store, fields, _):
        assert fields == {"x": b"1"}
        assert await store.commit(Transaction({"y": b"1"}))


@pytest.mark.parametrize("seq", [b"9" * 5000, b"-1", b"x", b""])
async def test_a_number_that_no_term_wrote_counts_as_0(no_pauses, seq):
    bus = ScriptedBus("a", {"seq": seq, "by": b"\xff", "x": b"1", "past": b'{"by":[],"terms":3}'})
    async with asyncio.timeout(10), term(bus) as (store, _, ends):
        assert await store.commit(Transaction({"y": b"1"}))
        assert (ends, rest(bus)) == ([], {"x": b"1", "y": b"1"})


def copy(by, seq, past=None, **fields):
    raw = {"by": by.encode(), "seq": str(seq).encode(), **fields}
    return StateCopy.parse(raw if past is None else {**raw, "past": past.encode(by)})


def test_of_an_older_release_the_higher_number_includes_the_lower_one_as_it_did():
    copies = {"a": copy("x", 7), "b": copy("y", 5), "c": copy("x", 6)}
    assert (find_newest(copies), find_apart(copies)) == ("a", [])


def test_the_lineage_of_a_release_that_did_not_know_it_says_nothing_of_what_was_written_since():
    past = Lineage({"x": 9}, 3)
    kept = StateCopy.parse({"by": b"older", "seq": b"20", "past": past.encode("newer.1")})
    assert kept.lineage == Lineage(floor=20)


def test_a_lineage_names_the_latest_terms_and_counts_what_is_lower_as_included():
    found = Lineage()
    for n in range(1, TERMS_KEPT + 11):
        found = join_lineages([copy(f"t{n}", 10 * n, found)])
    assert (len(found.terms), found.floor) == (TERMS_KEPT, 100)
    assert found.includes("t1", 10)
    assert not found.includes("other", 101)


def incident(key, ts, **more):
    return Incident(key, key, last_ts=ts, **more).encode()


def test_an_incident_and_its_notices_come_from_the_copy_with_its_later_event():
    def notice(name, key):
        return {f"r:l:{name}": Notice(name, key, key, NoticeKind.DOWN, 1.0, 1.0).encode()}

    newest = {"r:i:a": incident("a", 5.0), "r:i:b": incident("b", 1.0), "d:broken": b"{}"}
    apart = {
        "r:i:a": incident("a", 4.0, down=True),
        "r:i:b": incident("b", 2.0, down=True),
        "r:i:c": incident("c", 1.0, down=True),
        **notice("n1", "a"),
        **notice("n2", "b"),
        **notice("n3", "c"),
        "o:m:1": b"m",
        "o:w:1": b"w",
        "d:broken": b"old",
    }
    taken = apart.keys() - {"r:i:a", "r:l:n1", "d:broken"}
    assert merge_fields(newest, apart) == {**newest, **{name: apart[name] for name in taken}}


def keep_events(*ids, ts, bus=None, entry=None, told_at=None):
    """Return the field of an incident that handled these events, the last one at `ts`, read from an entry."""
    last_entries = {} if bus is None else {bus: entry}
    incident = Incident(
        "a", "a", True, last_id=ids[-1], last_ts=ts, last_entries=last_entries, told_at=told_at
    )
    for ident in ids:
        incident.record_handled(ident)
    return incident.encode()


A_SECOND_LATER = [
    ((keep_events("e1", ts=9000.0), keep_events("e1", "e2", ts=5000.0)), "knows the last event of the other"),
    (
        (
            keep_events("e1", ts=9000.0, bus="x", entry="1-9"),
            keep_events("e2", ts=5000.0, bus="x", entry="1-10"),
        ),
        "is behind it in a log",
    ),
    (
        (keep_events("e1", ts=5.0), keep_events("e1", ts=5.0, told_at=3.0)),
        "knows that it was told",
    ),
    (
        (
            keep_events("e1", ts=5.0, bus="x", entry="1-9"),
            keep_events("e2", ts=6.0, bus="y", entry="1-1"),
        ),
        "is later by its time, and nothing else tells",
    ),
]


@pytest.mark.parametrize("is_newest", [True, False])
@pytest.mark.parametrize(
    "copies", [each for each, _ in A_SECOND_LATER], ids=[why for _, why in A_SECOND_LATER]
)
def test_the_order_of_two_copies_is_that_of_ids_and_of_the_log_whatever_the_clocks_said(copies, is_newest):
    earlier, later = ({"r:i:a": each} for each in copies)
    newest, apart = (later, earlier) if is_newest else (earlier, later)
    assert merge_fields(newest, apart) == later


def test_a_log_is_handled_again_from_what_both_copies_had_read():
    one = {"d:read:a": b"10-0", "d:read:b": b"7-1", "d:read:c": b"1-0", "d:read:d": b"x"}
    other = {"d:read:a": b"9-0", "d:read:b": b"7-1", "d:read:d": b"2-0", "o:m:1": b"1"}
    assert find_replay_starts(one, other) == {"a": b"9-0"}


async def test_what_was_merged_is_logged_and_its_logs_are_handled_again(no_pauses, capsys):
    past = Lineage({}, 1)
    a = ScriptedBus("a", {**older_release(2, "x"), "d:read:a": b"5-0"})
    b = ScriptedBus("b", {**older_release(9, "y.1"), "past": past.encode("y.1"), "d:read:a": b"8-0"})
    async with asyncio.timeout(10), term(a, b) as (store, fields, _):
        said = capsys.readouterr()
        assert "store.merged" in said.out + said.err  # on stderr once a test before it set up the log
        assert store.replay_starts == {"a": b"5-0"}
        assert fields == {"d:read:a": b"8-0", "d:replay:a": b"5-0"}
        assert store.includes("x", 2)
        assert store.includes("y.1", 9)
        assert not store.includes("y.1", 10)


async def test_a_term_that_is_killed_before_it_read_the_log_again_leaves_that_to_the_next_one(no_pauses):
    past = Lineage({}, 1)
    a = ScriptedBus("a", {**older_release(2, "x"), "d:read:a": b"5-0", "d:read:b": b"3-0"})
    newest = {"past": past.encode("y.1"), "d:read:a": b"8-0", "d:read:b": b"3-0"}
    b = ScriptedBus("b", {**older_release(9, "y.1"), **newest})
    async with asyncio.timeout(10), term(a, b) as (store, _, _):
        await store.commit(Transaction({"d:read:a": b"9-0"}))  # the merged state is stored
        await store.settle()
    for _ in range(2):  # killed again and again
        async with asyncio.timeout(10), term(a, b) as (store, _, _):
            assert store.replay_starts == {"a": b"5-0"}
            await store.commit(Transaction({"d:read:a": b"10-0"}))
            await store.settle()
    async with asyncio.timeout(10), term(a, b) as (store, fields, _):
        state = NotifierState()
        assert state.restore(fields) == []
        state.end_replay("a")
        state.end_replay("b")
        await store.commit(Transaction(state.changes()))
        await store.settle()
        assert rest(a) == rest(b) == {"d:read:a": b"10-0", "d:read:b": b"3-0"}
    async with asyncio.timeout(10), term(a, b) as (store, _, _):
        assert store.replay_starts == {}


async def test_of_two_positions_from_which_a_log_is_to_be_read_again_the_earlier_counts(no_pauses):
    past = Lineage({}, 1)
    a = ScriptedBus("a", {**older_release(2, "x"), "d:read:a": b"7-0", "d:replay:a": b"4-0"})
    newest = {"past": past.encode("y.1"), "d:read:a": b"8-0", "d:replay:a": b"x", "d:replay:b": b"2-0"}
    b = ScriptedBus("b", {**older_release(9, "y.1"), **newest})
    async with asyncio.timeout(10), term(a, b) as (store, fields, _):
        assert store.replay_starts == {"a": b"4-0", "b": b"2-0"}
        assert {fields["d:replay:a"], fields["d:replay:b"]} == {b"4-0", b"2-0"}


def test_a_position_that_is_no_entry_is_unusable():
    assert NotifierState().restore({"d:replay:a": b"x", "d:replay:b": b"1-0"}) == ["d:replay:a"]
