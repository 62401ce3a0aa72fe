"""What all leases share: the loop that renews, and the whole numbers that a script believes."""

import asyncio
from pathlib import Path

import pytest

from marketswarm.bus import lease
from marketswarm.bus.lease import (
    CHECKS,
    RENEWALS,
    compute_interval_sec,
    compute_request_limit_sec,
    renew_repeatedly,
)
from marketswarm.testing import MemoryBus
from support.waiting import auntil


def test_a_holder_renews_and_a_waiting_process_asks_so_often_in_a_lease_life():
    assert compute_interval_sec(3.0, is_holder=True) == 3.0 / RENEWALS
    assert compute_interval_sec(3.0, is_holder=False) == 3.0 / CHECKS


def test_a_request_of_a_short_lease_has_half_a_second():
    assert (compute_request_limit_sec(0.2), compute_request_limit_sec(10.0)) == (0.5, 5.0)


async def test_it_renews_at_once_when_it_is_due_and_else_after_the_pause():
    due, calls = asyncio.Event(), []

    async def renew():
        calls.append(due.is_set())
        return 60.0 if len(calls) < 3 else 0.0  # from the third on it does not pause

    task = asyncio.create_task(renew_repeatedly(renew, due))
    for number in (1, 2):
        await auntil(lambda number=number: len(calls) == number)
        due.set()
    await auntil(lambda: len(calls) >= 5)
    task.cancel()
    assert calls == [False] * len(calls)


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
