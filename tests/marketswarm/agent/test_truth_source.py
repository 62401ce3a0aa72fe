"""Which truth an agent goes by, at its start and after each look."""

import asyncio
import contextlib
import gc
import hashlib
import threading
import time
from dataclasses import replace
from weakref import WeakValueDictionary

import orjson
import pytest

from marketswarm.agent import find_truth_buses, load_truth
from marketswarm.agent.truth_source import (
    LARGE_BYTES,
    MAX_RETRIES,
    FoundTruth,
    TruthFollower,
    TruthReading,
    TruthRefused,
    choose_truth,
    find_first_valid,
    read_fingerprint,
    read_fingerprints,
    read_first_valid,
    read_truth,
)
from marketswarm.bus import Bus
from marketswarm.exit import Exit
from marketswarm.settings import CommonSettings
from marketswarm.tasks import end_tasks
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from marketswarm.truth.patch import make_patch
from support.fixtures import opened
from support.memory_truth import put_truth
from support.rig import Server
from support.rig.refusing_servers import Busy
from support.waiting import PATIENT_SEC, auntil

RAW = orjson.dumps({"services": {"a": {"heartbeat": {}}}})
SETTINGS = CommonSettings()

server = opened(lambda tmp_path: Server(tmp_path / "bus"))


@pytest.fixture
async def buses(moved_time):
    both = MemoryBus("system-redis"), MemoryBus("market-redis")
    yield both
    for bus in both:
        await bus.aclose()


@pytest.fixture(autouse=True)
def share_nothing_with_other_tests(monkeypatch):
    monkeypatch.setattr("marketswarm.agent.truth_source._shared", WeakValueDictionary())


async def put(bus, raw=RAW, revision=3, sha256=None):
    await put_truth(bus, raw, revision, sha256)


async def test_a_large_truth_is_checked_while_the_loop_goes_on(buses, monkeypatch):
    begun, may_end = threading.Event(), threading.Event()

    def slow(raw):
        begun.set()
        assert may_end.wait(PATIENT_SEC), "the loop stood still while a truth was checked"
        return parse_truth(raw)

    monkeypatch.setattr("marketswarm.agent.truth_source.parse_truth", slow)
    raw = RAW + b" " * LARGE_BYTES
    await put(buses[0], raw)
    looking = asyncio.create_task(read_truth(buses[0], "truth:doc"))
    try:
        await auntil(begun.is_set)
        assert not looking.done()
    finally:
        may_end.set()
    seen = await looking
    assert seen.found is not None
    assert seen.found.loaded.truth.services.keys() == {"a"}


async def test_the_first_bus_with_a_valid_truth_is_taken(buses):
    await put(buses[0])
    await put(buses[1])
    found = await load_truth(SETTINGS, buses, 1)
    assert (found.bus, found.revision, found.skip_reasons) == (buses[0], 3, ())
    assert found.loaded.truth.services.keys() == {"a"}


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b'{"services": {"a": 5}}', b"x" * (2 << 20)])
async def test_a_bad_one_is_passed_over_and_named(buses, raw):
    await put(buses[0], raw)
    await put(buses[1])
    found = await load_truth(SETTINGS, buses, 1)
    assert found.bus is buses[1]
    assert found.skip_reasons[0].startswith("system-redis refused: ")


async def test_a_key_of_another_kind_is_an_answer_without_a_truth(buses):
    await buses[0].ask(buses[0].client.lpush("truth:doc", "x"))
    with pytest.raises(Exit) as caught:
        await load_truth(SETTINGS, buses[:1], 0.1)
    assert caught.value.code == 4


async def test_one_bus_that_answers_is_enough_for_4(buses):
    buses[1].connected = False
    with pytest.raises(Exit, match="bootstrap") as caught:
        await load_truth(SETTINGS, buses, 0.1)
    assert caught.value.code == 4


async def test_no_answer_at_all_is_3(buses):
    for bus in buses:
        bus.connected = False
    with pytest.raises(Exit, match=r"no bus answered within 0\.1 s") as caught:
        await load_truth(SETTINGS, buses, 0.1)
    assert caught.value.code == 3


@pytest.mark.parametrize(
    ("revision", "sha256"),
    [(b"3", "of another document"), (b"x", None), (b"", None), (b"9" * 40, None), (b"-1", None)],
)
async def test_a_revision_that_is_not_this_documents_is_none(buses, revision, sha256):
    await put(buses[0], revision=revision, sha256=sha256)
    seen = await read_truth(buses[0], "truth:doc")
    assert seen.found is not None
    assert seen.found.revision is None


