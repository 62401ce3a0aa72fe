"""Read signals from the database, each with the cosignature that covers it. Only SELECT."""

from collections.abc import Sequence

import orjson
from pydantic import ValidationError

from services.board.market.archive_reader import ArchiveReader
from services.board.signals.views import SignalView, TickOrigin, WholeSignal, make_view
from services.tables.rows import Cells
from services.tables.signal_rules import SELECT_RULES, StoredRules, parse_stored_rules
from services.tables.signal_wordings import SELECT_WORDING, Wording
from services.tables.signals import (
    FIRST_COSIGNATURES,
    LOG_END,
    LOG_ENTRY,
    LOG_STATE,
    SIGNAL_BY_ID,
    FoundSignal,
    LogEnd,
    LogState,
    SignalQuery,
    Witnessed,
    select_signals,
)


class SignalReader:
    """Reads signals by the connections of the archive; every method raises DatabaseAwayError."""

    def __init__(self, archive: ArchiveReader) -> None:
        self._archive = archive

    async def read_page(self, query: SignalQuery, as_of_ms: int | None = None) -> list[SignalView]:
        """Return a page of signals, the oldest first, with the cosignatures that were there at an instant."""
        sql, values = select_signals(query)
        async with self._archive.limit_answer():
            found = await self._archive.fetch(sql, *values)
            return await self._add_witnesses(found[::-1], as_of_ms)

    async def read_signal(self, ident: str) -> WholeSignal | None:
        """Return a signal by its id, with its tick and its wording; None if there is none."""
        async with self._archive.limit_answer():
            views = await self._add_witnesses(await self._archive.fetch(SIGNAL_BY_ID, ident), None)
            if not views:
                return None
            found = views[0].found
            entries = await self._archive.fetch(LOG_ENTRY, found.n)
            made_by = _parse_origin(entries)
            rules = await self._read_rules(made_by.rules)
            worded = await self._archive.fetch(SELECT_WORDING, found.tick, found.symbol)
        wording = Wording(*worded[0]).escape() if worded else None
        return WholeSignal(views[0], made_by, wording, rules)

    async def _read_rules(self, digest: str | None) -> StoredRules | None:
        if digest is None:
            return None
        rows = await self._archive.fetch(SELECT_RULES, digest)
        return parse_stored_rules(rows[0][0] if rows else None, digest)

    async def read_log_state(self) -> LogState:
        return LogState(*(await self._archive.fetch(LOG_STATE))[0])

    async def read_log_end(self) -> LogEnd:
        return LogEnd(*(await self._archive.fetch(LOG_END))[0])

    async def _add_witnesses(self, rows: Sequence[Cells], as_of_ms: int | None) -> list[SignalView]:
        found = [FoundSignal(*row) for row in rows]
        numbers = sorted({one.n for one in found})
        rows = await self._archive.fetch(FIRST_COSIGNATURES, numbers, as_of_ms) if numbers else []
        witnessed = {each.n: each for each in (Witnessed(*row) for row in rows)}
        return [make_view(one, witnessed.get(one.n)) for one in found]


def _parse_origin(rows: Sequence[Cells]) -> TickOrigin:
    """Return what the entry of a tick says of itself; nothing of one that can't be read."""
    try:
        return TickOrigin.model_validate(orjson.loads(rows[0][0])) if rows else TickOrigin()
    except (orjson.JSONDecodeError, ValidationError):
        return TickOrigin()
