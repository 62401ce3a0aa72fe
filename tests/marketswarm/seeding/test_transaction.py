"""Seeding on real servers: both or neither, byte for byte, one revision."""

import asyncio
import hashlib
import time

import orjson
import pytest

from marketswarm.seeding.readiness import wait_until_all_answer
from marketswarm.seeding.transaction import (
    SEED_SCRIPT,
    SeedError,
    SeedResult,
    describe_seeding,
    read_all,
    seed_truth,
)
from marketswarm.truth import Changes, TruthError
from marketswarm.truth.patch import parse_patch
from support.fixtures import opened
from support.rig import HOST, Server, free_port
from support.scenes.seeding import agreed, buses, heard, state, truth, two_servers

pytestmark = pytest.mark.live

OLD, NEW = truth("rss_agg", "mesh"), truth("mesh", "vexy_ai")

servers = opened(lambda tmp_path: two_servers(tmp_path))


async def seeded(document, *servers, by="test", **options):
    async with buses(*servers) as opened:
        return await seed_truth(document, opened, by, **options)


async def test_a_fresh_seeding_leaves_both_buses_equal_byte_for_byte(servers):
    with heard(*servers) as so_far:
        seeding = await seeded(NEW, *servers, by="someone")
        sha256 = hashlib.sha256(NEW).hexdigest()
        assert so_far() == [[{"revision": 1, "sha256": sha256}]] * 2
    assert (seeding.revision, seeding.sha256, seeding.changed, seeding.repaired) == (1, sha256, True, ())
    assert seeding.changes == Changes(added=("mesh", "vexy_ai"))
    system, market = (state(server) for server in servers)
    assert system["doc"] == market["doc"] == NEW
    assert system["meta"] == market["meta"]
    assert system["meta"][b"seeded_by"] == b"someone"
    assert float(system["meta"][b"seeded_at"]) == pytest.approx(time.time(), abs=30)
    assert system["meta"][b"sha256"] == sha256.encode()
    assert [entry for _, entry in system["history"]] == [{**system["meta"], b"doc": NEW}]


async def test_only_the_document_that_may_be_replaced_is_replaced(servers):
    await seeded(OLD, *servers)
    with pytest.raises(SeedError, match="changed meanwhile") as error:
        await seeded(NEW, *servers, replaces=hashlib.sha256(NEW).hexdigest())
    assert error.value.reason == "replaced"
    assert agreed(*servers) == (OLD, 1)
    await seeded(NEW, *servers, replaces=hashlib.sha256(OLD).hexdigest())
    assert agreed(*servers) == (NEW, 2)


async def test_the_same_bytes_again_change_nothing_at_all(servers):
    await seeded(NEW, *servers)
    before = [state(server) for server in servers]
    with heard(*servers) as so_far:
        seeding = await seeded(NEW, *servers, by="someone else")
        assert so_far() == [[], []]
    assert [state(server) for server in servers] == before
    assert (seeding.revision, seeding.changed, seeding.repaired, bool(seeding.changes)) == (
        1,
        False,
        (),
        False,
    )


async def test_new_bytes_are_a_new_revision_with_a_history(servers):
    await seeded(OLD, *servers)
    with heard(*servers) as so_far:
        seeding = await seeded(NEW, *servers)
        messages = [message for found in so_far() for message in found]
    assert [parse_patch(orjson.dumps(message)).apply(OLD) for message in messages] == [NEW, NEW]
    assert [message | {"patch": None} for message in messages] == [
        {"revision": 2, "sha256": seeding.sha256, "patch": None}
    ] * 2
    assert seeding.changes == Changes(added=("vexy_ai",), dropped=("rss_agg",))
    assert agreed(*servers) == (NEW, 2)
    assert [entry[b"doc"] for _, entry in state(servers[1])["history"]] == [OLD, NEW]


async def test_the_history_is_trimmed_to_fifty(servers):
    fill_history(servers)
    for n in range(3):
        await seeded(truth(f"s{n}"), *servers)
    revisions = [int(entry[b"revision"]) for _, entry in state(servers[0])["history"]]
    assert revisions == list(range(104, 154))


