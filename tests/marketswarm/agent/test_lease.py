"""A lease over a bus in memory: one at a time, a growing epoch, and an end by our own clock."""

import asyncio
import time

import pytest

from marketswarm.agent.lease import Lease
from marketswarm.bus.lease import CHECKS
from marketswarm.tasks import end_tasks
from marketswarm.testing import MemoryBus
from support.waiting import PATIENT_SEC


@pytest.fixture
async def bus(moved_time):
    bus = MemoryBus()
    yield bus
    await bus.aclose()


def lease(bus, boot="abc", life_sec=5.0, name="nightly", **more):
    return Lease(name, life_sec, bus, "rss_agg", boot, **more)


async def test_one_has_it_and_another_one_hears_who_and_for_how_long(bus):
    first, second = lease(bus), lease(bus, "def")
    assert await first.acquire()
    assert not await second.acquire()
    assert (first.held, second.held, second.holder) == (True, False, "rss_agg abc")
    assert 0 < second.next_request_sec(0.0) <= 5.0 / CHECKS
    said = await bus.client.hgetall("lease:nightly")
    assert (said[b"boot"], said[b"svc"], int(said[b"epoch"])) == (b"abc", b"rss_agg", first.epoch)
    assert 4000 < await bus.client.pttl("lease:nightly") <= 5000


async def test_who_gives_it_back_lets_another_one_in_at_once(bus):
    first, second = lease(bus), lease(bus, "def")
    await first.acquire()
    await first.release()
    assert not first.held
    assert await second.acquire()
    assert second.epoch > first.epoch
    await first.release()  # what is not ours is not given back
    assert not await lease(bus, "ghi").acquire()


async def test_the_epoch_grows_over_expiry_and_over_the_loss_of_all_data(bus):
    epochs = []
    for forget in ("DEL lease:nightly", "DEL lease:nightly", "FLUSHALL"):
        mine = lease(bus)
        assert await mine.acquire()
        epochs.append(mine.epoch)
        await asyncio.sleep(0.002)
        await bus.client.execute_command(*forget.split())
    mine = lease(bus)
    assert await mine.acquire()
    assert sorted({*epochs, mine.epoch}) == [*epochs, mine.epoch]


async def test_the_epoch_grows_though_the_servers_clock_was_set_back(bus):
    ahead = int(time.time() * 1000) + 3_600_000
    await bus.client.set("lease-epoch:nightly", ahead)
    mine = lease(bus)
    assert await mine.acquire()
    assert mine.epoch == ahead + 1


async def test_a_lease_whose_answer_was_lost_is_found_again_but_not_by_another_block(
    bus,
):
    first, second = lease(bus), lease(bus)
    await first.acquire()
    epoch = first.epoch
    assert await first.acquire()
    assert first.epoch == epoch
    assert not await second.acquire()


async def test_a_lease_without_an_end_gets_one(bus):
    await bus.client.hset("lease:nightly", mapping={"boot": "by hand"})
    mine = lease(bus)
    assert not await mine.acquire()
    assert mine.holder == "? by hand"
    assert 0 < await bus.client.pttl("lease:nightly") <= 5000


async def test_it_is_renewed_while_it_is_kept(bus):
    mine = lease(bus, life_sec=3.0)
    await mine.acquire()
    keeping = asyncio.create_task(mine.renew_until_lost())
    await asyncio.wait([keeping], timeout=30)
    assert mine.held
    assert not keeping.done()
    await end_tasks(keeping)


async def test_one_that_another_took_is_lost_and_says_who_has_it(bus):
    mine, other = lease(bus), lease(bus, "def")
    await mine.acquire()
    await bus.client.delete("lease:nightly")
    assert await other.acquire()
    assert await mine.renew_until_lost() == "rss_agg def has it"
    assert (mine.held, mine.has_lapsed) == (False, False)


async def test_one_that_is_gone_is_lost_though_nobody_has_it(bus):
    mine = lease(bus)
    await mine.acquire()
    await bus.client.flushall()
    assert await mine.renew_until_lost() == "it is gone from the bus"
    assert not await bus.client.exists("lease:nightly")


async def test_it_ends_by_our_clock_while_the_bus_is_away_and_not_before(bus):
    mine = lease(bus, life_sec=150.0)
    begun_at = time.monotonic()
    await mine.acquire()
    assert (mine.held, mine.has_lapsed) == (True, False)
    bus.connected = False
    assert await mine.renew_until_lost() == "system-redis refused"
    assert 149.9 < time.monotonic() - begun_at < 160
    assert (mine.held, mine.has_lapsed) == (False, True)
    bus.connected = True


