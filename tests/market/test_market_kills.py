"""massive is killed at random points, its bus at others, and the API cuts it off: each bar is there, once.

`KILLS=100 … -s` is the long run, with its figures; `KILLS_SEED` has a run again.
"""

import os
import random
import time

import pytest

from support.scenes.market import MarketScene, fast_market
from support.waiting import until

KILLS = int(os.environ.get("KILLS", "4"))
SEED = int(os.environ.get("KILLS_SEED", "5"))
SYMBOLS = ("AAPL", "MSFT", "NVDA")


@pytest.mark.timeout(60 + 6 * KILLS)
def test_killed_and_cut_at_random_points_it_loses_no_bar_and_repeats_none(tmp_path):
    chance = random.Random(SEED)
    with fast_market(*SYMBOLS) as market, MarketScene(tmp_path, market) as scene:
        scene.wish(symbols=SYMBOLS, settle_sec=0.05, keep=1_000_000)
        agent = scene.massive()
        until(lambda: market.subscribed == set(SYMBOLS), 20)
        market.run()
        until(lambda: len(scene.bars()) >= len(SYMBOLS), 10)
        first = {sym: made[0] for sym, made in market.made.items()}
        began, cuts, buses = time.monotonic(), 0, 0
        for _ in range(KILLS):
            if chance.random() < 0.4:
                until(lambda: market.connected, 20)
                time.sleep(chance.random() * 0.3)
                market.cut()
                cuts += 1
            if chance.random() < 0.2:
                scene.market.kill()
                scene.market.start()
                buses += 1
            # at any moment of its start, of its filling, of its work
            time.sleep(chance.random() * 1.2)
            agent.kill()
            agent.start()
        took_sec = time.monotonic() - began
        until(lambda: market.subscribed == set(SYMBOLS), 20)
        market.stop()
        scene.whole(first, 30)
        by = [each["source"] for each in scene.bars()]
        filled = sum(line["new"] for line in agent.logs("market.filled"))
        print(  # noqa: T201 - for `-s`
            f"\nkills: {KILLS}, cuts: {cuts}, bus kills: {buses}, seconds: {took_sec:.0f}, bars: {len(by)}, "
            f"streamed: {by.count('ws')}, backfilled: {by.count('rest')} (told: {filled}), lost: 0, twice: 0"
        )
        assert "rest" in by