def fill_history(servers):
    """Write fifty former revisions, 101 to 150, as seeding would have."""
    for server in servers:
        for n in range(1, 51):
            fields = ("revision", 100 + n, "sha256", "x", "doc", "y")
            server.cmd("XADD", "truth:history", f"{n}-1", *fields)


@pytest.mark.parametrize("which", [0, 1])
async def test_a_document_missing_on_one_bus_is_put_there_again_under_its_old_revision(servers, which):
    await seeded(OLD, *servers)
    await seeded(NEW, *servers)
    before = [state(server) for server in servers]
    servers[which].cmd("DEL", "truth:doc")
    with heard(*servers) as so_far:
        seeding = await seeded(NEW, *servers)
        assert so_far() == [[], []]
    assert [state(server) for server in servers] == before
    assert seeding.repaired == (["system-redis", "market-redis"][which],)
    assert (seeding.revision, seeding.changed) == (2, False)


async def test_a_flushed_bus_joins_the_other_under_its_revision(servers):
    await seeded(OLD, *servers)
    await seeded(NEW, *servers)
    servers[0].cmd("FLUSHALL")
    assert (await seeded(NEW, *servers)).repaired == ("system-redis",)
    assert agreed(*servers) == (NEW, 2)


async def test_buses_of_differing_revisions_agree_on_the_higher_one(servers):
    system, market = servers
    await seeded(NEW, system)
    for document in (truth("a"), truth("b"), NEW):
        await seeded(document, market)
    seeding = await seeded(NEW, *servers)
    assert (seeding.revision, seeding.changed, seeding.repaired) == (3, False, ("system-redis",))
    assert agreed(*servers) == (NEW, 3)
    assert (await seeded(OLD, *servers)).revision == 4


async def test_a_bus_that_missed_a_seeding_is_brought_up_and_its_agents_are_told(servers):
    await seeded(OLD, *servers)
    await seeded(NEW, servers[0])
    with heard(*servers) as so_far:
        seeding = await seeded(NEW, *servers)
        assert so_far()[1] == [{"revision": 2, "sha256": seeding.sha256}]
    assert (seeding.changed, seeding.repaired) == (False, ("market-redis",))
    assert agreed(*servers) == (NEW, 2)


async def test_a_lost_meta_does_not_let_the_revision_go_back(servers):
    await seeded(truth("a"), *servers)
    await seeded(OLD, *servers)
    for server in servers:
        server.cmd("DEL", "truth:meta")
    assert (await seeded(NEW, *servers)).revision == 3


async def test_keys_of_another_kind_are_replaced(servers):
    servers[0].cmd("RPUSH", "truth:doc", "x")
    servers[0].cmd("SET", "truth:meta", "x")
    servers[0].cmd("SADD", "truth:history", "x")
    servers[1].cmd("HSET", "truth:meta", "revision", "not a number")
    await seeded(NEW, *servers)
    assert agreed(*servers) == (NEW, 1)


async def test_a_document_put_there_by_hand_gets_a_revision_without_a_word(servers):
    for server in servers:
        server.cmd("SET", "truth:doc", NEW)
    with heard(*servers) as so_far:
        seeding = await seeded(NEW, *servers)
        assert so_far() == [[], []]
    assert (seeding.revision, seeding.changed) == (1, False)
    assert agreed(*servers) == (NEW, 1)


async def test_another_key_may_hold_the_document_and_no_patch_is_published_for_it(servers):
    await seeded(OLD, *servers, key="other:doc")
    with heard(*servers) as so_far:
        seeding = await seeded(NEW, *servers, key="other:doc")
        assert so_far() == [[{"revision": 2, "sha256": seeding.sha256}]] * 2
    assert servers[1].cmd("GET", "other:doc").encode() == NEW
    assert state(servers[1])["doc"] == b"none"


async def test_one_server_under_two_names_is_seeded_once(servers):
    system, _ = servers
    for document in (OLD, NEW, NEW):
        await seeded(document, system, system)
    assert agreed(system) == (NEW, 2)
    assert len(state(system)["history"]) == 2


