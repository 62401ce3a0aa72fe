"""Decide ticks while this process leads: plan, ask, decide, commit, publish. One process does it at a time.

A tick counts once PostgreSQL has committed it: only then are its states kept and its places published. While
PostgreSQL is away no tick is decided. What was not decided is written as a gap, before the next tick.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final

from marketswarm import __version__
from marketswarm.agent import Agent, Lease, LeaseLost
from marketswarm.agent.loops import lead
from marketswarm.bus.outage import Outage
from marketswarm.postgres.errors import PostgresAwayError, RefusedRowsError
from marketswarm.tasks import run_beside
from services.signals.cycle.correlations import KEPT, CommonVotes, list_opinions
from services.signals.cycle.decide import (
    BarVoter,
    GivenVotes,
    TickDecision,
    TickRules,
    decide_tick,
    vote_by_rules,
)
from services.signals.cycle.market import MarketBars
from services.signals.cycle.states import SignalStates, ThriftRules, TickPlan, plan_tick, restore_state
from services.signals.cycle.tick_rules import encode_rules
from services.signals.log.entries import make_tick
from services.signals.market_reader import MarketReader
from services.signals.metrics import SignalsMetrics
from services.signals.outside import OutsideVoters
from services.signals.publisher import PlacePublisher
from services.signals.sessions import SessionBook
from services.signals.settings import BarsVoterEntry, SignalsSettings
from services.signals.store.database import LogMovedError, StaleEpochError
from services.signals.store.reader import AuditReader, MissingRowError
from services.signals.store.writer import SignalWriter, StoredState, TickToWrite

LEASE: Final = "deciding"
RETRY_SEC: Final = 1.0
"""How long after a failed attempt the next one begins, if a cycle takes longer."""
LOST_CYCLES: Final = 2
"""If more than so many cycles passed since the last tick, the ticks between are a gap."""
BEHIND_MS: Final = 5000
"""By how much the clock may be behind the last entry of the log before the beats say so."""
PART: Final = "ticks"

TickFollower = Callable[[TickDecision, MarketBars, TickPlan, GivenVotes], None]


class GapReason(StrEnum):
    """Why ticks were not decided."""

    RESTARTED = "restarted"
    """No process led: all had ended, or the lease changed hands."""
    DATABASE_AWAY = "database_away"
    BARS_UNREAD = "bars_unread"
    """The stream of checked bars was not read to its end yet, as after a reseed with other symbols."""
    SLOW = "slow"
    """A tick took longer than two cycles, or the machine slept."""


class SignalLeader:
    """Lead, or stand by until the lease is free.

    Args:
        beside: what to run while this process leads, and to cancel then.
        on_tick: each is called with each tick that is committed, and the votes that it was decided by.
    """

    def __init__(
        self,
        me: Agent[Any],
        settings_now: Callable[[], SignalsSettings],
        reader: MarketReader,
        voters: OutsideVoters,
        metrics: SignalsMetrics,
        *,
        writer: SignalWriter,
        stored: AuditReader,
        beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
        on_tick: Sequence[TickFollower] = (),
    ) -> None:
        self._me, self._settings_now, self._reader = me, settings_now, reader
        self._writer, self._stored, self._voters = writer, stored, voters
        self._beside = beside
        self._metrics, self._on_tick = metrics, on_tick
        self._publisher = PlacePublisher(me, settings_now)
        self._publishing = Outage(me.log, "places.unpublished", "places.published", degrade=self._degrade_log)
        self._sessions = SessionBook()
        self._states = SignalStates(())
        self._common = CommonVotes(())
        self._last_tick, self._last_at_ms, self._newest_at_ms = 0, 0, 0
        self._decided_at: float | None = None  # when this process decided or counted last, by its own clock
        self._is_known = self._has_epoch = self._is_published = False
        self._gap_reason: GapReason | None = None
        self._logged: set[tuple[str, str]] = set()
        self._problem = ""
        self._slow: str | None = None
        self._is_behind = False
        self._late_votes: frozenset[str] = frozenset()  # the symbols of votes that no committed tick has used

    async def run(self) -> None:
        """Lead whenever the lease is free, until cancelled."""
        outage = Outage(self._me.log, "leader.waiting", "leader.resumed")
        await lead(self._me, LEASE, self._lead, outage)

    async def _lead(self, lease: Lease) -> None:
        if self._beside is None:
            await self.decide(lease)
            return
        async with run_beside(self._beside()):
            await self.decide(lease)

    async def decide(self, lease: Lease) -> None:
        """Decide a tick each cycle. Raises LeaseLost if a newer leader has begun."""
        self._is_known = self._has_epoch = self._is_published = False
        self._gap_reason, self._metrics.leading, self._decided_at = GapReason.RESTARTED, 1, None
        self._me.log.info("leader.began", epoch=lease.epoch)
        try:
            due = time.monotonic()
            while True:
                is_done = await self._attempt(lease)
                cycle_sec = self._settings_now().settings.cycle_sec
                due = max(due + (cycle_sec if is_done else min(cycle_sec, RETRY_SEC)), time.monotonic())
                await asyncio.sleep(due - time.monotonic())
        finally:
            self._metrics.leading = 0
            self._degrade("")
            self._degrade_slow(None)
            self._degrade_clock(0)
            self._degrade_log(None)

    async def _attempt(self, lease: Lease) -> bool:
        """Decide one tick; return whether it is committed. What keeps it from that is logged once."""
        try:
            if not self._has_epoch:
                await self._writer.begin_epoch(f"{self._me.name} {self._me.boot}")
                self._has_epoch = True
            if not self._is_known:
                await self._read_log()
            is_done = await self._decide_tick(lease)
        except StaleEpochError as error:
            raise LeaseLost(str(error)) from None
        except LogMovedError:
            self._is_known = False  # a command has added an entry, or an older database was restored
            return False
        except (PostgresAwayError, RefusedRowsError, MissingRowError) as error:
            self._is_known, self._gap_reason = False, GapReason.DATABASE_AWAY
            self._degrade(f"PostgreSQL can't be used: {error}"[:160], type(error).__name__)
            return False
        if is_done:
            self._degrade("")
        return is_done

    async def _read_log(self) -> None:
        """Read where the log ends, and go on from there, as if this process had decided all of it."""
        self._restore(await self._writer.read_state())
        voters = self._settings_now().rules.weights
        self._common = CommonVotes(voters)
        self._common.add(list_opinions(await self._stored.read_decided(KEPT), voters))
        self._is_known, self._is_published = True, False

    def _restore(self, state: StoredState) -> None:
        restored = {
            symbol: restore_state(row, state.decided.get(symbol)) for symbol, row in state.last.items()
        }
        self._states = SignalStates(tuple(restored), restored)
        self._last_tick, self._last_at_ms = state.last_tick, state.last_at_ms
        self._newest_at_ms = state.newest_at_ms

    async def _decide_tick(self, lease: Lease) -> bool:
        self._late_votes |= await self._voters.prepare(read_now_ms())
        await self._sessions.prepare({each.session or "" for each in self._reader.symbols.values()})
        async with self._reader.lock:
            began = time.monotonic()
            self._reader.follow()
            market, symbols, settings = self._reader.market, self._reader.symbols, self._settings_now()
            if not self._reader.is_complete or not symbols:
                self._gap_reason = self._gap_reason or GapReason.BARS_UNREAD
                if not symbols:
                    self._degrade("bars has no symbols", "no_symbols")
                return False
            if not self._sessions.is_prepared({each.session or "" for each in symbols.values()}):
                return False  # a reseed named another one just now
            now_ms, rules, revision = read_now_ms(), make_rules(settings), self._me.revision
            await self._write_gap(now_ms, settings.settings.cycle_sec)
            if self._common.voters != tuple(sorted(rules.consensus.weights)):
                self._common = CommonVotes(rules.consensus.weights)
            if self._states.symbols != market.symbols:
                self._states = SignalStates(market.symbols, self._states.by_symbol)
            market.advance(now_ms)
            self._sessions.begin_at_splits(market, symbols)
            closed = self._sessions.find_closed(market, symbols, now_ms)
            again = self._late_votes | frozenset(market.moved)
            plan = plan_tick(market, self._states, rules.thrift, closed, now_ms, again=again)
            asked = await self._voters.ask(market, plan, now_ms, began + settings.settings.wait_sec)
            by_rules, errors = vote_by_rules(market, plan, rules)
            votes = {**by_rules, **asked}
            decision = decide_tick(
                self._last_tick + 1,
                now_ms,
                market,
                plan,
                rules,
                votes=votes,
                states=self._states,
                correlations=self._common.correlate(),
            )
            decision = date_tick(decision, self._newest_at_ms)
            self._degrade_clock(decision.at_ms - now_ms)
            self._metrics.decided_seconds.observe(time.monotonic() - began)
            await self._commit(decision, settings, revision, encode_rules(rules))
            market.settle(plan.due)
            self._late_votes = frozenset()
            for follow in self._on_tick:
                follow(decision, market, plan, votes)
        took_sec = time.monotonic() - began
        self._metrics.count_tick(decision.tick, decision.counts, len(plan.due), took_sec)
        self._degrade_slow(describe_slow(took_sec, settings.settings.cycle_sec))
        self._log_errors({**errors, **decision.errors})
        await self._publish(lease, decision)
        return True

    async def _commit(
        self, decision: TickDecision, settings: SignalsSettings, revision: int | None, rules: bytes
    ) -> None:
        """Store a tick, and keep what changed with it. It may be stored even if this raises."""
        entry = make_tick(
            self._writer.size,
            decision.tick,
            decision.at_ms,
            decision.places,
            code=__version__,
            truth="unknown" if revision is None else str(revision),
            consensus=settings.settings.consensus,
            rules=rules,
        )
        await self._writer.write_tick(
            TickToWrite(decision.tick, decision.at_ms, entry, decision.places.symbols, decision.rows, rules)
        )
        self._states.update(decision.states)
        self._common.add(decision.opinions)
        self._last_tick, self._last_at_ms = decision.tick, decision.at_ms
        self._newest_at_ms, self._decided_at = decision.at_ms, time.monotonic()
        self._gap_reason = None

    async def _write_gap(self, now_ms: int, cycle_sec: float) -> None:
        """Write down which ticks were not decided since the last one, if any were."""
        if not self._last_tick:
            return
        reason = self._gap_reason or GapReason.SLOW
        passed_ms = now_ms - self._last_at_ms
        if self._decided_at is not None:  # the wall clock may have been set back since
            passed_ms = max(passed_ms, round(1000 * (time.monotonic() - self._decided_at)))
        missed = count_missed(passed_ms, round(1000 * cycle_sec))
        if missed >= (1 if reason is GapReason.DATABASE_AWAY else LOST_CYCLES):
            last = self._last_tick + missed
            at_ms = max(now_ms, self._newest_at_ms)
            await self._writer.write_gap(self._last_tick + 1, last, at_ms, str(reason))
            self._me.log.warning("ticks.missed", first=self._last_tick + 1, last=last, reason=str(reason))
            self._metrics.gaps_total[reason] += 1
            self._metrics.leaves_total += 1
            self._last_tick, self._last_at_ms, self._newest_at_ms = last, at_ms, at_ms
            self._decided_at = time.monotonic()
        self._gap_reason = None

    async def _publish(self, lease: Lease, decision: TickDecision) -> None:
        """Publish the places of a tick, and before them what was stored and is not published yet."""
        with self._publishing:
            symbols = self._reader.symbols
            try:
                if not self._is_published or self._publisher.has_moved():
                    log = await self._stored.read_first_hash()
                    first, _ = await self._publisher.begin(lease.epoch, decision.tick - 1, log)
                    rows = self._stored.read_rows(first, decision.tick + 1)
                    self._metrics.published_total += await self._publisher.publish_stored(
                        lease.epoch, rows, symbols
                    )
                else:
                    await self._publisher.publish(lease.epoch, decision.rows, symbols)
                    self._metrics.published_total += len(decision.rows)
                self._is_published = True
            except BaseException:
                self._is_published = False
                raise

    def _degrade(self, why: str, kind: str = "") -> None:
        """Have the beats say why no tick is decided; log each kind of reason once."""
        if kind != self._problem:
            self._problem = kind
            if why:
                self._me.log.error("ticks.stopped", why=why)
            else:
                self._me.log.info("ticks.resumed")
        self._me.set_degraded(f"no tick is decided: {why}" if why else None, part=PART)

    def _degrade_slow(self, problem: str | None) -> None:
        """Have the beats say that the last tick took too long; log when that begins and when it ends."""
        if (problem is None) is not (self._slow is None):
            if problem is None:
                self._me.log.info("ticks.in_time")
            else:
                self._me.log.warning("ticks.slow", why=problem)
        self._slow = problem
        self._me.set_degraded(problem, part="cycle")

    def _degrade_clock(self, behind_ms: int) -> None:
        """Have the beats say that this machine's clock is behind the log; log when that begins and ends."""
        is_behind = behind_ms >= BEHIND_MS
        if is_behind is not self._is_behind:
            self._is_behind = is_behind
            if is_behind:
                self._me.log.warning("clock.behind_log", sec=behind_ms // 1000)
            else:
                self._me.log.info("clock.caught_up")
        behind = f"the clock is {behind_ms // 1000} s behind the last entry of the log"
        self._me.set_degraded(behind if is_behind else None, part="clock")

    def _degrade_log(self, problem: str | None) -> None:
        self._me.set_degraded(f"places are not published: {problem}" if problem else None, part="places")

    def _log_errors(self, errors: dict[str, str]) -> None:
        """Count errors of voters and places, and log each kind once."""
        for voter, error in errors.items():
            self._metrics.voter_errors_total[voter or "places"] += 1
            if (voter, error) not in self._logged:
                self._logged.add((voter, error))
                self._me.log.error("voter.failed", voter=voter or "places", error=error)


def read_now_ms() -> int:
    """Return the wall time in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def make_rules(settings: SignalsSettings) -> TickRules:
    """Return by which rules the settings have a tick decided."""
    voters = (each for each in settings.endpoints if isinstance(each, BarsVoterEntry))
    return TickRules(
        settings.rules,
        tuple(BarVoter(each.voter, each.rule, each.source) for each in voters),
        ThriftRules(settings.settings.timeframe, settings.settings.skip_move),
    )


def describe_slow(took_sec: float, cycle_sec: float) -> str | None:
    """Return what the beats say of a tick that took longer than a cycle, so that the next one began late."""
    if took_sec <= cycle_sec:
        return None
    return f"a tick took {took_sec:.1f} s, and ticks are due every {cycle_sec:g} s"


def date_tick(decision: TickDecision, newest_at_ms: int) -> TickDecision:
    """Return a tick that says no time before that of the entry before it, whose clock may have been ahead.

    Whoever checks the log takes a time that goes back for a rewritten past.
    """
    if decision.at_ms >= newest_at_ms:
        return decision
    rows = tuple(row._replace(at=newest_at_ms) for row in decision.rows)
    return replace(decision, at_ms=newest_at_ms, rows=rows)


def count_missed(passed_ms: int, cycle_ms: int) -> int:
    """Return how many ticks would have been since the last one; 0 if the clock was set back."""
    return max(0, passed_ms // cycle_ms - 1)