async def test_a_truth_without_meta_has_no_revision(buses):
    await buses[0].ask(buses[0].client.set("truth:doc", RAW))
    seen = await read_truth(buses[0], "truth:doc")
    assert seen.found is not None
    assert seen.found.revision is None


async def test_a_known_document_is_not_read_again(buses):
    await put(buses[0])
    known = parse_truth(RAW)
    seen = await read_truth(buses[0], "truth:doc", known)
    assert seen.found is not None
    assert seen.found.loaded is known


NEXT = orjson.dumps({"services": {"a": {"heartbeat": {"interval_sec": 5}}}})


def unexpected(size):
    raise AssertionError(f"a document of {size} bytes was read")


@pytest.mark.parametrize("more", [b"", b" " * LARGE_BYTES])
async def test_a_patch_makes_the_next_document_without_a_read(buses, more):
    known, following = parse_truth(RAW + more), NEXT + more
    patch = make_patch(RAW + more, known.sha256, following)
    await put(buses[0], following, 4, hashlib.sha256(following).hexdigest())
    (seen,) = await read_first_valid(buses[:1], "truth:doc", known, 1.0, unexpected, patch=patch)
    assert (seen.found.revision, seen.found.bus) == (4, buses[0])
    assert seen.found.loaded == parse_truth(following)


@pytest.mark.parametrize(
    "change", [{"of": "ab" * 32}, {"text": '"interval_sec":7'}, {"text": ""}, {"begin": 10_000}]
)
async def test_a_patch_that_does_not_make_what_the_bus_has_changes_nothing(buses, change):
    known = parse_truth(RAW)
    patch = replace(make_patch(RAW, known.sha256, NEXT), **change)
    await put(buses[0], NEXT, 4, hashlib.sha256(NEXT).hexdigest())
    delays = []
    (seen,) = await read_first_valid(
        buses[:1], "truth:doc", known, 1.0, lambda size: delays.append(size) or 0.0, patch=patch
    )
    assert seen.found.loaded == parse_truth(NEXT)
    assert delays == [len(NEXT)]


async def test_a_document_of_another_size_than_the_patched_one_is_read(buses):
    known, edited = parse_truth(RAW), NEXT.replace(b"5", b"10")
    patch = make_patch(RAW, known.sha256, NEXT)
    await put(buses[0], edited, 4, hashlib.sha256(NEXT).hexdigest())  # by hand, so the meta data is older
    (seen,) = await read_first_valid(buses[:1], "truth:doc", known, 1.0, patch=patch)
    assert seen.found.loaded == parse_truth(edited)


async def test_a_patch_of_truth_doc_changes_no_copy_under_another_key(buses):
    known, (bus, _) = parse_truth(RAW), buses
    following = RAW.replace(b'"a"', b'"b"')
    await put(bus, following, 4, hashlib.sha256(following).hexdigest())
    await bus.ask(bus.client.set("my:truth", RAW))
    patch = make_patch(RAW, known.sha256, following)
    (seen,) = await read_first_valid([bus], "my:truth", known, 1.0, patch=patch)
    assert seen.found.loaded is known


@pytest.fixture
def parsed(monkeypatch):
    """The documents that were parsed, each as often as it was."""
    documents = []

    def parse(raw):
        documents.append(raw)
        return parse_truth(raw)

    monkeypatch.setattr("marketswarm.agent.truth_source.parse_truth", parse)
    return documents


@pytest.mark.parametrize("more", [b"", b" " * LARGE_BYTES])
async def test_agents_of_one_process_parse_a_document_that_they_read_once(buses, parsed, more):
    await put(buses[0], RAW + more)
    readings = await asyncio.gather(*(read_truth(buses[0], "truth:doc") for _ in range(5)))
    readings.append(await read_truth(buses[0], "truth:doc"))
    assert parsed == [RAW + more]
    assert len({id(reading.found.loaded) for reading in readings}) == 1


@pytest.mark.parametrize("more", [b"", b" " * LARGE_BYTES])
async def test_agents_of_one_process_patch_and_parse_a_document_once(buses, parsed, more):
    known, following = parse_truth(RAW + more), NEXT + more
    patch = make_patch(RAW + more, known.sha256, following)
    await put(buses[0], following, 4)
    looks = [read_first_valid(buses[:1], "truth:doc", known, 1.0, unexpected, patch=patch) for _ in range(5)]
    readings = await asyncio.gather(*looks)
    assert parsed == [following]
    assert len({id(reading.found.loaded) for (reading,) in readings}) == 1


