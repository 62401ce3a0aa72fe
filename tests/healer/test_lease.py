"""A lease as two healers see it: the script on a bus in memory, time moved by hand."""

from types import SimpleNamespace

import pytest

from healer.election import LEASE_SCRIPT, LeaderElection
from healer.lease import BusLease
from marketswarm.keys import HEALER_LEASE
from marketswarm.testing import MemoryBus
from support.fixtures import closed

LIFE_SEC = 3.0

bus = closed(MemoryBus)


class Hand:
    """One healer's hand on the lease."""

    def __init__(self, bus: MemoryBus, boot: str, *, deaf: str = "") -> None:
        self.bus, self.lease, self.deaf = bus, BusLease(boot, LIFE_SEC), deaf

    async def turn(
        self, now: float, *, may_take: bool = True, carried: int = 0, least: int = 1, give: bool = False
    ) -> int:
        lease = self.lease
        args = [
            lease.boot,
            lease.epoch,
            least,
            carried,
            int(may_take),
            lease.find_stale_version(now),
            self.deaf,
            LIFE_SEC,
        ]
        lease.apply_reply(await self.bus.script(LEASE_SCRIPT, [HEALER_LEASE], [*args, int(give)]), now)
        return lease.epoch

    async def look_until(self, end: float, start: float = 0.0, every: float = 0.375) -> float | None:
        """When it took the lease, looking again and again."""
        now = start
        while now <= end:
            if await self.turn(now):
                return now
            now += min(every, self.lease.seconds_to_next_request(now))
        return None


async def test_a_lease_that_nobody_holds_is_taken_at_once_and_kept_by_renewing_it(bus):
    hand = Hand(bus, "a")
    assert await hand.turn(0.0) == 1
    for now in range(1, 10):
        assert await hand.turn(now) == 1
    held = await bus.client.hgetall(HEALER_LEASE)
    assert (held[b"boot"], held[b"epoch"], held[b"renewed"], held[b"deaf"]) == (b"a", b"1", b"10", b"")
    assert float(held[b"until"]) > 1e9
    assert hand.lease.fence == ("a", 1)


async def test_a_lease_that_is_renewed_stays_where_it_is(bus):
    leader, other = Hand(bus, "a"), Hand(bus, "b")
    await leader.turn(0.0)
    for n in range(100):
        now = n * 0.375
        assert await other.turn(now) == 0
        if n % 3 == 0:
            assert await leader.turn(now) == 1
    assert other.lease.fence is None
    assert other.lease.has_other_holder(99 * 0.375)


async def test_a_lease_that_is_no_longer_renewed_is_taken_within_its_life_and_a_second(bus):
    leader, other = Hand(bus, "a"), Hand(bus, "b")
    await other.turn(0.0) and await other.turn(0.0, give=True)
    await leader.turn(0.1)
    took = await other.look_until(20.0, start=0.375)
    assert 0.1 + LIFE_SEC <= took <= 0.1 + LIFE_SEC + 1
    assert other.lease.epoch == 3
    assert await leader.turn(took + 0.1) == 0  # it woke, and sees that it leads no more


async def test_who_did_not_look_all_the_time_waits_for_a_whole_life_again(bus):
    leader, other = Hand(bus, "a"), Hand(bus, "b")
    await leader.turn(0.0)
    await other.turn(0.1)
    # it slept, or the bus was away: perhaps the leader had no way to renew either
    assert await other.turn(100.0) == 0
    assert await other.look_until(102.9, start=100.3) is None
    assert await other.look_until(103.5, start=102.9 + 0.1) is not None


async def test_a_lease_that_is_given_back_is_free_at_once(bus):
    leader, other = Hand(bus, "a"), Hand(bus, "b")
    await leader.turn(0.0)
    assert await other.turn(0.1) == 0
    assert await leader.turn(0.2, give=True) == 0
    assert await other.turn(0.3) == 2


async def test_giving_back_what_another_one_holds_does_nothing(bus):
    leader, other = Hand(bus, "a"), Hand(bus, "b")
    await leader.turn(0.0)
    assert await other.turn(0.1, give=True) == 0
    assert await leader.turn(0.2) == 1


