"""Take a source whose answers are of no use out of service for a while, so that the next one serves."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import parse_epoch, parse_object, read_fields, report_unusable
from marketswarm.keys import MARKET_SERIES, source_breaker_key
from marketswarm.operator.remedies import SOURCES, find_sources_bus
from marketswarm.pages import split_pages
from marketswarm.text import format_duration
from services.medic.facts import FleetFacts, RemedyEvidence
from services.medic.remedies.leased_write import LeasedWriter
from services.medic.remedies.remedy import OrderResult, RemedyContext, RemedyOrder, TracedRemedy
from services.medic.source_rejects import SourcePause, SourceReadings, read_rejects

MAX_SERIES: Final = 20_000
"""The most series that may be on record; with more, no source is paused."""
_MAX_STATE_BYTES: Final = 64 * 1024
_PAUSE: Final = Script.beside("services.medic.remedies", "pause_source.lua")
_WELL: Final = frozenset({"fresh", "closed"})


@dataclass(frozen=True, slots=True)
class KnownSeries:
    """What is known of a series: which sources may serve it, which one does, and whether it is fresh.

    `paused_at` is by source when a load last passed it over since it was paused, in epoch seconds.
    """

    sources: Sequence[str]
    serving: str
    is_well: bool
    paused_at: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class PauseSource(TracedRemedy):
    """Pause the worst source that is not the only one of a series; its series served by others verify it.

    The identity is the name of the source. The pause ends by itself, and one of an operator's is never
    changed.
    """

    def describe(self, identity: str) -> str:
        return f"source {identity}"

    async def read_evidence(
        self, services: Collection[str], _facts: FleetFacts, context: RemedyContext, _now: float
    ) -> Mapping[str, RemedyEvidence]:
        known = {svc: RemedyEvidence() for svc in services if svc != SOURCES}
        if SOURCES in services:
            found = await self._look(SOURCES, context)
            known |= {} if found is None else {SOURCES: found}
        return known

    async def _look(self, svc: str, context: RemedyContext) -> RemedyEvidence | None:
        above = context.settings.reject_limit
        readings = await read_rejects(context.truth, context.get_bus)
        if svc != SOURCES or above is None or readings is None:
            return RemedyEvidence()
        series = await read_series(context.get_bus(find_sources_bus(context.truth) or ""))
        if series is None:
            return None
        name = choose_source(readings, series, above)
        results = {each: find_result(each, pause, series) for each, pause in readings.pauses.items()}
        return RemedyEvidence(
            identity=name or "",
            results={each: found for each, found in results.items() if readings.pauses[each].is_medics},
        )

    async def apply(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        """Pause the source, if it still is the one to pause."""
        evidence = await self._look(order.svc, context)
        if evidence is None or evidence.identity != order.identity:
            return OrderResult.CHANGED, f"{order.identity} is not the source to pause any more"
        bus = context.get_bus(find_sources_bus(context.truth) or "")
        writer = await LeasedWriter.begin(bus, context.until)
        pause_ms = str(round(1000 * context.settings.pause_sec))
        is_paused = await writer.run(_PAUSE, [source_breaker_key(order.identity)], pause_ms)
        if not is_paused:
            return OrderResult.CHANGED, f"{order.identity} is paused already"
        return OrderResult.DONE, f"{order.identity} paused for {format_duration(context.settings.pause_sec)}"


def choose_source(readings: SourceReadings, series: Iterable[KnownSeries], above: float) -> str | None:
    """Return the worst source in service whose series all have another one that can serve; None without one.

    One that is paused, fails, or is as bad itself can't. Pure.
    """
    bad = readings.list_bad(above)
    useless = {*bad, *readings.down, *readings.pauses}
    known = list(series)
    for name in bad:
        named = [each.sources for each in known if name in each.sources]
        if named and all(set(sources) - useless for sources in named):
            return name
    return None


def find_result(name: str, pause: SourcePause, series: Iterable[KnownSeries]) -> bool | None:
    """Return True if the series of a paused source that were loaded since are served well by others. Pure."""
    loaded = [each for each in series if each.paused_at.get(name, -1.0) >= pause.begun_at]
    are_well = all(each.is_well and each.serving not in ("", name) for each in loaded)
    return True if loaded and are_well else None


async def read_series(bus: Bus) -> list[KnownSeries] | None:
    """Return what is stored of the series; None if that can't be used. Raises BusError."""
    if await bus.ask(bus.client.hlen(MARKET_SERIES)) > MAX_SERIES:
        report_unusable(bus.name, MARKET_SERIES, "too many series")
        return None
    names = [raw.decode("utf-8", "replace") for raw in await bus.ask(bus.client.hkeys(MARKET_SERIES))]
    found = list[KnownSeries]()
    for page in split_pages(names, 500):
        (stored,) = await read_fields(bus, [MARKET_SERIES], page, _MAX_STATE_BYTES)
        found += [parse_series(parse_object(raw)) for raw in stored.values()]
    return found


def parse_series(state: Mapping[str, Any]) -> KnownSeries:
    """Return what a stored state of a series says; a series without sources if it can't be used. Pure."""
    sources, attempts, serving = state.get("from"), state.get("attempts"), state.get("serving")
    named = sources if isinstance(sources, list) else []
    asked = attempts if isinstance(attempts, dict) else {}
    paused_at = {
        name: at
        for name, each in asked.items()
        if isinstance(each, dict) and each.get("verdict") == "paused"
        if (at := parse_epoch(each.get("at"))) is not None
    }
    return KnownSeries(
        [each for each in named if isinstance(each, str)],
        serving if isinstance(serving, str) else "",
        state.get("status") in _WELL if isinstance(state.get("status"), str) else False,
        paused_at,
    )