async def test_a_bus_that_comes_back_in_time_costs_nothing(bus):
    mine = lease(bus, life_sec=200.0)
    await mine.acquire()
    bus.connected = False
    keeping = asyncio.create_task(mine.renew_until_lost())
    await asyncio.wait([keeping], timeout=100)
    bus.connected = True
    await asyncio.wait([keeping], timeout=1500)
    assert mine.held
    assert not keeping.done()
    await end_tasks(keeping)


async def test_its_life_is_reckoned_from_before_the_request_was_sent(bus, monkeypatch, moved_time):
    plain = bus.script

    async def slow(*args):
        answer = await plain(*args)
        moved_time.advance(3.0)  # the answer was on its way for so long
        return answer

    monkeypatch.setattr(bus, "script", slow)
    mine = lease(bus)
    assert await mine.acquire()
    moved_time.advance(1.9)
    assert mine.held
    moved_time.advance(0.2)
    assert not mine.held
    assert await asyncio.wait_for(mine.renew_until_lost(), PATIENT_SEC) == "it was not renewed in time"


async def test_who_waits_looks_at_a_fraction_of_the_life_and_right_after_the_end(bus):
    first, second = lease(bus, life_sec=80.0), lease(bus, "def", life_sec=80.0)
    await first.acquire()
    await second.acquire()
    assert second.next_request_sec(0.0) == 10.0
    assert second.next_request_sec(0.999) == pytest.approx(5.0, rel=0.01)
    await bus.client.pexpire("lease:nightly", 5000)
    await second.acquire()
    assert 3.0 < second.next_request_sec(0.0) < 5.01


@pytest.mark.parametrize("name", ["", " x", "a b", "ü", "x" * 101, "-x", "x\n"])
def test_a_name_that_won_t_do_is_refused(name):
    with pytest.raises(ValueError, match="names no lease"):
        lease(None, name=name)


@pytest.mark.parametrize("life_sec", [0, -1, 0.05, 100_000, float("nan"), float("inf")])
def test_a_life_that_won_t_do_is_refused(life_sec):
    with pytest.raises(ValueError, match="are possible"):
        lease(None, life_sec=life_sec)


NO_EPOCHS = ["inf", "-inf", "nan", "1e300", "0x10", "-5", "1.5", "9" * 400, "", "x", "9007199254740992"]


@pytest.mark.parametrize("said", NO_EPOCHS)
async def test_an_epoch_that_somebody_wrote_and_is_none_counts_as_none_and_is_said(bus, said, capsys):
    await bus.client.set("lease-epoch:nightly", said)
    mine = lease(bus)
    assert await mine.acquire()
    assert abs(mine.epoch - 1000 * time.time()) < 60_000
    assert "lease.unusable" in "".join(capsys.readouterr())


@pytest.mark.parametrize("said", NO_EPOCHS)
async def test_a_lease_whose_epoch_somebody_spoilt_is_lost_and_free(bus, said):
    mine = lease(bus)
    assert await mine.acquire()
    await bus.client.hset("lease:nightly", "epoch", said)
    assert await mine.renew_until_lost() == "it is gone from the bus"
    other = lease(bus, "def")
    assert await other.acquire()
    assert other.epoch > mine.epoch


@pytest.mark.parametrize("key", ["lease:nightly", "lease-epoch:nightly"])
@pytest.mark.parametrize(
    "line", ["SET {} x", "RPUSH {} x", "SADD {} x", "XADD {} 1-1 a b", "HSET {} epoch x"]
)
async def test_a_key_of_another_kind_is_nobody_s(bus, key, line):
    await bus.client.execute_command(*line.format(key).split())
    assert await lease(bus).acquire()
    assert not await lease(bus, "def").acquire()


async def test_a_lease_that_somebody_made_to_last_for_years_ends(bus):
    await bus.client.hset("lease:nightly", mapping={"claim": "x", "boot": "x" * 5000, "svc": "y"})
    await bus.client.pexpire("lease:nightly", 10**13)
    mine = lease(bus, life_sec=0.2)
    assert not await mine.acquire()
    assert len(mine.holder) <= 200
    assert await bus.client.pttl("lease:nightly") <= 200


