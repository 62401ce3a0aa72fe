"""Read how the board and what it shows are: health, performance and resources."""

import asyncio
import re
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from marketswarm.bus import BusError
from marketswarm.operator.remedies import ARCHIVE
from marketswarm.operator.service_reports import (
    BackupReport,
    DatabaseReport,
    read_backup_report,
    read_database_report,
)
from marketswarm.truth import SYSTEM
from marketswarm.web.cache import Cached
from services.board.fleet.fleet_board import FleetBoard
from services.board.market.archive_reader import DatabaseAwayError
from services.board.market.market import Market
from services.board.operations.health import (
    HealthAnswer,
    HealthPart,
    PartStatus,
    judge_backup,
    judge_bar,
    judge_buses,
    judge_gate,
    judge_series,
    make_health,
)
from services.board.operations.signal_health import SignalTimes, judge_no_signals, judge_signals
from services.board.signals.signals import SignalBoard
from services.tables.signal_witness import WitnessReport
from services.tables.signals import SIGNALS, LogEnd, LogState

REPORT_SEC: Final = 2.0
"""How long reports of archive and the end of signals' log are kept in memory: all may ask for the health."""
_CYCLE: Final = re.compile(r"(\d{1,9}) ms\b")
_SKIPPED: Final = re.compile(r"(\d{1,3}(?:\.\d)?)% skipped")
_MEMORY: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = resource.getpagesize()

Reports = tuple[BackupReport | None, DatabaseReport | None]
ReadLog = tuple[LogState, LogEnd, WitnessReport | None]


@dataclass(frozen=True, slots=True)
class WholeHealth(HealthAnswer):
    """The health with what the board does and takes."""

    performance: Mapping[str, Any]
    resources: Mapping[str, Any]


