"""A proof from beginning to end: the week plays, parts break, and every row is compared."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from marketproof.accounts import compare_alerts, compare_requests, compare_sources
from marketproof.clock import PlayedClock
from marketproof.comparison import (
    ACTIONS_FILE,
    DAYS_FILE,
    MINUTES_FILE,
    Comparison,
    compare_derived,
    compare_records,
)
from marketproof.market import write_actions, write_days
from marketproof.plan import AFTER_MS, BUSES, LOAD_SEC, Plan, choose_breaks, describe_cut, list_vices
from marketproof.station import LOOK_SEC, MARKET, SYSTEM, Station
from services.sources.cascade.history import REVISE_PAUSE_SEC
from support.market_prices import write_truth
from support.market_server import MarketServer, run_market
from support.waiting import Patience

LONGEST_AWAY_SEC: Final = 1.5
STEADY_SEC: Final = 3.0
SETTLE_SEC: Final = 600.0
DERIVE_SEC: Final = 240.0
"""How long after the last bar features, correlations and the states of sources may come."""
REPORT_EVERY: Final = 10


@dataclass
class Proof:
    """One run in `folder`; `say` is given lines for people."""

    plan: Plan
    folder: Path
    say: Callable[[str], None]
    kills: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    quarantine: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    torn_bytes: Counter[str] = field(default_factory=Counter)
    comparison: Comparison = field(default_factory=Comparison)

    def run(self) -> None:
        """Play, break, settle, compare. Raise AssertionError if it does not become quiet."""
        plan, market = self.plan, self.plan.market
        minutes = write_truth(market, self.folder / MINUTES_FILE)
        days = write_days(market, self.folder / DAYS_FILE)
        write_actions(market, self.folder / ACTIONS_FILE, market.end_ms + AFTER_MS)
        self.say(f"{minutes} minutes and {days} days; a second plays {plan.speed / 60:.1f} minutes")
        with (
            PlayedClock(self.folder, market.begin_ms, market.end_ms, plan.speed) as clock,
            run_market(market, clock) as site,
            Station(self.folder, plan, site, clock) as station,
        ):
            for source, vices in list_vices(plan).items():
                site.set_vice(source, *vices)
            self._play(station, clock)
            self._settle(station, clock, site)
            self._compare(station, site)
            self.quarantine = station.read_quarantine()
            self.torn_bytes = station.torn_bytes
            self.exits = Counter(f"{name} {code}" for name, code in station.exits)
            self.requests = Counter(f"{each.source} {each.vice}".strip() for each in site.requests)

    def _play(self, station: Station, clock: PlayedClock) -> None:
        """Break one part after the other, and go on until the week is over."""
        station.wait_for_loads()
        clock.play()
        chance = random.Random(self.plan.seed)
        is_whole = False
        for number, what in enumerate(choose_breaks(self.plan, chance), 1):
            station.watch(chance.uniform(0.1, 1.9) * self.plan.every_sec)
            is_whole = is_whole or self._name_late(station, clock)
            if isinstance(what, str):
                is_torn = what in BUSES and chance.random() < self.plan.torn
                station.kill(what, chance.uniform(0, LONGEST_AWAY_SEC), is_torn=is_torn)
                self.kills[what] += 1
            else:
                station.cut(what)
                self.cuts.update(describe_cut(what))
            if number % REPORT_EVERY == 0:
                self.say(f"killed {dict(self.kills)}, cut {dict(self.cuts)}")
        while not clock.is_at_end:
            station.watch(1.0)
            is_whole = is_whole or self._name_late(station, clock)

    def _name_late(self, station: Station, clock: PlayedClock) -> bool:
        """Name the late feeds in the truth if it is time; return whether it is."""
        if clock() < self.plan.late_ms:
            return False
        station.seed(self.plan.speed)
        return True

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
            station.watch(LOOK_SEC)
            unfinished, now = station.find_unfinished(over_ms / 1000), station.read_last_ids()
            if not unfinished and now == before and time.monotonic() - since >= STEADY_SEC:
                unfinished = station.find_unrevised(over_ms / 1000)
                if not unfinished:
                    break
                # what a limit left out is asked for after a pause of the played clock
                clock.jump(clock() + round(1000 * REVISE_PAUSE_SEC))
            if unfinished or now != before:
                since, before = time.monotonic(), now
            if patience.is_over():
                raise AssertionError(
                    f"not quiet within {SETTLE_SEC:g} s: {unfinished or 'entries still come'}"
                )
        station.end_loading()

    def _compare(self, station: Station, site: MarketServer) -> None:
        """Compare every table; what is computed some time later, again until it is right or too late."""
        expected = compare_records(self.comparison, station.database, self.plan, self.folder)
        deadline = time.monotonic() + DERIVE_SEC
        while True:
            found = compare_derived(station.database, expected)
            if unfinished := station.find_uncommitted():
                found.find("not written", unfinished)
            else:
                self._compare_accounts(found, station, site)
            if not found.differences or time.monotonic() > deadline:
                break
            station.watch(1.0)
        self.comparison.add(found)

    def _compare_accounts(self, found: Comparison, station: Station, site: MarketServer) -> None:
        """Compare what the database says of requests, sources and alerts."""
        url, requests = station.database, list(site.requests)
        is_torn = {bus: bool(station.torn_bytes[bus]) for bus in BUSES}
        compare_requests(found, url, requests, station.breaks, is_torn=is_torn[MARKET])
        compare_sources(found, url, requests, station.read_sources())
        events = station.read_events("healer:alerts:log")
        load_sec = LOAD_SEC * self.plan.speed
        compare_alerts(found, url, requests, events, load_sec=load_sec, is_torn=is_torn[SYSTEM])

    def list_lines(self) -> list[str]:
        """Return the account for people."""
        return [
            f"kills: {self.kills.total()}, {dict(self.kills)}; ended by themselves: {dict(self.exits)}",
            f"connections broken: {dict(self.cuts)}",
            f"bytes that buses forgot: {dict(self.torn_bytes)}",
            f"asked: {dict(self.requests)}; quarantine: {dict(self.quarantine)}",
            *self.comparison.list_lines(),
        ]
