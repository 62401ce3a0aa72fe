"""Define the evidence of an outage, which the medic takes before it does anything, and read it back.

It is in the stream `medic:evidence` on system-redis. Anyone who may write there can write entries, so each is
parsed, and one that can't be parsed is skipped.
"""

from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from marketswarm.bus import Bus
from marketswarm.bus.stream import read_entries_before
from marketswarm.keys import MEDIC_EVIDENCE
from marketswarm.operator.fields import STRICT, Epoch, Ident, JsonRecord, Name
from marketswarm.operator.healing import ENTRY_FIELD
from marketswarm.packed_log import MAX_PACKED

EVIDENCE_KEPT: Final = 200
"""About how many entries the stream is trimmed to."""
_PAGE: Final = 20

Word = Annotated[str, Field(max_length=50)]
Fact = Annotated[str, Field(max_length=500)] | float | int | None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class OutageEvidence(JsonRecord):
    """What was known of the outage `incident` of a service at `ts` (epoch seconds).

    `step` is the entry of the timeline with which it was taken: `intended restart`. `facts` are those of the
    target and its process, `readings` what was measured last of its processes and of this machine, in percent
    by metric. `packed_log` is the end of its log (`packed_log.py`). Raises ValueError when a field
    is out of bounds.
    """

    svc: Name
    incident: Ident
    ts: Epoch
    step: Annotated[str, Field(max_length=100)]
    facts: Annotated[dict[Word, Fact], Field(max_length=30)]
    readings: Annotated[
        dict[Word, Annotated[float, Field(allow_inf_nan=False, strict=False)]], Field(max_length=50)
    ]
    packed_log: Annotated[str, Field(max_length=MAX_PACKED)] = ""


async def read_evidence(bus: Bus, incident: str, stream: str = MEDIC_EVIDENCE) -> OutageEvidence | None:
    """Return the newest evidence of an outage; None if there is none, or not any more. Raises BusError."""
    before = "+"
    while page := await read_entries_before(bus, stream, before.encode(), count=_PAGE):
        for each in page:
            found = OutageEvidence.parse((each.fields or {}).get(ENTRY_FIELD.encode(), b""))
            if found is not None and found.incident == incident:
                return found
        before = f"({page[-1].id.decode()}"
    return None