async def test_a_wrong_document_asks_no_bus_anything():
    async with buses(f"redis://{HOST}:{free_port()}") as opened:
        with pytest.raises(TruthError, match="services: missing"):
            await seed_truth(b"{}", opened, "test")


async def fails_and_leaves(servers, before, reason, break_it, bus="market-redis", **expected):
    """Seeds NEW while `break_it` happens between the two writes; all is then as before."""
    async with buses(*servers) as opened:
        opened[1].before_write = break_it
        with pytest.raises(SeedError) as caught:
            await seed_truth(NEW, opened, "test")
    assert (caught.value.bus, caught.value.reason) == (bus, reason)
    assert caught.value.unrestored == expected.get("left", ())
    assert state(servers[0]) == before[0]
    return caught.value


async def did(action, *args):
    await asyncio.to_thread(action, *args)


@pytest.mark.parametrize("earlier", [None, OLD])
async def test_a_second_bus_that_dies_between_the_writes_leaves_the_first_as_it_was(servers, earlier):
    system, market = servers
    if earlier:
        await seeded(earlier, *servers)
    before = [state(server) for server in servers]
    with heard(system) as so_far:
        await fails_and_leaves(servers, before, "refused", lambda: did(market.kill))
        assert so_far() == [[]]
    market.start()
    assert state(market) == before[1]
    await seeded(NEW, *servers)
    assert agreed(*servers) == (NEW, 2 if earlier else 1)


async def test_a_second_bus_that_turns_read_only_leaves_the_first_as_it_was(servers):
    market = servers[1]
    await seeded(OLD, *servers)
    before = [state(server) for server in servers]
    nobody = ("REPLICAOF", HOST, free_port())
    await fails_and_leaves(servers, before, "readonly", lambda: did(market.cmd, *nobody))
    market.cmd("REPLICAOF", "NO", "ONE")
    assert state(market) == before[1]


async def test_a_second_bus_that_is_full_leaves_both_as_they_were(servers):
    _, market = servers
    await seeded(OLD, *servers)
    before = [state(server) for server in servers]
    await fails_and_leaves(servers, before, "oom", lambda: did(market.cmd, "CONFIG", "SET", "maxmemory", "1"))
    assert state(market) == before[1]


async def test_a_first_bus_that_is_full_by_then_is_put_back_all_the_same(servers):
    system, market = servers
    await seeded(OLD, *servers)
    before = [state(server) for server in servers]

    async def both():
        await did(system.cmd, "CONFIG", "SET", "maxmemory", "1")
        await did(market.kill)

    await fails_and_leaves(servers, before, "refused", both)


async def test_a_second_bus_that_freezes_between_the_writes_does_nothing_when_it_wakes(servers):
    _, market = servers
    await seeded(OLD, *servers)
    before = [state(server) for server in servers]
    try:
        async with asyncio.timeout(20):
            await fails_and_leaves(servers, before, "timeout", lambda: did(market.freeze))
    finally:
        market.thaw()
    await wait_until_it_did_what_was_queued(market)
    assert state(market) == before[1]


async def wait_until_it_did_what_was_queued(server):
    async with buses(server) as (bus,):
        await wait_until_all_answer([bus], 5)


async def test_a_first_bus_that_is_gone_when_it_must_be_put_back_is_named(servers):
    system, market = servers
    await seeded(OLD, *servers)

    async def both():
        await did(system.kill)
        await did(market.kill)

    async with buses(*servers) as opened:
        opened[1].before_write = both
        with pytest.raises(SeedError, match="could not be put back on system-redis") as caught:
            await seed_truth(NEW, opened, "test")
    assert caught.value.unrestored == ("system-redis",)
    # half a truth is mended by the next seeding, and the revision goes on
    system.start()
    market.start()
    assert (await seeded(NEW, *servers)).revision == 2
    assert agreed(*servers) == (NEW, 2)


