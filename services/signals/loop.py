"""The main loop of signals: follow the truth and the stream of bars. What leads decides ticks beside it."""

import time
from typing import Any

from marketswarm.agent import Agent, Code, Exit, agent
from marketswarm.bus.outage import Outage, retrying
from marketswarm.net.http import HttpClient
from services.signals.alerts import SignalAlerts
from services.signals.ask.metrics import AskMetrics
from services.signals.leader import SignalLeader
from services.signals.market_reader import MarketReader
from services.signals.metrics import SignalsMetrics
from services.signals.observer import SignalObserver
from services.signals.outside import OutsideVoters
from services.signals.proofs.signer import CheckpointSigner
from services.signals.proofs.signing import find_witness, make_signer
from services.signals.settings import SignalsEnvironment, SignalsSettings
from services.signals.store.checkpoints import CheckpointTables
from services.signals.store.database import SignalDatabase
from services.signals.store.windows import WindowTables
from services.signals.store.wordings import WordingTable
from services.signals.store.writer import SignalWriter
from services.signals.wording import SignalWording


async def main() -> int:
    """Run signals until it is asked to stop; return its exit code."""
    async with HttpClient("signals") as http, agent("signals", SignalsEnvironment) as me:
        database = SignalDatabase(require_url(me.settings), me.settings.database_slow_ms)
        settings_now, metrics, asked = me.config(SignalsSettings), SignalsMetrics(), AskMetrics()
        observer = SignalObserver(
            me,
            settings_now,
            metrics,
            start_alerts(me),
            lambda: find_witness(settings_now(), me.settings) is not None,
        )
        keys = me.settings.origin_keys
        wording = SignalWording(me, settings_now, keys, asked, store=WordingTable(database))
        for each in (metrics, asked, observer, wording):
            me.expose(each.collect)
        stored = CheckpointTables(database)
        signer = make_signer(me, settings_now, stored, http, observer.note_signing)
        reader = MarketReader(me, settings_now, metrics, WindowTables(database))
        voters = OutsideVoters(me, settings_now, keys, asked)
        leader = SignalLeader(
            me,
            settings_now,
            reader,
            voters,
            metrics,
            writer=SignalWriter(database),
            stored=stored,
            beside=signer.run,
            on_tick=(observer.follow_tick, wording.follow_tick),
        )
        me.task(decide_ticks(leader, voters, database), name="leader")
        me.task(observer.run(), name="observer")
        me.task(wording.run(), name="wording")
        outage = Outage(me.log, "bars.unread", "bars.read", degrade=me.set_degraded)
        async for attempt in retrying(outage, me.rest):
            with attempt:
                await reader.read_next()
            metrics.symbols = len(reader.symbols)
            if outage.error is None:
                me.set_degraded(reader.problem)
            me.set_detail(describe(metrics, signer))
            me.progress()
    return me.exit_code


def start_alerts(me: Agent[Any]) -> SignalAlerts:
    """Run the alerts beside the loop: while they can't be sent, the beats are degraded."""

    def degrade(problem: str | None) -> None:
        me.set_degraded(problem and f"events not sent: {problem}", part="events")

    return SignalAlerts.start(me, degrade)


def describe(metrics: SignalsMetrics, signer: CheckpointSigner) -> str:
    """Return the detail of a beat: what is decided, and of a leader what is wrong with its checkpoints."""
    problem = signer.status.describe(time.time()) if metrics.leading else None
    return "; ".join(filter(None, (metrics.summary(), problem)))


async def decide_ticks(leader: SignalLeader, voters: OutsideVoters, database: SignalDatabase) -> None:
    """Lead, or stand by, until cancelled; then close the connections to voters and to the database."""
    try:
        async with voters:
            await leader.run()
    finally:
        await database.aclose()


def require_url(settings: SignalsEnvironment) -> str:
    """Return the URL of the database. Raises Exit, code 2, if none is set."""
    if settings.signals_database_url is None:
        raise Exit(
            Code.CONFIGURATION,
            "SIGNALS_DATABASE_URL is not set: the database of archive, for the role marketswarm_signals "
            "(`marketswarm up` sets it for a PostgreSQL that it runs)",
        )
    return settings.signals_database_url
