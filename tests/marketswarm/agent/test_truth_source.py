"""Which truth an agent goes by, at its start and after each look."""

import asyncio
import threading

import orjson
import pytest

from marketswarm.agent import find_truth_buses, load_truth
from marketswarm.agent.truth_source import (
    LARGE_BYTES,
    FoundTruth,
    TruthReading,
    choose_truth,
    find_first_valid,
    read_truth,
)
from marketswarm.exit import Exit
from marketswarm.settings import CommonSettings
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from support.memory_truth import put_truth
from support.waiting import PATIENT_SEC, auntil

RAW = orjson.dumps({"services": {"a": {"heartbeat": {}}}})
SETTINGS = CommonSettings()


@pytest.fixture
async def buses(moved_time):
    both = MemoryBus("system-redis"), MemoryBus("market-redis")
    yield both
    for bus in both:
        await bus.aclose()


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
