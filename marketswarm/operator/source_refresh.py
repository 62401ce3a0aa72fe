"""Ask `sources` to load its series now, whatever their schedule says, and read how far it is.

A person asks, by `marketswarm source refresh` or by the board. The instance of sources that refreshes by
schedule takes each request once, and reports after each part of the work. Both keys are on system-redis and
expire, and anyone with access to the bus may have written either: each is parsed when it is read.
"""

import secrets
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from marketswarm.bus import Bus
from marketswarm.bus.stored_values import read_parsed
from marketswarm.keys import SOURCES_REFRESH, SOURCES_REFRESH_REQUEST
from marketswarm.operator.fields import STRICT, Epoch, Ident, JsonRecord, Name
from marketswarm.operator.service_reports import REQUEST_VALID_SEC, Count

SourceName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,60}$")]
KEYS: Final = (SOURCES_REFRESH, SOURCES_REFRESH_REQUEST)
"""The keys of the report and of a request."""


class RefreshState(StrEnum):
    """How a refresh is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RefreshRequest(JsonRecord):
    """A request of the person `by`, made at `ts` (epoch seconds); sources takes each `id` once.

    `source` is the source whose series are loaded, None for all series. Raises ValueError when a field is out
    of bounds.
    """

    id: Ident
    by: Name
    ts: Epoch
    source: SourceName | None = None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RefreshReport(JsonRecord):
    """How the refresh is that sources took last, as of `ts` (epoch seconds).

    `request` is its id. Of `series`, `tried` were tried so far, and of these `loaded` have an answer of a
    source; `records` are new. `why` is why it failed. Raises ValueError when a field is out of bounds.
    """

    request: Ident
    state: RefreshState
    ts: Epoch
    source: SourceName | None = None
    series: Count = 0
    tried: Count = 0
    loaded: Count = 0
    records: Count = 0
    took_sec: Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)] = 0.0
    why: Annotated[str, Field(max_length=200)] = ""


def create_refresh(by: str, source: str | None, now: float) -> RefreshRequest:
    """Return a request with a new id, made at `now`. Raises ValidationError if a part is out of bounds."""
    return RefreshRequest(id=f"refresh.{secrets.token_hex(6)}", by=by, ts=now, source=source)


async def write_refresh(bus: Bus, request: RefreshRequest) -> None:
    """Write a request in place of the one before; it expires if sources does not take it. Raises BusError."""
    await bus.ask(bus.client.set(SOURCES_REFRESH_REQUEST, request.encode(), ex=REQUEST_VALID_SEC))


async def read_refresh_report(bus: Bus) -> RefreshReport | None:
    """Return what sources says of the last refresh; None if it says nothing usable. Raises BusError."""
    return await read_parsed(bus, SOURCES_REFRESH, RefreshReport.parse)