@pytest.mark.parametrize(
    ("leader_deaf", "other_deaf", "takes"),
    [
        ("", "", 0),
        ("x", "", 2),
        ("x", "x", 0),
        ("x", "y", 0),
        ("x,y", "", 2),
        ("x,y", "y", 2),
        ("x,y", "x,y", 0),
        ("x,y", "x,z", 0),
        ("y", "x,y", 0),
        ("xx", "x", 0),
    ],
)
async def test_a_leader_that_is_deaf_gives_way_to_who_hears_more(bus, leader_deaf, other_deaf, takes):
    leader, other = Hand(bus, "a", deaf=leader_deaf), Hand(bus, "b", deaf=other_deaf)
    assert await leader.turn(0.0) == 1
    assert await other.turn(0.1) == takes


async def test_elsewhere_a_greater_epoch_counts_at_once_and_an_equal_or_lesser_one_never(bus):
    old, new = Hand(bus, "a"), Hand(bus, "b")
    assert await old.turn(0.0, may_take=False, carried=5) == 5
    assert await new.turn(0.1, may_take=False, carried=5) == 0
    assert await new.turn(0.2, may_take=False, carried=4) == 0
    assert await new.turn(0.3, may_take=False, carried=6) == 6
    assert await old.turn(0.4, may_take=False, carried=5) == 0
    assert await new.turn(0.5, may_take=False, carried=9) == 9


async def test_an_epoch_grows_to_what_it_must_be_at_least(bus):
    hand = Hand(bus, "a")
    assert await hand.turn(0.0, least=7) == 7
    assert await hand.turn(1.0, least=9) == 9
    assert await hand.turn(2.0, least=1) == 9


async def test_a_lease_that_was_deleted_is_taken_anew_by_whoever_comes_first(bus):
    leader, other = Hand(bus, "a"), Hand(bus, "b")
    await leader.turn(0.0, least=5)
    await bus.client.delete(HEALER_LEASE)
    assert await other.turn(0.1, least=6) == 6
    assert await leader.turn(0.2) == 0


async def test_a_longer_life_that_the_holder_chose_is_respected(bus):
    leader, other = Hand(bus, "a"), Hand(bus, "b")
    await leader.turn(0.0)
    await bus.client.hset(HEALER_LEASE, "lease_sec", "30")
    assert await other.look_until(29.0) is None
    assert await other.look_until(32.0, start=29.1) is not None


@pytest.mark.parametrize("epoch", ["", "x", "-3", "1e300", "nan", "7.9"])
async def test_a_lease_that_somebody_wrote_nonsense_into_is_led_out_of_it(bus, epoch):
    junk = {"boot": b"\xff\xfe", "epoch": epoch, "renewed": "many", "lease_sec": "for ever", "deaf": b"\xff"}
    await bus.client.hset(HEALER_LEASE, mapping=junk)
    hand = Hand(bus, "a", deaf="x")
    assert await hand.turn(0.0) == 0
    assert await hand.look_until(5.0, start=0.375) is not None
    assert hand.lease.epoch >= 1
    assert await hand.turn(6.0) == hand.lease.epoch


async def test_a_lease_whose_answer_was_lost_is_taken_again_at_once(bus):
    hand = Hand(bus, "a")
    await hand.turn(0.0)
    hand.lease.mark_lost()  # it never learned that it has it
    assert await hand.turn(0.1) == 2


def test_what_the_leader_did_not_hear_when_it_was_last_alive_is_no_witness_to_that_bus():
    lease = BusLease("me", 3.0)
    for renewed, now in ((b"1", 1.0), (b"2", 2.0)):
        lease.apply_reply([b"other", b"1", renewed, b"x", b"3"], now)
    agent = SimpleNamespace(boot="me", settings=SimpleNamespace(healer_lease_sec=3.0))
    election = LeaderElection(agent, "x")
    election.leases = {"x": lease, "y": lease}
    assert [election.leader_heard_bus_at(bus) for bus in "xyz"] == [float("-inf"), 2.0, float("-inf")]
    lease.apply_reply([b"me", b"2", b"3", b"", b"3"], 3.0)  # our own renewals witness nothing
    assert [election.leader_heard_bus_at(bus) for bus in "xy"] == [float("-inf"), 2.0]