async def test_keys_with_a_time_to_live_are_put_back_with_it(servers):
    system, market = servers
    await seeded(OLD, *servers)
    system.cmd("EXPIRE", "truth:doc", "1000")
    before = [state(server) for server in servers]
    assert before[0]["lasting"] == [True, False, False]
    await fails_and_leaves(servers, before, "refused", lambda: did(market.kill))


async def test_a_full_history_and_keys_of_another_kind_are_put_back_too(servers):
    system, market = servers
    fill_history(servers)
    await seeded(OLD, *servers)
    system.cmd("DEL", "truth:meta")
    system.cmd("SET", "truth:meta", "of another kind")
    before = [state(server) for server in servers]
    assert len(before[0]["history"]) == 50
    await fails_and_leaves(servers, before, "refused", lambda: did(market.kill))
    assert system.cmd("GET", "truth:meta") == "of another kind"


async def test_a_seeding_reads_no_document_of_the_history_on_the_servers_only_thread(servers):
    """Fifty documents of a megabyte took a second of a server that serves everybody."""
    system, _ = servers
    for n in range(3):
        await seeded(truth(f"s{n}"), *servers)
    system.cmd("CONFIG", "RESETSTAT")
    await seeded(NEW, *servers)
    used = system.cmd("INFO", "commandstats")
    assert not {"cmdstat_dump", "cmdstat_restore", "cmdstat_xrange"} & set(used)
    assert used["cmdstat_xrevrange"]["calls"] <= 4


@pytest.mark.parametrize("times", [1, 20])
async def test_a_seeding_that_is_cancelled_between_the_writes_is_undone_however_often(servers, times):
    await seeded(OLD, *servers)
    before = [state(server) for server in servers]
    async with buses(*servers) as opened:
        reached = asyncio.Event()

        async def reach_and_hang():
            reached.set()
            await asyncio.Event().wait()

        opened[1].before_write = reach_and_hang
        task = asyncio.create_task(seed_truth(NEW, opened, "test"))
        await reached.wait()
        assert state(servers[0])["doc"] == NEW
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [state(server) for server in servers] == before


async def test_whoever_writes_between_the_look_and_the_write_is_not_overwritten_unseen(servers):
    await seeded(OLD, *servers)
    other = truth("other")
    async with buses(*servers) as opened:
        opened[0].before_write = lambda: seeded(other, *servers, by="other")
        seeding = await seed_truth(NEW, opened, "test")
    assert seeding.revision == 3
    assert [entry[b"doc"] for _, entry in state(servers[0])["history"]] == [OLD, other, NEW]
    assert agreed(*servers) == (NEW, 3)


@pytest.mark.parametrize("which", [0, 1])
async def test_a_document_changed_right_after_the_write_is_found_out_and_written_again(servers, which):
    await seeded(OLD, *servers)
    async with buses(*servers) as opened:
        opened[which].after_write = lambda: did(servers[which].cmd, "SET", "truth:doc", "{}")
        seeding = await seed_truth(NEW, opened, "test")
    assert agreed(*servers) == (NEW, seeding.revision)


async def test_a_write_that_comes_too_late_does_nothing(servers):
    keys = ("truth:doc", "truth:meta", "truth:history")
    async with buses(servers[0]) as (bus,):
        (seen,) = await read_all([(bus, keys)])
        values = [NEW, 1, "f00", "1.0", "test"]
        assert (
            await bus.script(SEED_SCRIPT, keys, ["write", seen.token, seen.read_at_ms - 1, *values])
            == b"late"
        )
        assert state(servers[0])["doc"] == b"none"
        assert (
            await bus.script(SEED_SCRIPT, keys, ["write", seen.token, seen.read_at_ms + 9999, *values])
            == b"written"
        )
        assert state(servers[0])["doc"] == NEW


async def test_two_that_seed_the_same_at_once_make_one_revision(servers):
    seedings = await asyncio.gather(*(seeded(NEW, *servers, by=f"n{n}") for n in range(4)))
    assert {seeding.revision for seeding in seedings} == {1}
    assert agreed(*servers) == (NEW, 1)
    assert len(state(servers[0])["history"]) == 1