async def test_a_document_that_no_agent_has_any_more_is_not_kept(buses, parsed):
    await put(buses[0])
    for _ in range(2):
        assert (await read_truth(buses[0], "truth:doc")).found is not None
        gc.collect()
    assert parsed == [RAW, RAW]


async def test_when_the_agent_that_parses_ends_another_one_parses(buses, monkeypatch):
    begun, may_end = threading.Event(), threading.Event()

    def slow(raw):
        begun.set()
        assert may_end.wait(PATIENT_SEC)
        return parse_truth(raw)

    monkeypatch.setattr("marketswarm.agent.truth_source.parse_truth", slow)
    await put(buses[0], RAW + b" " * LARGE_BYTES)
    first, second = (asyncio.create_task(read_truth(buses[0], "truth:doc")) for _ in range(2))
    try:
        await auntil(begun.is_set)
        await end_tasks(first)
    finally:
        may_end.set()
    assert first.cancelled()
    assert (await second).found is not None


@pytest.mark.parametrize(("edit", "has_patch"), [(b"6", False), (b"10", False), (b"10", True)])
async def test_the_document_of_another_agent_is_not_that_of_a_bus_that_was_edited_by_hand(
    buses, edit, has_patch
):
    known, edited = parse_truth(RAW), NEXT.replace(b"5", edit)
    await put(buses[0], NEXT, 4)
    other_agent = await read_truth(buses[0], "truth:doc")
    await put(buses[0], edited, 4, other_agent.found.loaded.sha256)  # the meta data is older
    patch = make_patch(RAW, known.sha256, NEXT) if has_patch else None
    (seen,) = await read_first_valid(buses[:1], "truth:doc", known, 1.0, patch=patch)
    assert seen.found.loaded == parse_truth(edited)


@contextlib.asynccontextmanager
async def following(bus, apply, monkeypatch):
    """A follower that has looked once, at RAW, and then hears of NEXT by a message with a patch."""
    known, has_looked = parse_truth(RAW), asyncio.Event()

    async def note_look(*args):
        found = await read_fingerprint(*args)
        has_looked.set()
        return found

    monkeypatch.setattr("marketswarm.agent.truth_source.read_fingerprint", note_look)
    await put(bus)
    follower = TruthFollower([bus], "truth:doc", FoundTruth(known, 3, bus), apply)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(follower.run())
        await has_looked.wait()
        await bus.ask(bus.client.set("truth:doc", NEXT))
        meta = {"revision": 4, "sha256": hashlib.sha256(NEXT).hexdigest()}
        await bus.ask(bus.client.hset("truth:meta", mapping=meta))
        message = orjson.dumps(meta | {"patch": make_patch(RAW, known.sha256, NEXT)})
        await bus.ask(bus.client.publish("truth:changed", message))
        yield follower
        task.cancel()


async def test_a_follower_applies_the_patch_of_a_message_without_a_read(buses, monkeypatch):
    applied, reads = [], []

    async def count_read(*args):
        reads.append(args)
        return await read_truth(*args)

    monkeypatch.setattr("marketswarm.agent.truth_source.read_truth", count_read)
    async with following(buses[0], applied.append, monkeypatch):
        await auntil(lambda: applied)
    assert [(found.revision, found.loaded) for found in applied] == [(4, parse_truth(NEXT))]
    assert reads == []


async def test_a_patch_that_comes_while_a_follower_waits_for_its_turn_to_read_saves_the_read(
    buses, monkeypatch
):
    applied, reads, waits = [], [], asyncio.Event()

    async def count_read(*args):
        reads.append(args)
        return await read_truth(*args)

    def wait_long(_follower, _size):
        waits.set()
        return PATIENT_SEC

    monkeypatch.setattr("marketswarm.agent.truth_source.read_truth", count_read)
    monkeypatch.setattr(TruthFollower, "_choose_delay_sec", wait_long)
    bus, known = buses[0], parse_truth(RAW)
    await put(bus)
    follower = TruthFollower([bus], "truth:doc", FoundTruth(known, 3, bus), applied.append)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(follower.run())
        meta = {"revision": 4, "sha256": hashlib.sha256(NEXT).hexdigest()}
        await bus.ask(bus.client.set("truth:doc", NEXT))
        await bus.ask(bus.client.hset("truth:meta", mapping=meta))
        follower.poll()
        await waits.wait()
        for patch in (None, make_patch(NEXT, "ab" * 32, RAW), make_patch(RAW, known.sha256, NEXT)):
            assert applied == []
            await bus.ask(bus.client.publish("truth:changed", orjson.dumps(meta | {"patch": patch})))
            await asyncio.sleep(0.1)
        await auntil(lambda: applied)
        task.cancel()
    assert [(found.revision, found.loaded) for found in applied] == [(4, parse_truth(NEXT))]
    assert reads == []


