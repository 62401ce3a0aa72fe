"""Have sources load its series now, for clients with a token."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from marketswarm.bus import Bus, BusError
from marketswarm.operator.audit import Act, Action, AuditOutcome
from marketswarm.operator.remedies import SOURCES
from marketswarm.operator.source_refresh import (
    RefreshReport,
    SourceName,
    create_refresh,
    read_refresh_report,
    write_refresh,
)
from marketswarm.truth import Truth, suggest_name
from marketswarm.web.audit import AuditLog
from marketswarm.web.limits import RETRY_SEC, RefusedError
from marketswarm.web.tokens import Client
from services.board.actions.steering import Line, VerbBody

TAKEN_SEC: Final = 4.0
"""How long a client waits for sources to begin; its answer must begin in ten seconds."""
_POLL_SEC: Final = 0.25


class RefreshBody(VerbBody):
    """The source whose series are loaded, by default all series, and who wants it: the token's name."""

    source: SourceName | None = None
    by: Line | None = None


@dataclass(frozen=True, slots=True)
class RefreshAnswer:
    """A request to sources, and how far it is; `report` is null until it is taken."""

    id: str
    source: str | None
    report: RefreshReport | None


@dataclass(frozen=True, slots=True)
class SourceSteering:
    """Asks sources over the bus that `get_bus` returns; `get_truth` returns the truth in force."""

    get_bus: Callable[[], Bus]
    audit: AuditLog
    get_truth: Callable[[], Truth]

    async def refresh(self, client: Client, body: RefreshBody) -> RefreshAnswer:
        """Ask sources to load its series now. Raises RefusedError, also for a source that no series names."""
        self._require_source(body.source)
        request = create_refresh(body.by or client.name or "board", body.source, time.time())
        act = Act(
            Action.REFRESH_SOURCES, body.source or "*", client.token, client.address, f"by {request.by}"
        )
        async with self.audit.around(act):
            await write_refresh(self.get_bus(), request)
        report = await self._await_report(request.id)
        outcome = AuditOutcome.UNANSWERED if report is None else AuditOutcome.DONE
        await self.audit.end(act, outcome, "" if report is None else f"{report.series} series")
        return RefreshAnswer(request.id, request.source, report)

    async def read(self) -> RefreshReport | None:
        """Return how far the last refresh is; None if there was none lately. Raises RefusedError."""
        try:
            return await read_refresh_report(self.get_bus())
        except BusError as error:
            raise RefusedError(503, f"bus {error.bus} does not answer: {error.reason}", RETRY_SEC) from None

    async def _await_report(self, ident: str) -> RefreshReport | None:
        ends_at = time.monotonic() + TAKEN_SEC
        while time.monotonic() < ends_at:
            try:
                report = await read_refresh_report(self.get_bus())
            except BusError:
                return None
            if report is not None and report.request == ident:
                return report
            await asyncio.sleep(_POLL_SEC)
        return None

    def _require_source(self, source: str | None) -> None:
        section = self.get_truth().services.get(SOURCES)
        if section is None:
            raise RefusedError(404, "the truth has no service sources")
        named = {name for entry in section.endpoints for name in list_entry_sources(entry)}
        if source is not None and source not in named:
            hint = suggest_name(source, sorted(named), "they name")
            raise RefusedError(404, f"no series of the truth names {source}; {hint}")


def list_entry_sources(entry: object) -> list[str]:
    """Return the names of the sources of an endpoint of the truth, as far as they can be read."""
    found = entry.get("from") if isinstance(entry, dict) else None
    names = [found] if isinstance(found, str) else found if isinstance(found, list | tuple) else []
    return [name for name in names if isinstance(name, str)]