async def test_two_that_seed_different_truths_at_once_leave_one_on_both_buses(servers):
    documents = [truth(f"s{n}") for n in range(3)]
    outcomes = await asyncio.gather(*(seeded(each, *servers) for each in documents), return_exceptions=True)
    assert all(
        not isinstance(outcome, BaseException) or isinstance(outcome, SeedError) for outcome in outcomes
    )
    document, _ = agreed(*servers)
    assert document in documents


async def test_waiting_ends_when_the_last_bus_answers(tmp_path, servers):
    late = Server(tmp_path / "late", start=False)
    with late:
        async with buses(servers[0], late.url) as opened:
            waiting = asyncio.create_task(wait_until_all_answer(opened, 20))
            await asyncio.sleep(0.3)  # the fault lasts: it asks in vain
            assert not waiting.done()
            await did(late.start)
            await waiting


async def test_waiting_in_vain_names_each_silent_bus_and_its_reason(servers):
    nowhere = f"redis://{HOST}:{free_port()}"
    servers[1].freeze()
    try:
        async with buses(servers[0], servers[1], nowhere) as opened:
            with pytest.raises(SeedError) as caught:
                async with asyncio.timeout(20):
                    await wait_until_all_answer(opened, 1)
    finally:
        servers[1].thaw()
    assert (caught.value.bus, caught.value.reason) == ("market-redis", "timeout")
    assert "no answer within 1 s" in str(caught.value)
    assert "third-redis: refused" in str(caught.value)
    assert "system-redis" not in str(caught.value)


async def test_a_revision_that_a_hand_sets_between_the_look_and_the_write_is_counted_on(servers):
    await seeded(OLD, *servers)
    async with buses(*servers) as opened:
        opened[0].before_write = lambda: did(servers[0].cmd, "HSET", "truth:meta", "revision", "7")
        assert (await seed_truth(NEW, opened, "test")).revision == 8
    assert agreed(*servers) == (NEW, 8)


async def test_an_entry_of_the_history_that_comes_between_the_look_and_the_write_stays(servers):
    """A seeding that fails takes back its own entry, and not what somebody else wrote meanwhile."""
    await seeded(OLD, *servers)
    fields = ("revision", "1", "sha256", "x", "doc", "y")
    async with buses(*servers) as opened:
        opened[0].before_write = lambda: did(servers[0].cmd, "XADD", "truth:history", "*", *fields)
        opened[1].before_write = lambda: did(servers[1].kill)
        with pytest.raises(SeedError):
            await seed_truth(NEW, opened, "test")
    history = state(servers[0])["history"]
    assert [entry[b"doc"] for _, entry in history] == [OLD, b"y"]


BUSES = ["system-redis", "market-redis"]
CHANGES = Changes(added=("a",), dropped=("b",), changed=(("c", "tags"),), buses=(("cache", "added"),))


@pytest.mark.parametrize(
    ("seeding", "lines"),
    [
        (
            SeedResult(2, "f00", changed=True, changes=CHANGES, repaired=()),
            [
                "t.json is revision 2 on system-redis and market-redis",
                "  + a",
                "  - b",
                "  ~ c: tags",
                "  ~ cache: added",
            ],
        ),
        (
            SeedResult(2, "f00", changed=True, changes=Changes(), repaired=()),
            [
                "t.json is revision 2 on system-redis and market-redis",
                "  the same content, written differently",
            ],
        ),
        (
            SeedResult(2, "f00", changed=False, changes=Changes(), repaired=("market-redis",)),
            ["t.json is still revision 2; put back on market-redis"],
        ),
        (
            SeedResult(2, "f00", changed=False, changes=Changes(), repaired=()),
            ["t.json is still revision 2 on system-redis and market-redis: nothing to do"],
        ),
    ],
    ids=["changed", "rewritten", "repaired", "unchanged"],
)
def test_a_seeding_is_summed_up(seeding, lines):
    assert list(describe_seeding(seeding, "t.json", BUSES)) == lines
