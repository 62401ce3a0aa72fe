"""Who has which keys: by whom they are, and as members come and go."""

import contextlib
import subprocess
import sys

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketswarm.agent import agent
from marketswarm.agent.shards import LIFE, REFRESHES, Members, collect_shares, find_owners, select_owned
from marketswarm.settings import CommonSettings
from support.examples import examples
from support.memory_truth import put_truth
from support.waiting import auntil

FEEDS = [f"https://feeds.example.org/{number}" for number in range(3000)]
NAMES = st.text(min_size=1, max_size=12)
FEW = settings(max_examples=examples(100))


@FEW
@given(st.lists(NAMES, unique=True, max_size=20), st.lists(NAMES, min_size=1, max_size=8))
def test_every_key_has_one_owner_among_the_members_whoever_asks_and_in_whatever_order(keys, members):
    owner = find_owners(keys, members)
    assert list(owner) == keys
    assert set(owner.values()) <= set(members)
    assert find_owners(reversed(keys), [*reversed(members), *members]) == owner
    shares = [select_owned(keys, member, members) for member in dict.fromkeys(members)]
    assert sorted(key for share in shares for key in share) == sorted(keys)


@FEW
@given(st.lists(NAMES, unique=True, max_size=30), st.sets(NAMES, min_size=2, max_size=8), st.randoms())
def test_when_a_member_leaves_its_keys_alone_move(keys, members, chance):
    gone = chance.choice(sorted(members))
    before, after = find_owners(keys, members), find_owners(keys, members - {gone})
    assert {key for key in keys if before[key] != after[key]} == {k for k in keys if before[k] == gone}


@FEW
@given(st.lists(NAMES, unique=True, max_size=30), st.sets(NAMES, min_size=1, max_size=8), NAMES)
def test_who_comes_takes_keys_and_nobody_else_gains_any(keys, members, new):
    before, after = find_owners(keys, members), find_owners(keys, members | {new})
    assert all(after[key] in (before[key], new) for key in keys)


def test_members_have_about_as_many_keys_each():
    for count in (2, 3, 7):
        members = [f"{number:012x}" for number in range(count)]
        shares = [len(select_owned(FEEDS, member, members)) for member in members]
        assert sum(shares) == len(FEEDS)
        assert max(shares) / min(shares) < 1.25, shares


def test_the_order_of_the_keys_is_kept_and_a_repeat_stays_one():
    members = ["a", "b", "c"]
    mine = select_owned([*FEEDS, FEEDS[0]], find_owners(FEEDS, members)[FEEDS[0]], members)
    assert [key for key in FEEDS if key in set(mine)] == mine[:-1]
    assert mine[-1] == mine[0] == FEEDS[0]


def test_without_members_nothing_is_anybodys_and_a_stranger_has_nothing():
    assert find_owners(FEEDS, []) == {}
    assert select_owned(FEEDS, "a", []) == []
    assert select_owned(FEEDS, "stranger", ["a", "b"]) == []


