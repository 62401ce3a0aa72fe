"""Who was told of what: the records that the notifier and the sentinel leave for each other on the buses."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from marketswarm.attention import told_key
from marketswarm.bus import Bus, BusError
from marketswarm.event import Event

WITHIN_SEC: Final = 0.5
_SENTINELS: Final = ("healer", "bus")
"""What the sentinel tells when nobody else does."""


def may_be_told_by_others(event: Event) -> bool:
    """Whether the sentinel looks after an event, too."""
    return event.type.partition("_")[0] in _SENTINELS


def record(now: float, channels: Iterable[str], by: str, held: str | None = None) -> bytes:
    """That people were reached at `now` (epoch seconds), over these channels; or why they are not to be."""
    found: dict[str, Any] = {"ts": round(now, 3), "channels": list(channels), "by": by}
    return orjson.dumps(found if held is None else found | {"held": held})


async def reached(buses: Sequence[Bus], idents: Sequence[str]) -> set[str]:
    """Of some events, those that a bus knows people were told of; one that does not answer knows none."""
    if not idents:
        return set()
    answers = await asyncio.gather(*(_ask(bus, idents) for bus in buses))
    return {ident for values in answers for ident, raw in zip(idents, values, strict=False) if _is_told(raw)}


async def _ask(bus: Bus, idents: Sequence[str]) -> list[bytes | None]:
    try:
        found: list[bytes | None] = await bus.ask(bus.client.mget(map(told_key, idents)), WITHIN_SEC)
    except BusError:
        return []
    return found


def _is_told(raw: bytes | None) -> bool:
    try:
        found = orjson.loads(raw or b"null")
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and bool(found.get("channels"))
