"""Define a diagnosis, as the medic keeps it of an outage beside its timeline, and read it."""

from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from marketswarm.bus import Bus
from marketswarm.bus.stored_values import read_fields, report_unusable
from marketswarm.keys import MEDIC_STATE
from marketswarm.operator.fields import STRICT, Epoch, Ident, JsonRecord, Name

MAX_DIAGNOSIS: Final = 2000
MAX_PATCH: Final = 8000
MAX_REMEDIES: Final = 5

Word = Annotated[str, Field(max_length=50)]


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


def make_diagnosis_field(svc: str) -> str:
    """Return the field of `medic:state` for the last diagnosis of a service."""
    return f"diagnosis:{svc}"


async def read_diagnosis(bus: Bus, svc: str, incident: str) -> DiagnosisRecord | None:
    """Return the diagnosis of an outage; None if there is none that can be used. Raises BusError.

    That of a later outage of the service has replaced this one.
    """
    name = make_diagnosis_field(svc)
    (found,) = await read_fields(bus, [MEDIC_STATE], [name])
    raw = found.get(name.encode())
    record = None if raw is None else DiagnosisRecord.parse(raw)
    if raw is not None and (record is None or record.svc != svc):
        report_unusable(bus.name, MEDIC_STATE, name)
        return None
    return record if record is not None and record.incident == incident else None