async def test_a_patch_is_used_once_so_a_document_that_was_edited_by_hand_is_read(buses, monkeypatch):
    seen = []

    def refuse_next(found):
        seen.append(found.loaded.sha256)
        if found.loaded == parse_truth(NEXT):
            raise TruthRefused("not this one")

    edited = NEXT.replace(b"5", b"6")
    async with following(buses[0], refuse_next, monkeypatch) as follower:
        await auntil(lambda: follower.trouble)
        await buses[0].ask(buses[0].client.set("truth:doc", edited))
        follower.poll()
        await auntil(lambda: len(seen) == 2)
    assert seen == [parse_truth(NEXT).sha256, parse_truth(edited).sha256]


async def test_the_beat_that_shows_a_new_truth_asks_nothing_and_the_next_one_once(buses, monkeypatch):
    applied, asked = [], []

    async def count(*args):
        asked.append(args)
        return await read_fingerprints(*args)

    monkeypatch.setattr("marketswarm.agent.truth_source.read_fingerprints", count)
    async with following(buses[0], applied.append, monkeypatch) as follower:
        await auntil(lambda: applied)
        before = len(asked)
        for expected in (0, 1, 2):
            follower.poll()
            await asyncio.sleep(1.0)
            assert len(asked) - before == expected


@pytest.mark.live
async def test_a_bus_that_runs_a_script_without_end_says_nothing_about_its_truth(server):
    bus = Bus("system-redis", server.url)
    await put(bus)
    busy = Busy(server)
    busy.begin()
    seen = await read_truth(bus, "truth:doc")
    assert (seen.found, seen.reason, seen.has_answered) == (None, "busy", False)
    busy.end()
    assert (await read_truth(bus, "truth:doc")).found is not None
    await bus.aclose()


async def test_a_bus_that_gives_no_answer_after_a_message_is_asked_again_and_the_patch_is_used(
    buses, monkeypatch
):
    applied, asked = [], []

    async def fail_once(found_on, key, within_sec):
        asked.append(key)
        if len(asked) == 2:  # the first one was at the start
            return [TruthReading(bus, None, "timeout", has_answered=False) for bus in found_on]
        return await read_fingerprints(found_on, key, within_sec)

    monkeypatch.setattr("marketswarm.agent.truth_source.read_fingerprints", fail_once)
    monkeypatch.setattr("marketswarm.agent.truth_source.read_truth", unexpected)
    async with following(buses[0], applied.append, monkeypatch) as follower:
        await auntil(lambda: applied)
        assert follower.trouble is None
    assert len(asked) == 3


async def test_a_dead_bus_is_asked_three_times_more_after_a_message(buses, monkeypatch):
    asked = []

    async def fail(found_on, *_args):
        asked.append(found_on)
        return [TruthReading(bus, None, "timeout", has_answered=False) for bus in found_on]

    monkeypatch.setattr("marketswarm.agent.truth_source.read_fingerprints", fail)
    follower = TruthFollower(buses[:1], "truth:doc", FoundTruth(parse_truth(RAW), 3, buses[0]), unexpected)
    running = asyncio.create_task(follower.run())
    await auntil(lambda: asked)
    await asyncio.sleep(5.0)
    assert len(asked) == 1  # at the start, without a message
    await put(buses[0])
    await asyncio.sleep(60.0)
    assert len(asked) == 1 + 1 + MAX_RETRIES
    running.cancel()