def test_the_shares_are_the_same_in_every_process_and_written_down_here():
    """A change of these would have two versions of a service disagree while one replaces the other."""
    members = ["3f9a1c", "b07e22", "e41d90"]
    known = {
        "a": "e41d90",
        "https://example.org/feed": "e41d90",
        "nightly": "3f9a1c",
        "ключ": "b07e22",
        "\ud800": "3f9a1c",
    }
    assert find_owners(known, members) == known
    program = (
        "import sys; from marketswarm.agent.shards import find_owners; "
        "print(find_owners(sys.argv[1:4], sys.argv[4:]))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, *list(known)[:3], *members],
        env={"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == str({key: known[key] for key in list(known)[:3]})


SETTINGS = CommonSettings(truth_wait_sec=5, watchdog_sec=1000, log_format="json")
TIMEOUT_SEC = 40  # what is told at once is not to be mistaken for what shows at the next look
KEYS = [f"key {number}" for number in range(60)]
RAW = orjson.dumps({"services": {"mine": {"heartbeat": {"interval_sec": 0.5, "timeout_sec": TIMEOUT_SEC}}}})


@pytest.fixture
async def buses(buses):
    bus = buses("system-redis")
    await put_truth(bus, RAW)
    await bus.aclose()
    return buses


def instance(buses):
    return agent("mine", SETTINGS, open_bus=buses)


async def test_alone_and_not_yet_known_it_has_all_keys(buses):
    async with instance(buses) as me:
        share = me.share()
        assert (share.members, share.mine(KEYS)) == ((), KEYS)
        assert await share.known()
        assert (share.members, share.mine(KEYS)) == ((me.boot,), KEYS)
        assert me.share() is share


async def test_two_share_all_keys_between_them_and_who_leaves_hands_over_at_once(buses):
    async with instance(buses) as one, contextlib.AsyncExitStack() as leaving:
        first = one.share()
        assert await first.known()
        assert first.changed()
        assert await one.rest(5)
        two = await leaving.enter_async_context(instance(buses))
        second = two.share()
        assert await second.known()
        assert second.members == tuple(sorted([one.boot, two.boot]))
        assert await one.rest(2)
        assert first.changed()
        assert not first.changed()
        assert first.members == second.members
        assert sorted(first.mine(KEYS) + second.mine(KEYS)) == sorted(KEYS)
        assert first.key_count == len(first.mine(KEYS)) < len(KEYS)
        await leaving.aclose()
        assert await one.rest(1)
        assert first.mine(KEYS) == KEYS


async def test_who_is_gone_without_a_word_is_no_member_when_its_life_is_over(buses, system):
    async with instance(buses) as me:
        await system.client.zadd("members:mine", {"dead": await now_ms(system) + 1500})
        share = me.share()
        assert await share.known()
        assert "dead" in share.members
        assert await me.rest(5)
        await within(me, lambda: share.members == (me.boot,))


async def test_one_whose_work_stood_still_is_no_member_and_has_its_part_when_it_goes_on(buses, system):
    await system.client.zadd("members:mine", {"other": await now_ms(system) + 300_000})
    async with instance(buses) as me:
        share = me.share()
        assert await share.known()
        before = share.mine(KEYS)
        assert 0 < len(before) < len(KEYS)
        me.work_progress.last_at -= 2 * TIMEOUT_SEC
        me.wake()
        await system.client.publish("members:mine", "other")  # have it look now
        await auntil(lambda: share.members == ("other",))
        assert share.mine(KEYS) == before
        me.progress()
        await within(me, lambda: len(share.members) == 2)


async def test_shares_of_other_names_have_other_members(buses, system):
    async with instance(buses) as me:
        assert await me.share("feeds").known()
        assert await system.client.zrange("members:mine:feeds", 0, -1) == [me.boot.encode()]
        assert not await system.client.exists("members:mine")
    assert not await system.client.exists("members:mine:feeds")


@pytest.mark.parametrize("foreign", ["text", "years"])
async def test_what_strangers_wrote_there_makes_nobody_a_member_for_long(buses, system, foreign):
    if foreign == "text":
        await system.client.set("members:mine", "x")
    else:
        await system.client.zadd("members:mine", {"ghost": "+inf", "ghost 2": 4e12})
    async with instance(buses) as me:
        share = me.share()
        assert await share.known()
        assert share.members == (me.boot,)
        assert 0 < await system.client.pttl("members:mine") <= 10 * 1000 * LIFE * TIMEOUT_SEC + 60_000


async def test_while_nobody_can_know_all_keys_are_its_own_and_the_beats_say_so(buses, moved_time):
    market = buses("market-redis")
    await market.client.zadd("members:mine", {"other": await now_ms(market) + 300_000})
    async with instance(buses) as me:
        share = me.share(bus="market-redis")
        assert await share.known()
        assert len(share.mine(KEYS)) < len(KEYS)
        market.connected = False
        assert len(share.mine(KEYS)) < len(KEYS)  # what was known holds for a while
        moved_time.advance(LIFE * TIMEOUT_SEC)
        await within(me, lambda: not share.members)
        assert share.mine(KEYS) == KEYS
        assert me.trouble() == "nobody knows who shares: market-redis refused"
        market.connected = True
        await within(me, lambda: len(share.members) == 2)
        assert me.trouble() is None
    await market.aclose()


async def test_a_bus_that_was_never_there_is_a_trouble_from_the_first(buses):
    market = buses("market-redis")
    market.connected = False
    async with instance(buses) as me:
        share = me.share(bus="market-redis")
        assert not await share.known(0.2)
        assert share.mine(KEYS) == KEYS
        assert me.trouble() == "nobody knows who shares: market-redis refused"
        assert not share.changed()
    market.connected = True
    await market.aclose()


async def test_it_tells_its_metrics(buses):
    async with instance(buses) as me:
        share = me.share()
        assert await share.known()
        share.mine(KEYS[:7])
        told = {family.name: list(family.values) for source in me.sources for family in source()}
        assert told["marketswarm_share_members"] == [(("work",), 1.0)]
        assert told["marketswarm_share_keys"] == [(("work",), 7.0)]
    assert [family.labels for family in collect_shares([])] == [("what",), ("what",)]


async def within(me, predicate):
    """Wait as a work loop would: on purpose."""
    async with me.waiting(60):
        await auntil(predicate, 60)


async def now_ms(bus):
    seconds, micros = await bus.client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def test_a_member_says_that_it_is_there_several_times_in_its_life():
    members = Members()
    assert members.record_answer(["b", "a"], None, 100.0)
    assert members.boots == ("a", "b")
    assert members.next_renewal_sec(8.0, 100.0) == 8.0 / REFRESHES


def test_it_looks_again_when_another_one_would_be_gone():
    members = Members()
    members.record_answer(["a", "b"], 1.5, 100.0)
    assert 1.5 < members.next_renewal_sec(8.0, 100.0) < 1.52
    assert members.next_renewal_sec(8.0, 200.0) < 0.01


def test_what_the_bus_said_counts_for_one_life():
    members = Members()
    assert members.record_failure(8.0, 50.0)  # nothing was ever known
    members.record_answer(["a"], 0.1, 100.0)
    assert not members.record_failure(8.0, 107.0)
    assert members.boots == ("a",)
    assert (
        members.next_renewal_sec(8.0, 107.0) == 8.0 / REFRESHES
    )  # a bus that is away is not asked all the time
    assert members.record_failure(8.0, 108.5)
    assert members.boots == ()
    assert members.record_failure(8.0, 109.0)


def test_the_same_members_again_are_no_news():
    members = Members()
    assert members.record_answer(["a", "b"], 1.0, 100.0)
    assert not members.record_answer(["b", "a"], 2.0, 101.0)
    assert members.record_answer(["a"], None, 102.0)
