"""Read the quarantine, without entries that hold no record, and put records back onto their streams."""

from dataclasses import dataclass
from typing import Annotated, Final

import orjson
from pydantic import BeforeValidator, Field, Json, TypeAdapter, ValidationError

from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.bus.stream import StreamEntry, is_entry_id, read_entries_before, read_entries_by_id
from services.bars.builder import RELEASED
from services.bars.quality import NEVER_SKIPPED, Check

RELEASE: Final = Script.beside("services.bars", "release.lua")
MAX_READ: Final = 100_000
"""The most entries that are looked at for those that a filter wants."""
PAGE: Final = 500
_MAX_FIELDS: Final = 64

Text = Annotated[str, BeforeValidator(str)]
Texts = Annotated[dict[str, Text], Field(min_length=1, max_length=_MAX_FIELDS)]


@dataclass(frozen=True, slots=True)
class QuarantinedRecord:
    """Hold a record that failed a check.

    Attributes:
        id: the id of its entry in the quarantine.
        stream: the kind of stream that it came from: `market:bars` or `market:quotes`.
        entry: the id of its entry there.
        at_ms: when it was written there, in epoch milliseconds.
        fields: its fields, as they came.
    """

    id: str
    check: Check
    why: str
    stream: str
    entry: str
    at_ms: Annotated[int, Field(alias="at")]
    symbol: Annotated[str, Field(alias="sym")]
    source: str
    fields: Json[Texts]

    @property
    def may_be_released(self) -> bool:
        return self.check not in NEVER_SKIPPED


_RECORD: Final = TypeAdapter(QuarantinedRecord)


def parse_record(entry: StreamEntry) -> QuarantinedRecord | None:
    """Return the record in an entry of the quarantine; None for an entry that can't hold one."""
    raw = {**(entry.fields or {}), b"id": entry.id}
    texts = {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in raw.items()}
    try:
        return _RECORD.validate_python(texts)
    except ValidationError:
        return None


async def read_quarantine(
    bus: Bus, key: str, count: int, *, symbol: str | None = None, check: Check | None = None
) -> list[QuarantinedRecord]:
    """Return the newest `count` records of a symbol and a check, the newest first. Raises BusError."""
    found: list[QuarantinedRecord] = []
    before, looked = b"+", 0
    while looked < MAX_READ:
        page = await read_entries_before(bus, key, before, count=PAGE)
        found += [
            record
            for record in filter(None, map(parse_record, page))
            if symbol in (None, record.symbol) and check in (None, record.check)
        ]
        if not page or len(found) >= count:
            break
        looked, before = looked + len(page), b"(" + page[-1].id
    return found[:count]


async def find_record(bus: Bus, key: str, ident: str) -> QuarantinedRecord | None:
    """Return the record with this id, None if it is not there any more. Raises BusError."""
    entry = ident.encode("utf-8", "replace")
    if not is_entry_id(entry):
        return None
    entries = await read_entries_by_id(bus, key, [entry])
    return parse_record(entries[0]) if entries else None


async def release_record(bus: Bus, key: str, record: QuarantinedRecord, stream: str) -> bool:
    """Put it back onto its stream, without checks. Return False if it is gone. Raises BusError."""
    fields = dict(record.fields) | {RELEASED.decode(): "1"}
    pairs = orjson.dumps([text for pair in fields.items() for text in pair])
    return bool(await bus.script(RELEASE, [key, stream], [record.id, pairs]))
