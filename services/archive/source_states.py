"""Keep the state of each source, and when it changed: from the hash `market:sources`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from marketswarm.postgres.transaction import transaction
from services.market.fields import EntryError
from services.tables.rows import parse_object

MAX_SOURCES: Final = 1000
MAX_STATE_BYTES: Final = 64 * 1024
_UNKNOWN: Final = "unknown"

_WRITE_SOURCE: Final = """
INSERT INTO sources AS old (source, state, updated) VALUES ($1, $2, $3)
ON CONFLICT (source) DO UPDATE SET state = excluded.state, updated = excluded.updated
WHERE old.state <> excluded.state AND old.updated <= excluded.updated
"""
# a change is a row; the same state again adds no row
_WRITE_HEALTH: Final = """
INSERT INTO source_health (source, at, state, reason)
SELECT $1::text, $2::timestamptz, $3::text, $4::text
WHERE NOT EXISTS (
    SELECT FROM (
        SELECT state, reason FROM source_health WHERE source = $1::text ORDER BY at DESC LIMIT 1
    ) last WHERE state = $3::text AND reason = $4::text
)
ON CONFLICT (source, at) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class SourceState:
    """Hold the state of one source as its service wrote it; `document` is JSON."""

    source: str
    document: str
    state: str
    reason: str


def parse_source_states(fields: Mapping[bytes, bytes]) -> tuple[list[SourceState], int]:
    """Return the states in the hash, and how many are left out: invalid ones, and those after MAX_SOURCES."""
    parsed = (_parse_state(name, raw) for name, raw in sorted(fields.items())[:MAX_SOURCES])
    found = [state for state in parsed if state is not None]
    return found, len(fields) - len(found)


def _parse_state(name: bytes, raw: bytes) -> SourceState | None:
    """Return None if the state is invalid, too long, or has text that PostgreSQL can't hold."""
    source = name[:128].decode("utf-8", "replace").replace("\0", "")
    try:
        document, written = parse_object("state", raw, MAX_STATE_BYTES)
    except EntryError:
        return None
    if not source:
        return None
    state, reason = document.get("state"), document.get("reason")
    return SourceState(
        source,
        written,
        state[:64] if isinstance(state, str) and state else _UNKNOWN,
        reason[:500] if isinstance(reason, str) else "",
    )


async def write_source_states(connection: Any, states: list[SourceState], now: float) -> None:
    at = datetime.fromtimestamp(now, UTC)
    async with transaction(connection):
        for each in states:
            await connection.execute(_WRITE_SOURCE, each.source, each.document, at)
            await connection.execute(_WRITE_HEALTH, each.source, at, each.state, each.reason)
