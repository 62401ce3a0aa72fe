"""Define how a process is asked to carry out a remedy itself, and what it says of that.

It opens its connections to PostgreSQL again, or loads its series (`REQUEST_KEYS`).

The medic writes a `ServiceRequest` on system-redis, which expires; it is for one process. That process
answers by a `RequestReport`, in place of the one before. Anyone with access to the bus may have written
either, so each is parsed when it is read.
"""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from marketswarm.bus import Bus
from marketswarm.bus.stored_values import read_parsed
from marketswarm.operator.fields import STRICT, Epoch, Ident, JsonRecord, Name
from marketswarm.operator.remedies import REQUEST_KEYS

REQUEST_VALID_SEC: Final = 60
"""How long a request stays on the bus. One whose `ts` is further from the reader's clock is not followed."""
REPORT_VALID_SEC: Final = 24 * 3600
"""How long a report stays on the bus."""


class RequestResult(StrEnum):
    """The outcome of a request."""

    DONE = "done"  # a new connection answers; no critical series is stale
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ServiceRequest(JsonRecord):
    """A request, made at `ts` (epoch seconds), to the process `boot`, which follows each `id` once.

    Raises ValueError when a field is out of bounds.
    """

    id: Ident
    boot: Name
    by: Name
    ts: Epoch


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RequestReport(JsonRecord):
    """The outcome of the last request that the process `boot` followed, as of `ts` (epoch seconds).

    `request` is its id. `result` is None while it is carried out. `ended` counts the sessions that did
    nothing in a transaction and were ended, `loaded` the series that are fresh again. `why` is why it failed.
    Raises ValueError when a field is out of bounds.
    """

    request: Ident
    boot: Name
    ts: Epoch
    result: RequestResult | None = None
    ended: Annotated[int, Field(ge=0, le=10**6)] = 0
    loaded: Annotated[int, Field(ge=0, le=10**6)] = 0
    why: Annotated[str, Field(max_length=200)] = ""


async def read_request_report(bus: Bus, remedy: str, svc: str) -> RequestReport | None:
    """Return what a service says of a remedy of REQUEST_KEYS; None if it says nothing that can be used.

    Raises BusError.
    """
    return await read_parsed(bus, REQUEST_KEYS[remedy][svc][0], RequestReport.parse)