async def test_thousands_of_agents_do_not_ask_at_once(buses, monkeypatch, moved_time):
    services = {f"svc{number}": {} for number in range(2500)}
    known, asked_at = parse_truth(orjson.dumps({"services": services})), []

    async def note(*args):
        asked_at.append(time.monotonic())
        return await read_fingerprints(*args)

    monkeypatch.setattr("marketswarm.agent.truth_source.read_fingerprints", note)
    monkeypatch.setattr("random.random", lambda: 0.9)
    follower = TruthFollower(buses[:1], "truth:doc", FoundTruth(known, 3, buses[0]), unexpected)
    running = asyncio.create_task(follower.run())
    await auntil(lambda: asked_at)
    await asyncio.sleep(5.0)
    told_at = time.monotonic()
    await buses[0].ask(buses[0].client.publish("truth:changed", "{}"))
    await auntil(lambda: len(asked_at) == 2)
    assert 0.45 <= asked_at[1] - told_at < 0.6
    running.cancel()


def test_the_places_are_those_of_the_contract_in_its_order_each_once():
    settings = CommonSettings(truth_redis_url="redis://t:1", redis_url="redis://r:1")
    environ = {"SYSTEM_REDIS_URL": "redis://s:1"}
    places = find_truth_buses(settings, environ)
    assert list(places) == ["redis://t:1", "redis://r:1", "redis://s:1", "redis://market-redis:6379"]
    same = find_truth_buses(CommonSettings(redis_url="redis://s:1"), environ)
    assert list(same.items()) == [
        ("redis://s:1", "system-redis"),
        ("redis://market-redis:6379", "market-redis"),
    ]


def test_a_place_whose_file_cannot_be_read_ends_with_2():
    with pytest.raises(Exit, match="SYSTEM_REDIS_URL_FILE") as caught:
        find_truth_buses(SETTINGS, {"SYSTEM_REDIS_URL_FILE": "/no/such/file"})
    assert caught.value.code == 2


def loaded(interval_sec):
    return parse_truth(
        orjson.dumps({"services": {"a": {"heartbeat": {"interval_sec": interval_sec, "timeout_sec": 99}}}})
    )


OLD, NEW = loaded(1), loaded(2)


@pytest.fixture
def decide(buses):
    """What `choose_truth` says when OLD is in force; each bus holds (document, revision), or a reason."""

    def see(bus, held):
        if isinstance(held, str):
            return TruthReading(bus, None, held)
        return TruthReading(bus, FoundTruth(held[0], held[1], bus))

    def decided(*held, revision=5):
        found, trouble = choose_truth(
            FoundTruth(OLD, revision, buses[0]), [see(bus, one) for bus, one in zip(buses, held, strict=True)]
        )
        return (found and (found.loaded is NEW, found.revision), trouble)

    return decided


def test_the_same_on_both_changes_nothing(decide):
    assert decide((OLD, 5), (OLD, 5)) == (None, None)


def test_a_new_one_on_the_first_bus_is_put_in_force_whatever_its_revision(decide):
    assert decide((NEW, 6), (OLD, 5)) == ((True, 6), None)
    assert decide((NEW, 1), (OLD, 5)) == ((True, 1), None)
    assert decide((NEW, None), (OLD, 5)) == ((True, None), None)


def test_the_same_bytes_under_a_new_revision_are_news(decide):
    assert decide((OLD, 7), (OLD, 7)) == ((False, 7), None)
    assert decide((OLD, None), (OLD, 5)) == (None, None)


def test_the_second_bus_is_believed_only_when_it_is_ahead(decide):
    assert decide("has none", (NEW, 6)) == ((True, 6), "truth from market-redis: system-redis has none")
    assert decide("refused", (NEW, 5))[0] is None
    assert decide("refused", (NEW, 4))[0] is None
    assert decide("refused", (NEW, None))[0] is None


def test_the_second_bus_having_the_same_is_a_trouble_all_the_same(decide):
    assert decide("timeout", (OLD, 5)) == (None, "truth from market-redis: system-redis timeout")


def test_a_second_bus_that_lacks_it_is_not_this_agents_trouble(decide):
    assert decide((OLD, 5), "has none") == (None, None)


def test_nothing_anywhere_keeps_the_last_good_one(decide):
    assert decide("has none", "refused") == (
        None,
        "no valid truth: system-redis has none, market-redis refused; revision 5 stays",
    )
    assert decide("x", "y", revision=None)[1] == "no valid truth: system-redis x, market-redis y"


def test_the_first_found_tells_of_those_it_passed(buses):
    system, market = buses
    found = find_first_valid(
        [TruthReading(system, None, "has none"), TruthReading(market, FoundTruth(OLD, 3, market))]
    )
    assert found is not None
    assert (found.bus, found.skip_reasons) == (market, ("system-redis has none",))
    assert find_first_valid([TruthReading(system, None, "x")]) is None
