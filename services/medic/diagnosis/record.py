"""Define what is kept of an outage beside its timeline: evidence of it, and a diagnosis. Pure.

Evidence has the end of a log, which is packed: 500 lines are ten times as long as what is read of one field.
"""

import base64
import binascii
import zlib
from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from marketswarm.operator.fields import STRICT, Epoch, Ident, JsonRecord, Name
from services.medic.owners.log_source import LOG_LINES

MAX_DIAGNOSIS: Final = 2000
MAX_PATCH: Final = 8000
MAX_REMEDIES: Final = 5
EVIDENCE_BYTES: Final = 64 * 1024
"""How much of a log is kept, before it is packed."""
MAX_PACKED: Final = 12_000
"""The longest packed log, in characters."""

Word = Annotated[str, Field(max_length=50)]
Fact = Annotated[str, Field(max_length=500)] | float | int | None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class DiagnosisRecord(JsonRecord):
    """A diagnosis of the outage `incident` of a service, made at `ts` (epoch seconds).

    `reason` is the word for why it was asked for. `remedies` are words that the planner knows; `patch` is a
    text for people, which nothing applies. Raises ValueError when a field is out of bounds.
    """

    svc: Name
    incident: Ident
    ts: Epoch
    reason: Word
    text: Annotated[str, Field(min_length=1, max_length=MAX_DIAGNOSIS)]
    remedies: Annotated[tuple[Word, ...], Field(max_length=MAX_REMEDIES, strict=False)] = ()
    patch: Annotated[str, Field(max_length=MAX_PATCH)] = ""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class OutageEvidence(JsonRecord):
    """What was known of the outage `incident` of a service at `ts` (epoch seconds).

    `step` is the entry of the timeline with which it was taken: `intended restart`. `facts` are those of the
    target and its process, `readings` what was measured last of its processes and of this machine, in percent
    by metric. `packed_log` is the end of its log, which `unpack_log` returns. Raises ValueError when a field
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

    def unpack_log(self) -> list[str]:
        """Return the last lines of the log; none if they can't be unpacked."""
        try:
            packed = base64.b64decode(self.packed_log, validate=True)
            text = zlib.decompressobj().decompress(packed, 2 * EVIDENCE_BYTES)
        except (binascii.Error, ValueError, zlib.error):
            return []
        return text.decode("utf-8", "replace").splitlines()[-LOG_LINES:]


def pack_log(text: str) -> str:
    """Return the last LOG_LINES of a text for `packed_log`, or as many as pack to MAX_PACKED characters."""
    lines = text.splitlines()[-LOG_LINES:]
    while lines:
        packed = base64.b64encode(zlib.compress("\n".join(lines).encode("utf-8", "replace"), 9)).decode()
        if len(packed) <= MAX_PACKED:
            return packed
        lines = lines[len(lines) // 2 + 1 :]
    return ""