class HealthOverview:
    """Reads the health of one board, which began when this was made."""

    def __init__(self, fleet: FleetBoard, market: Market, signals: SignalBoard) -> None:
        self._fleet, self._market, self._signals = fleet, market, signals
        self._begun_at = time.monotonic()
        self._reports = Cached[str, Reports](REPORT_SEC)
        self._logs = Cached[str, ReadLog](REPORT_SEC)

    async def read(self) -> HealthAnswer:
        now = time.time()
        parts = {**self._judge_buses(), "market": (market := self._judge_market())}
        for name in parts.keys() - {"market"}:  # the fleet reader asks only the buses that it needs
            if (market.why or "").startswith(f"bus {name} does not"):
                parts[name] = market
        parts["postgresql"] = self._judge_database()
        states = self._market.states
        parts["gate"] = judge_gate(states.gate, now)
        parts["oldest_series"] = judge_series(states.series, now)
        bars = self._market.live.list_newest("1m")
        parts["newest_bar"] = judge_bar(max(bars, key=lambda bar: bar.start, default=None), now)
        parts["backup"] = await self._judge_backup(now)
        parts |= await self._judge_signals(now)
        return make_health(parts, time.monotonic() - self._begun_at)

    async def read_whole(self) -> WholeHealth:
        found = await self.read()
        performance = {
            "reading_sec": round(self._fleet.reader.took_sec, 3),
            "charts": count_hits(self._market),
            "sources": await self._list_sources(),
            "signals": self._read_signals(),
        }
        return WholeHealth(found.status, found.uptime_sec, found.parts, performance, self._measure())

    async def read_reports(self) -> Reports:
        """Return what archive says of its backups and of its database. Raises BusError."""

        async def read() -> Reports:
            bus = self._fleet.me.bus(SYSTEM)
            return await asyncio.gather(read_backup_report(bus), read_database_report(bus, time.time()))

        return await self._reports.find("", read)

    def _judge_buses(self) -> dict[str, HealthPart]:
        reader, snapshot = self._fleet.reader, self._fleet.reader.snapshot
        if snapshot is None:
            return {"fleet": HealthPart(PartStatus.DOWN, why="the fleet was not read yet")}
        age_sec = reader.age_sec(time.monotonic())
        return judge_buses(snapshot.buses, age_sec, is_current=self._fleet.is_current())

    def _judge_market(self) -> HealthPart:
        feed = self._market.feed
        if not feed.has_market:
            return HealthPart(PartStatus.OFF, why="no service of the truth publishes a market")
        read_at = feed.states.read_at
        age_sec = None if read_at is None else round(max(0.0, time.time() - read_at), 3)
        return HealthPart(PartStatus.DOWN if feed.problem else PartStatus.OK, age_sec, feed.problem)

    def _judge_database(self) -> HealthPart:
        archive = self._market.archive
        if not archive.is_configured:
            return HealthPart(PartStatus.OFF, why="DATABASE_URL is not set")
        age_sec, why = archive.find_answer_age_sec(), archive.problem
        age_sec = None if age_sec is None else round(age_sec, 3)
        return HealthPart(PartStatus.DOWN if why else PartStatus.OK, age_sec, why)

    async def _judge_backup(self, now: float) -> HealthPart:
        if ARCHIVE not in self._fleet.truth.services:
            return HealthPart(PartStatus.OFF, why="the truth has no archive")
        try:
            report, _ = await self.read_reports()
        except BusError as error:  # the bus is a part of its own
            return HealthPart(PartStatus.OFF, why=f"bus {error.bus} does not say it: {error.reason}")
        return judge_backup(report, now)

    async def _judge_signals(self, now: float) -> dict[str, HealthPart]:
        section = self._fleet.truth.services.get(SIGNALS)
        if section is None:
            return judge_no_signals("the truth has no signals")
        try:
            state, end, witness = await self._logs.find("", self._read_log)
        except DatabaseAwayError as error:  # the database is a part of its own
            return judge_no_signals(f"PostgreSQL does not say it: {error}")
        return judge_signals(state, end, SignalTimes.read(section.settings), now, witness)

    async def _read_log(self) -> ReadLog:
        async with self._market.archive.limit_answer():
            reader = self._signals.reader
            state, end = await reader.read_log_state(), await reader.read_log_end()
        return state, end, await self._signals.find_witness()

    async def _list_sources(self) -> dict[str, Any]:
        """Return which breakers are open, which sources are paused, and what is left of each limit."""
        now, sources = time.time(), self._market.states.sources
        breakers = [(one.name, one.breaker) for one in sources if one.breaker is not None]
        accounts, away = await self._market.find_limits()
        return {
            "open": [name for name, each in breakers if each.until is not None and each.until > now],
            "paused": [name for name, each in breakers if each.is_paused(now)],
            "limits": {name: some for name, some in accounts.items() if some},
            "away": away,
        }

    def _read_signals(self) -> dict[str, Any] | None:
        """Return what signals says in its beats of its last cycle; None if the truth has no signals."""
        snapshot = self._fleet.reader.snapshot
        found = None if snapshot is None else snapshot.find(SIGNALS)
        if found is None:
            return None
        says = found.detail or ""
        cycle, skipped = _CYCLE.search(says), _SKIPPED.search(says)
        return {
            "state": found.state,
            "says": found.detail,
            "cycle_ms": None if cycle is None else int(cycle[1]),
            "skipped_percent": None if skipped is None else float(skipped[1]),
        }

    def _measure(self) -> dict[str, Any]:
        """Return what the process of the board takes: bytes, seconds of the processor, connections."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "memory_bytes": int(_MEMORY.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES,
            "memory_most_bytes": used.ru_maxrss * 1024,
            "cpu_sec": round(used.ru_utime + used.ru_stime, 3),
            "connections": {
                "streams": len(self._fleet.hub),
                "followers": len(self._market.hub),
                "arrow_streams": len(self._market.streams),
                "postgresql": self._market.archive.count_connections(),
            },
        }


def count_hits(market: Market) -> dict[str, Any]:
    """Return from where charts were answered since the board began, and the share that needed no database."""
    counts = market.charts.bases.counts
    kept = {"answer": market.answers.counts.memory, "memory": counts.memory, "redis": counts.redis}
    total = sum(kept.values()) + counts.source
    rate = round((total - counts.source) / total, 4) if total else None
    return {**kept, "archive": counts.source, "hit_rate": rate}
