"""Observe the ticks of the process that leads: its alerts, its witness, a revision in the shadow.

    observer = SignalObserver(me, settings_now, metrics, SignalAlerts.start(me), has_witness)
    leader = SignalLeader(..., on_tick=(observer.follow_tick,))  # each tick that is committed
    signer = make_signer(..., report=observer.note_signing)      # each attempt to sign and have cosigned
    me.task(observer.run(), name="observer")

Nothing here decides or writes a tick, and no error of it ends one.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from marketswarm.agent import Agent
from marketswarm.bus.outage import Outage
from marketswarm.keys import SIGNALS_SHADOW, SIGNALS_WITNESS
from marketswarm.metrics import Family, MetricTable
from services.signals.alerts import (
    QuorumClock,
    SignalAlerts,
    evaluate_checks,
    find_cosigned_until,
    read_health,
)
from services.signals.cycle.decide import GivenVotes, TickDecision
from services.signals.cycle.market import MarketBars
from services.signals.cycle.states import TickPlan
from services.signals.log.entries import PlaceOutcome
from services.signals.metrics import SignalsMetrics
from services.signals.proofs.signer import SignerStatus
from services.signals.proofs.witness_client import REFUSALS
from services.signals.settings import SignalsSettings, find_log
from services.signals.shadow import ShadowRun, make_shadow
from services.tables.signal_witness import WitnessReport

REPORT_SEC: Final = 5.0
"""How often the checks are evaluated, and the reports of the shadow and of the witness are written."""
REPORT_LIFE_SEC: Final = 60
"""After so long without a leader the reports are gone."""
_HELP: Final = {
    "checkpoint_age_seconds": "How long ago the newest checkpoint was signed.",
    "cosignature_age_seconds": "How long ago a witness has cosigned.",
}
_METRICS: Final = MetricTable("marketswarm_signals_", _HELP)


class SignalObserver:
    """Follow what the leader does, and say what comes of it.

    Args:
        has_witness: returns whether a witness is named, by the truth in force or the environment.
        now: the wall clock, in epoch seconds.

    Attributes:
        quorum: since when no symbol has had a quorum, in this term.
        shadow: the revision that is played beside the one in force; None without one.
        status: how signing and cosigning are; None before the first attempt.
    """

    def __init__(
        self,
        me: Agent[Any],
        settings_now: Callable[[], SignalsSettings],
        metrics: SignalsMetrics,
        alerts: SignalAlerts,
        has_witness: Callable[[], bool],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._me, self._settings_now, self._metrics = me, settings_now, metrics
        self._alerts, self._has_witness, self._now = alerts, has_witness, now
        self._is_leading = False
        self._outage = Outage(me.log, "reports.unwritten", "reports.written")
        self.quorum = QuorumClock()
        self.shadow: ShadowRun | None = None
        self.status: SignerStatus | None = None

    def follow_tick(
        self, decision: TickDecision, market: MarketBars, plan: TickPlan, votes: GivenVotes
    ) -> None:
        """Note a tick that is committed, and decide it in the shadow, which an error of its own ends."""
        at, self._metrics.tick_timestamp_seconds = decision.at_ms / 1000, self._now()
        if decision.counts.get(PlaceOutcome.CLOSED, 0) == len(decision.places.symbols):
            self.quorum.end()
        else:
            self.quorum.note_tick(at, decision.with_quorum, decision.without_quorum)
        rules = make_shadow(self._settings_now())
        if rules != (None if self.shadow is None else self.shadow.rules):
            self.shadow = None if rules is None else ShadowRun(rules, decision.at_ms)
        if self.shadow is not None and not self.shadow.has_failed:
            try:
                self.shadow.follow(decision, market, plan, votes)
            except Exception as error:  # it is no part of the tick
                self.shadow.has_failed = True
                self._me.log.exception("shadow.failed", error=type(error).__name__)

    def note_signing(self, status: SignerStatus) -> None:
        """Note how signing and cosigning are."""
        self.status = status

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self.report()
            await asyncio.sleep(REPORT_SEC)

    async def report(self) -> None:
        """Evaluate the checks and write the reports on the bus, if this process leads."""
        has_witness, is_leading = self._has_witness(), bool(self._metrics.leading)
        settings = self._settings_now().settings
        self._metrics.cycle_interval_seconds = settings.cycle_sec
        self._metrics.checkpoint_interval_seconds = settings.checkpoint_sec
        self._alerts.follow(has_witness=has_witness)
        if is_leading is not self._is_leading:
            self._is_leading = is_leading
            self._begin_term()
        if not is_leading:
            return
        now = self._now()
        self._metrics.quorum_missing_seconds = self.quorum.missing_sec(now)
        status = self.status if has_witness else None
        self._metrics.cosignature_missing_seconds = (
            None if status is None else max(0.0, now - find_cosigned_until(status))
        )
        health = read_health(status, self.quorum, now, settings.checkpoint_sec)
        self._alerts.report(evaluate_checks(health, now), now)
        reports = {SIGNALS_WITNESS: describe_witness(has_witness=has_witness, status=status)}
        if self.shadow is not None and not self.shadow.has_failed:
            reports[SIGNALS_SHADOW] = self.shadow.report(round(1000 * now)).encode()
        await self._write_reports(reports)

    def _begin_term(self) -> None:
        """Forget what was known of an earlier term: another process may have led since."""
        self.quorum, self.shadow, self.status = QuorumClock(), None, None
        self._metrics.quorum_missing_seconds, self._metrics.cosignature_missing_seconds = 0.0, None
        self._alerts.begin_term()

    async def _write_reports(self, reports: Mapping[str, bytes]) -> None:
        with self._outage:
            bus = self._me.bus(find_log(self._me.section).bus)
            for key, report in reports.items():
                await bus.ask(bus.client.set(key, report, ex=REPORT_LIFE_SEC))

    def collect(self) -> Iterator[Family]:
        """Yield the ages of the log's end for Prometheus: none of what there is not."""
        status, now = self.status, self._now()
        signed = 0.0 if status is None else status.signed_at
        cosigned = 0.0 if status is None else status.cosigned_at
        return _METRICS.collect(
            checkpoint_age_seconds=max(0.0, now - signed) if signed else None,
            cosignature_age_seconds=max(0.0, now - cosigned) if cosigned else None,
        )


def describe_witness(*, has_witness: bool, status: SignerStatus | None) -> bytes:
    """Return what the bus is to say of the witness; `status` is None before the first attempt."""
    reason = None if status is None else status.reason
    word = None if reason is None else str(reason)
    return WitnessReport(named=has_witness, reason=word, refused=reason in REFUSALS).encode()
