"""What is left of a source's limits, by the account that sources keeps on the bus."""

import time

import pytest

from marketswarm.bus.rate_limiter import TAKE_REQUEST
from marketswarm.keys import source_account_key
from marketswarm.testing import MemoryBus
from services.board.market.limits import WindowView, parse_account, read_accounts
from services.board.market.pictures import format_limit

NOW = 1_800_000_000.0
MINUTE_SLOT = int(NOW // 3)
"""A minute has 20 slots of 3 s each."""


def account(**fields):
    return {name.encode(): str(value).encode() for name, value in fields.items()}


def test_what_was_sent_within_a_window_is_taken_from_what_it_allows():
    raw = account(
        limits="60:200 86400:5000",
        **{f"60:{MINUTE_SLOT}": 5, f"60:{MINUTE_SLOT - 20}": 8, f"60:{MINUTE_SLOT - 21}": 100},
        **{f"86400:{int(NOW // 4320)}": 130},
    )
    found = parse_account(raw, NOW)
    assert found.windows == (WindowView(60, 200, 187), WindowView(86_400, 5000, 4870))
    assert found.again_at is None


def test_a_limit_that_is_used_up_says_when_a_request_is_free():
    raw = account(limits="60:10 86400:500", **{f"60:{MINUTE_SLOT}": 4, f"60:{MINUTE_SLOT - 6}": 6})
    found = parse_account(raw, NOW)
    assert [one.left for one in found.windows] == [0, 500]
    assert found.again_at == (MINUTE_SLOT - 6 + 21) * 3


def test_a_source_that_asked_for_a_break_is_asked_after_it():
    assert parse_account(account(limits="60:10", blocked=int(1000 * NOW) + 90_000), NOW).again_at == NOW + 90
    assert parse_account(account(limits="60:10", blocked=int(1000 * NOW) - 1), NOW).again_at is None


@pytest.mark.parametrize("limits", ["", "60", "60:", "x:y", "-60:5", "0:5", "60:9999999999"])
def test_an_account_that_does_not_say_its_limits_is_none(limits):
    assert parse_account(account(limits=limits), NOW) is None
    assert parse_account({}, NOW) is None


def test_what_is_no_count_counts_for_nothing():
    slot = f"60:{MINUTE_SLOT}"
    for count in ("-1", "1.5", "many", ""):
        assert parse_account(account(limits="60:10", **{slot: count}), NOW).windows[0].left == 10
    assert parse_account(account(limits="60:10", blocked="soon"), NOW).again_at is None


async def test_each_key_of_a_source_has_an_account_of_its_own():
    bus = MemoryBus("market-redis")
    keys = {"key:0123456789ab": "1", "key:ba9876543210": "1", "key:../secret": "1"}
    await bus.client.hset(source_account_key("fred"), mapping=keys)
    await bus.client.hset(source_account_key("fred:0123456789ab"), mapping={"limits": "60:120"})
    await bus.client.hset(source_account_key("fred:ba9876543210"), mapping={"limits": "60:60"})
    await bus.client.hset(source_account_key("ecb"), mapping={"limits": "1:5"})
    found = await read_accounts(bus, ["fred", "ecb", "bls", "fred"])
    allowed = {name: [one.windows[0].allowed for one in accounts] for name, accounts in found.items()}
    assert allowed == {"fred": [120, 60], "ecb": [5]}
    assert await read_accounts(bus, []) == {}


async def test_what_is_left_is_what_the_script_of_the_sources_still_grants():
    bus, key = MemoryBus("market-redis"), source_account_key("alpaca")
    await bus.client.hset(key, "limits", "60:7 3600:9")
    for taken in range(8):
        (found,) = (await read_accounts(bus, ["alpaca"]))["alpaca"]
        assert [one.left for one in found.windows] == [7 - taken, 9 - taken]
        wait_ms = int(await bus.script(TAKE_REQUEST, [key], ["take", 0, 60, 7, 3600, 9]))
        assert (found.again_at is None) is (wait_ms == 0) is (taken < 7)
    assert found.again_at - time.time() == pytest.approx(wait_ms / 1000, abs=2.5)
    assert 57_000 < wait_ms < 64_000, "a slot longer than the window"


def test_a_limit_is_said_in_words():
    said = [format_limit(4870, 5000, 86_400), format_limit(0, 5, 1), format_limit(1, 2, 90)]
    assert said == ["4,870 of 5,000 a day", "0 of 5 a second", "1 of 2 in 90 s"]
