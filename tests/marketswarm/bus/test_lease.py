"""What all leases share: how often they are renewed, and the whole numbers that a script believes."""

import asyncio
from pathlib import Path

import pytest

from marketswarm.bus import lease
from marketswarm.bus.fleet_lease import FleetLease, LeaseView
from marketswarm.bus.lease import CHECKS, RENEWALS
from marketswarm.testing import MemoryBus
from support.waiting import auntil


class CountedLease(FleetLease[LeaseView]):
    """Notes each request's time limit; from the third on it does not pause."""

    def __init__(self, lease_sec: float) -> None:
        super().__init__("me", lease_sec, lambda: LeaseView("me", lease_sec))
        self.limits: list[float] = []

    async def send_request(self, _bus, _lease, _action, _carried, within_sec):
        self.limits.append(within_sec)

    async def renew_on(self, name):
        await self.send_next_request(name)
        if len(self.limits) == 3:
            self.leases[name].lease_sec = 0.0


def test_a_holder_renews_and_a_waiting_process_asks_so_often_in_a_lease_life():
    lease = LeaseView("me", 3.0)
    assert lease.seconds_to_next_request(0.0) == 3.0 / CHECKS
    lease.record_holder("me", 0.0)
    assert lease.seconds_to_next_request(0.0) == 3.0 / RENEWALS


@pytest.mark.parametrize(("lease_sec", "within_sec"), [(0.2, 0.5), (10.0, 5.0)])
async def test_a_request_of_a_short_lease_has_half_a_second(lease_sec, within_sec):
    bus, lease = MemoryBus(), CountedLease(lease_sec)
    lease.set_buses({"bus": bus})
    await lease.renew_on("bus")
    assert lease.limits == [within_sec]
    await bus.aclose()


async def test_it_renews_at_once_when_it_is_due_and_else_after_the_pause():
    bus, lease = MemoryBus(), CountedLease(600.0)
    lease.set_buses({"bus": bus})
    task = asyncio.create_task(lease.run())
    for number in (1, 2):
        await auntil(lambda number=number: len(lease.limits) == number)
        await asyncio.sleep(0)
        assert len(lease.limits) == number, "it pauses"
        lease.request_at_once("bus")
    await auntil(lambda: len(lease.limits) >= 5)
    task.cancel()
    await bus.aclose()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("7", 7),
        ("9007199254740991", 9007199254740991),
        *(
            (text, None)
            for text in ("0", "-7", "7.5", "1e3", "0x10", "nan", "", "9007199254740992", "9" * 40)
        ),
    ],
)
async def test_a_script_believes_no_number_but_whole_ones(text, found):
    bus = MemoryBus()
    shared = Path(lease.__file__).with_suffix(".lua").read_text()
    script = shared + (
        "local found = whole_number(ARGV[1], 1)\nreturn found and string.format('%.0f', found)"
    )
    answer = await bus.client.eval(script, 0, text)
    assert answer == (None if found is None else str(found).encode())
    await bus.aclose()
