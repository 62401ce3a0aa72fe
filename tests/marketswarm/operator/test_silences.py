"""A silence: what it is on, while it lasts, and that nobody's bytes can break the reading of one.

Silences on several buses, some of which fail.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from marketswarm.bus import NoBusError
from marketswarm.operator.fields import MAX_EPOCH_SEC
from marketswarm.operator.silences import (
    Silence,
    create_silence,
    find_missing_silences,
    merge_silences,
    parse_silences,
    read_silences,
    write_silence,
)
from marketswarm.testing import MemoryBus

NOW = 1_762_433_458.25
ONE = Silence(
    id="a1b2",
    starts_at=NOW,
    ends_at=NOW + 7200,
    author="kim",
    reason="new disks",
    changed_at=NOW,
    services=("rss_*",),
    tags=("ingest",),
)


def on(*services: str, tags: tuple[str, ...] = ()) -> Silence:
    return replace(ONE, services=services, tags=tags)


@pytest.mark.parametrize(
    ("pattern", "svc", "silent"),
    [
        ("rss_agg", "rss_agg", True),
        ("rss_agg", "rss_agg2", False),
        ("rss_*", "rss_agg", True),
        ("rss_*", "old_rss_agg", False),
        ("RSS_*", "rss_agg", False),
        ("feed-?", "feed-1", True),
        ("feed-?", "feed-12", False),
        ("feed-[12]", "feed-2", True),
        ("feed-[!12]", "feed-2", False),
        ("*", "anything.at-all", True),
        ("rss.agg", "rss_agg", False),
        ("[", "[", True),
    ],
)
def test_it_is_on_services_by_name_and_by_pattern(pattern, svc, silent):
    assert on(pattern).matches(svc) is silent


def test_it_is_on_services_by_tag_and_the_tag_is_a_whole_word():
    tagged = on(tags=("ingest",))
    assert tagged.matches("rss_agg", ["probe", "ingest"])
    assert not tagged.matches("rss_agg", ["ingestion"])
    assert not tagged.matches("ingest")


def test_each_pattern_and_each_tag_adds_to_what_is_silent():
    several = on("mesh", "rss_*", tags=("ingest",))
    assert [several.matches(*each) for each in (("mesh",), ("rss_x",), ("vexy", ["ingest"]), ("vexy",))] == [
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("at", "active", "over"),
    [(-0.001, False, False), (0, True, False), (7199.999, True, False), (7200, False, True)],
)
def test_it_is_in_force_from_its_start_up_to_its_end(at, active, over):
    assert (ONE.is_active(NOW + at), ONE.has_ended(NOW + at)) == (active, over)


def test_it_is_old_a_month_after_its_end():
    assert not ONE.is_deletable(ONE.ends_at + 29 * 86_400)
    assert ONE.is_deletable(ONE.ends_at + 30 * 86_400)


def test_to_end_it_is_to_change_it_now():
    ended = ONE.end_at(NOW + 60)
    assert not ended.is_active(NOW + 60)
    assert (ended.ends_at, ended.changed_at, ended.id) == (NOW + 60, NOW + 60, ONE.id)


def test_ending_it_never_makes_it_longer():
    assert ONE.end_at(ONE.ends_at + 60).ends_at == ONE.ends_at


def test_its_end_counts_though_the_clock_that_ended_it_is_slow():
    ended = ONE.end_at(NOW - 500)
    assert ended.changed_at > ONE.changed_at
    assert ended.has_ended(NOW)


def test_one_that_a_stranger_changed_at_the_end_of_time_can_be_ended():
    assert replace(ONE, changed_at=MAX_EPOCH_SEC).end_at(NOW).has_ended(NOW)


@pytest.mark.parametrize(
    "wrong",
    [
        {"services": (), "tags": ()},
        {"ends_at": NOW - 1},
        {"author": ""},
        {"reason": ""},
        {"reason": "x" * 501},
        {"id": "a b"},
        {"id": "a\n"},
        {"id": ""},
        {"services": ("",)},
        {"services": ("a",) * 51},
        {"services": ("a" * 201,)},
        {"starts_at": -1.0},
        {"ends_at": float("inf")},
        {"changed_at": float("nan")},
        {"author": "\ud800"},
    ],
    ids=str,
)
def test_what_is_out_of_bounds_is_no_silence(wrong):
    with pytest.raises(ValueError, match="Silence"):
        replace(ONE, **wrong)


def test_a_hostile_pattern_costs_no_time():
    assert not on("*a" * 100).matches("a" * 60 + "b")


MERGED_AT = 1_762_433_458.0
FIRST = replace(
    ONE, id="one", starts_at=MERGED_AT, ends_at=MERGED_AT + 60, changed_at=MERGED_AT, services=("a",), tags=()
)
TWO = replace(FIRST, id="two", starts_at=MERGED_AT - 5)
ENDED = FIRST.end_at(MERGED_AT + 10)


def held(*silences: Silence) -> dict[bytes, bytes]:
    return {each.id.encode(): each.encode() for each in silences}


def merge(hashes):
    return merge_silences(map(parse_silences, hashes))


def missing(stored, silences):
    return find_missing_silences(parse_silences(stored), silences)


def test_what_is_on_one_bus_alone_counts():
    assert merge([held(FIRST), held(TWO)]) == {"two": TWO, "one": FIRST}


def test_they_come_in_the_order_in_which_they_start():
    assert list(merge([held(FIRST, TWO)])) == ["two", "one"]


def test_a_bus_that_missed_its_end_does_not_bring_a_silence_back():
    assert merge([held(FIRST), held(ENDED)]) == merge([held(ENDED), held(FIRST)]) == {"one": ENDED}


def test_of_two_that_changed_at_one_time_the_shorter_counts():
    longer = replace(FIRST, ends_at=MERGED_AT + 99)
    assert merge([held(longer), held(FIRST)]) == merge([held(FIRST), held(longer)]) == {"one": FIRST}


def test_what_is_no_silence_hides_no_other():
    another = replace(FIRST, reason="not its own", changed_at=MERGED_AT + 1)
    rubbish = {b"x": b"{", b"two": another.encode(), b"\xff": b"\xff", b"one": FIRST.encode()}
    assert merge([rubbish, {}]) == {"one": FIRST}


def test_a_bus_is_given_what_it_lacks_and_what_it_has_in_an_older_version_or_as_rubbish():
    latest = merge([held(ENDED, TWO)])
    assert missing(held(ENDED, TWO), latest) == {}
    assert missing(held(FIRST, TWO), latest) == {"one": ENDED.encode()}
    assert missing({b"one": b"?", b"two": TWO.encode()}, latest) == {"one": ENDED.encode()}
    assert missing({}, latest) == {"one": ENDED.encode(), "two": TWO.encode()}


versions = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["x", "y"])).map(
        lambda each: replace(
            FIRST, changed_at=MERGED_AT + each[0], ends_at=MERGED_AT + 1 + each[1], reason=each[2]
        )
    ),
    max_size=4,
)


@given(st.lists(versions, max_size=3))
def test_the_order_of_the_buses_does_not_matter(buses):
    hashes = [held(*each) for each in buses]
    assert merge(hashes) == merge(reversed(hashes))


@given(st.lists(versions, min_size=1, max_size=3))
def test_a_bus_that_was_given_what_it_lacked_is_not_behind(buses):
    hashes = [held(*each) for each in buses]
    latest = merge(hashes)
    for each in hashes:
        each |= {key.encode(): raw for key, raw in missing(each, latest).items()}
        assert missing(each, latest) == {}
        assert merge([each]) == latest


@pytest.fixture
async def buses():
    found = [MemoryBus("system-redis"), MemoryBus("market-redis")]
    yield found
    for bus in found:
        await bus.aclose()


def silence(for_sec=60.0, services=("mesh",)):
    return create_silence(services, (), for_sec, author="kim", reason="new disks", now=NOW)


async def add(buses, *silences):
    for each in silences:
        await write_silence(buses, await read_silences(buses), each, NOW)


async def test_a_silence_is_written_to_every_bus(buses):
    made = silence()
    assert await write_silence(buses, await read_silences(buses), made, NOW) == {}
    for bus in buses:
        assert (await read_silences([bus])).silences == {made.id: made}


def test_of_many_silences_no_two_have_one_id():
    assert len({silence().id for _ in range(20_000)}) == 20_000


async def test_a_bus_that_was_away_gets_what_it_lacks_with_the_next_silence(buses):
    first, second = silence(), silence()
    buses[1].connected = False
    stored = await read_silences(buses)
    assert (await write_silence(buses, stored, first, NOW)).keys() == {"market-redis"}
    buses[1].connected = True
    await add(buses, second)
    assert (await read_silences(buses[1:])).silences == {first.id: first, second.id: second}


async def test_a_silence_that_ended_a_month_ago_is_deleted(buses):
    old = silence()
    await add(buses, old)
    later = NOW + 60 + 31 * 86_400
    await write_silence(buses, await read_silences(buses), silence(for_sec=1e7), later)
    assert old.id not in (await read_silences(buses)).silences


async def test_without_any_bus_there_is_an_error_with_every_reason(buses):
    stored = await read_silences(buses)
    for bus in buses:
        bus.connected = False
    with pytest.raises(NoBusError, match="no bus took it") as caught:
        await write_silence(buses, stored, silence(), NOW)
    assert caught.value.failed.keys() == {"system-redis", "market-redis"}
    with pytest.raises(NoBusError):
        await read_silences(buses)


@pytest.mark.parametrize("odd", [{"services": ()}, {"for_sec": -1.0}, {"services": ("x" * 201,)}])
def test_a_silence_that_is_out_of_bounds_is_not_made(odd):
    with pytest.raises(ValidationError):
        silence(**odd)
