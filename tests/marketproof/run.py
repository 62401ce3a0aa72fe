"""A proof from beginning to end: the week plays, parts are killed, and every row is compared."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from marketproof.clock import PlayedClock
from marketproof.comparison import Comparison, compare_database
from marketproof.plan import AFTER_MS, BUSES, TARGETS, Plan, list_vices
from marketproof.station import Station
from support.market_prices import write_truth
from support.market_server import MarketServer, run_market
from support.waiting import Patience

LOOK_SEC: Final = 0.1
LONGEST_AWAY_SEC: Final = 1.5
STEADY_SEC: Final = 3.0
SETTLE_SEC: Final = 240.0
REPORT_EVERY: Final = 10


@dataclass
class Proof:
    """One run in `folder`; `say` is given lines for people."""

    plan: Plan
    folder: Path
    say: Callable[[str], None]
    kills: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    quarantine: dict[str, int] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    torn_bytes: Counter[str] = field(default_factory=Counter)
    comparison: Comparison = field(default_factory=Comparison)

    def run(self) -> None:
        """Play, kill, settle, compare. Raise AssertionError if it does not become quiet."""
        plan, market = self.plan, self.plan.market
        raw = self.folder / "truth.csv"
        count = write_truth(market, raw)
        self.say(f"{count} minutes in the raw file; a second plays {plan.speed / 60:.1f} minutes")
        begin_ms, end_ms = market.begin_ms, market.end_ms
        with (
            PlayedClock(self.folder, begin_ms, end_ms, plan.speed) as clock,
            run_market(market, clock) as site,
            Station(self.folder, plan, site, clock) as station,
        ):
            for source, vices in list_vices(plan).items():
                site.set_vice(source, *vices)
            self._play(station, clock)
            self._settle(station, clock, site)
            self.quarantine = station.read_quarantine()
            self.torn_bytes = station.torn_bytes
            self.exits = Counter(f"{name} {code}" for name, code in station.exits)
            self.requests = Counter(
                f"{each.source}{each.vice and ' ' + each.vice}" for each in list(site.requests)
            )
            self.comparison = compare_database(station.database, plan, raw)

    def _play(self, station: Station, clock: PlayedClock) -> None:
        """Kill one part after the other, and go on until the week is over."""
        chance = random.Random(self.plan.seed)
        torn = 0
        while self.kills.total() < self.plan.kills:
            _watch(station, chance.uniform(0.1, 1.9) * self.plan.every_sec)
            target = chance.choice(TARGETS)
            is_torn = target in BUSES and chance.random() < self.plan.torn
            station.kill(target, chance.uniform(0, LONGEST_AWAY_SEC), is_torn=is_torn)
            self.kills[target] += 1
            torn += is_torn
            if self.kills.total() % REPORT_EVERY == 0:
                self.say(f"{self.kills.total()} kills: {dict(self.kills)}, {torn} of them with a torn file")
        while not clock.is_at_end:
            _watch(station, 1.0)

    def _settle(self, station: Station, clock: PlayedClock, site: MarketServer) -> None:
        """Let every bar be over, and wait until nothing happens any more."""
        self.say("the week is over; the rest is settled")
        for source in list_vices(self.plan):
            site.set_vice(source)
        over_ms = self.plan.market.end_ms + AFTER_MS
        clock.jump(over_ms)
        station.seed(speed=1.0)
        patience, since, before = Patience(SETTLE_SEC), time.monotonic(), {}
        while True:
            _watch(station, LOOK_SEC)
            unfinished, now = station.find_unfinished(over_ms / 1000), station.read_last_ids()
            if not unfinished and now == before and time.monotonic() - since >= STEADY_SEC:
                return
            if unfinished or now != before:
                since, before = time.monotonic(), now
            if patience.is_over():
                raise AssertionError(
                    f"not quiet within {SETTLE_SEC:g} s: {unfinished or 'entries still come'}"
                )

    def list_lines(self) -> list[str]:
        """Return the account for people."""
        return [
            f"kills: {self.kills.total()}, {dict(self.kills)}; ended by themselves: {dict(self.exits)}",
            f"bytes that buses forgot: {dict(self.torn_bytes)}",
            f"asked: {dict(self.requests)}; quarantine: {self.quarantine}",
            *self.comparison.list_lines(),
        ]


def _watch(station: Station, sec: float) -> None:
    """Look at the station for so many seconds."""
    end = time.monotonic() + sec
    while (left := end - time.monotonic()) > 0:
        station.look()
        time.sleep(min(left, LOOK_SEC))