async def test_a_lease_that_a_dead_holder_took_by_a_clock_that_was_ahead_ends_after_its_life(bus):
    """The time to live is an absolute time on the server, and in its file: what is left of it is too long."""
    assert await lease(bus, life_sec=4.0).acquire()
    await bus.client.pexpire("lease:nightly", 3_000_000)
    waiting = lease(bus, "def", life_sec=1.0)
    assert not await waiting.acquire()
    assert 3000 < await bus.client.pttl("lease:nightly") <= 4000, "its own life, not that of who waits"
    await asyncio.sleep(2)
    assert not await waiting.acquire()
    await asyncio.sleep(2.1)
    assert await waiting.acquire()


@pytest.mark.parametrize("life", ["", "x", "99999999999"])
async def test_a_life_that_somebody_wrote_and_is_none_counts_as_none(bus, life):
    assert await lease(bus).acquire()
    await bus.client.hset("lease:nightly", "life", life)
    await bus.client.pexpire("lease:nightly", 86_000_000)  # as one of an older release may last
    assert not await lease(bus, "def").acquire()
    assert await bus.client.pttl("lease:nightly") > 85_000_000
    await bus.client.pexpire("lease:nightly", 10**13)
    assert not await lease(bus, "def").acquire()
    assert await bus.client.pttl("lease:nightly") <= 86_400_000


async def test_a_lease_of_one_s_own_is_another_one_than_that_of_all_and_than_that_of_another_service(bus):
    shared, own = lease(bus), lease(bus, own=True)
    other = Lease("nightly", 5.0, bus, "mesh", "abc", own=True)
    for each in (shared, own, other):
        assert await each.acquire()
    assert not await lease(bus, "def", own=True).acquire()
    assert sorted(await bus.client.keys("*")) == [
        b"lease-epoch:nightly",
        b"lease:nightly",
        b"own-lease-epoch:mesh:nightly",
        b"own-lease-epoch:rss_agg:nightly",
        b"own-lease:mesh:nightly",
        b"own-lease:rss_agg:nightly",
    ]
    await own.release()
    assert shared.held
    assert await lease(bus, "def", own=True).acquire()


async def test_a_process_of_an_older_release_gives_way_and_waits_while_a_newer_one_leads(bus):
    old, new = lease(bus), lease(bus, "def", own=True, former="nightly")
    assert await old.acquire()
    losing = asyncio.ensure_future(old.renew_until_lost())
    assert await new.acquire()
    assert new.epoch > old.epoch
    began_at = time.monotonic()
    assert await losing == "rss_agg def has it"
    assert time.monotonic() - began_at <= 5.0 / 3 + 0.1
    renewing = asyncio.ensure_future(new.renew_until_lost())
    for _ in range(4):
        assert not await old.acquire()
        await asyncio.sleep(4)
    await end_tasks(renewing)
    await new.release()
    assert await old.acquire(), "after a step back to the older release"
    assert old.epoch > new.epoch


@pytest.mark.parametrize(
    "spoil", ["SET lease:nightly x", "DEL lease:nightly", "SET lease-epoch:nightly 9e15"]
)
async def test_what_others_write_to_the_former_lease_disturbs_no_holder_of_the_own_one(bus, spoil):
    mine = lease(bus, own=True, former="nightly")
    await bus.client.execute_command(*spoil.split())
    assert await mine.acquire()
    await bus.client.execute_command(*spoil.split())
    renewing = asyncio.ensure_future(mine.renew_until_lost())
    await asyncio.sleep(20)
    assert mine.held
    await end_tasks(renewing)
    await bus.client.execute_command(*spoil.split())
    await mine.release()
    assert not await bus.client.exists(mine.key)


async def test_another_holder_is_seen_and_not_another_block_of_the_same_process(bus):
    seen = []
    mine = lease(bus, on_other_holder=seen.append)
    earlier = lease(bus)
    await earlier.acquire()
    assert not await mine.acquire()
    assert (seen, mine.holder) == ([], "rss_agg abc")
    await earlier.release()
    assert await mine.acquire()
    await mine.release()
    assert seen == []
    await lease(bus, "def").acquire()
    assert not await mine.acquire()
    assert seen == [False]


async def test_a_renewal_of_another_holder_is_seen_and_not_that_somebody_took_it(bus):
    seen = []
    waiting = lease(bus, "def", on_other_holder=seen.append)
    for boot in ("a", "b", "c"):  # each takes it, and gives it back at once
        holder = lease(bus, boot)
        await holder.acquire()
        await waiting.acquire()
        await asyncio.sleep(1)
        await holder.release()
    holder = lease(bus, "d")
    await holder.acquire()
    for _ in range(3):
        await waiting.acquire()
        await asyncio.sleep(1)
    assert seen == [False] * 6
    await holder.acquire()  # renews it
    await waiting.acquire()
    assert seen[6:] == [True]
