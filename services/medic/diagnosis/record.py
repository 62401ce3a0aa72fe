"""Define a diagnosis, as it is kept of an outage beside its timeline. Pure."""

from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

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
