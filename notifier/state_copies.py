"""Order the copies of the notifier's state that the buses hold, and merge those that went apart. Pure.

A copy has a number that each transaction raises (`seq`), the term that wrote it (`by`), and the earlier terms
whose changes it includes (`past`). A term that began while a bus did not answer doesn't include what only
that bus holds: the number alone can't tell which of the two has everything.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from marketswarm.bus.stored_values import parse_object
from marketswarm.bus.stream import entry_sort_key
from marketswarm.text import parse_digits
from notifier.router.incident import Incident, parse_incident, parse_notice
from notifier.router.incident_store import INCIDENT_FIELD
from notifier.router.router import DIGEST_FIELD, END_FIELD, NOTICE_FIELD
from notifier.state import READ_POSITION, parse_positions

SEQ: Final = "seq"
"""The state's field with the sequence number of the last transaction."""
BY: Final = "by"
"""The state's field with the id of the term that wrote it; the boot id, if an older release wrote it."""
PAST: Final = "past"
"""The state's field with the `Lineage` of the term that wrote it, as JSON."""
TERMS_KEPT: Final = 64
"""How many earlier terms a lineage names; of those before, what has a lower number counts as included."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a state includes: of each of `terms` all up to a number, of every other term all up to `floor`."""

    terms: Mapping[str, int] = field(default_factory=dict)
    floor: int = 0

    def includes(self, by: str, seq: int) -> bool:
        return seq <= max(self.floor, self.terms.get(by, 0))

    def encode(self, by: str) -> bytes:
        return orjson.dumps({BY: by, "terms": self.terms, "floor": self.floor})


@dataclass(frozen=True, slots=True)
class StateCopy:
    """The state on one bus: its number, its writer, what it includes besides, and its other fields.

    `raw_seq` is the number as the bus holds it; "" for a bus that holds no state.
    """

    by: str = ""
    seq: int = 0
    raw_seq: bytes = b""
    lineage: Lineage = field(default_factory=Lineage)
    fields: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: Mapping[str, bytes]) -> "StateCopy":
        """Return a copy from the fields of a hash. A number that can't be parsed counts as 0."""
        by, raw_seq = raw.get(BY, b"").decode("utf-8", "replace"), raw.get(SEQ, b"")
        seq = parse_digits(raw_seq) or 0
        fields = {name: value for name, value in raw.items() if name not in (SEQ, BY, PAST)}
        return cls(by, seq, raw_seq, _parse_lineage(raw.get(PAST, b""), by, seq), fields)

    def includes(self, other: "StateCopy") -> bool:
        is_own = other.by == self.by and other.seq <= self.seq
        return is_own or self.lineage.includes(other.by, other.seq)


def find_newest(copies: Mapping[str, StateCopy]) -> str:
    """Return the bus with the highest number; a copy that includes another one has the higher number."""
    return max(copies, key=lambda bus: copies[bus].seq)


def find_apart(copies: Mapping[str, StateCopy]) -> list[str]:
    """Return the buses whose copy the newest one does not include, the newest of them last."""
    newest = copies[find_newest(copies)]
    apart = (bus for bus, each in copies.items() if not newest.includes(each))
    return sorted(apart, key=lambda bus: copies[bus].seq)


def join_lineages(copies: Collection[StateCopy]) -> Lineage:
    """Return what a state includes that is made from all these copies."""
    terms: dict[str, int] = {}
    for each in copies:
        for by, seq in {**each.lineage.terms, each.by: each.seq}.items():
            if seq:
                terms[by] = max(seq, terms.get(by, 0))
    latest_first = sorted(terms.items(), key=lambda term: term[1], reverse=True)
    forgotten = latest_first[TERMS_KEPT : TERMS_KEPT + 1]
    floor = max([each.lineage.floor for each in copies] + [seq for _, seq in forgotten])
    return Lineage({by: seq for by, seq in latest_first[:TERMS_KEPT] if seq > floor}, floor)


def merge_fields(newest: Mapping[str, bytes], apart: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the fields of the newest copy, joined with those of `apart`, a copy that continued without it.

    A field that only `apart` has is added. An incident is taken with its notices from the copy with its later
    event, by ids and the order of the log. A message that was delivered from one copy may be sent again,
    under its id: better twice than not at all.
    """
    later = {name for name, raw in apart.items() if _is_later_incident(name, raw, newest.get(name))}
    merged = dict(newest)
    for name, raw in apart.items():
        if name.startswith((NOTICE_FIELD, DIGEST_FIELD, END_FIELD)):
            notice = parse_notice(raw)
            is_taken = notice is None or INCIDENT_FIELD + notice.key in later
        else:
            is_taken = name in later or name not in newest
        if is_taken:
            merged[name] = raw
    return merged


def join_replay_starts(*found: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return by bus the earliest of these entries."""
    joined: dict[str, bytes] = {}
    for starts in found:
        for bus, start in starts.items():
            joined[bus] = min(joined.get(bus, start), start, key=entry_sort_key)
    return joined


def find_replay_starts(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return by bus the entry after which its log is to be handled again, after a merge of two copies.

    It is the last one that both had read: an event since then, such as the end of an outage that only one of
    them knows, may have meant nothing to the other one.
    """
    ours, theirs = parse_positions(one, READ_POSITION), parse_positions(other, READ_POSITION)
    differing = (bus for bus in ours.keys() & theirs.keys() if ours[bus] != theirs[bus])
    return {bus: min(ours[bus], theirs[bus], key=entry_sort_key) for bus in differing}


def _is_later_incident(name: str, raw: bytes, known: bytes | None) -> bool:
    """Return True if a field holds an incident with a later event than another copy of it."""
    theirs = parse_incident(raw) if name.startswith(INCIDENT_FIELD) else None
    ours = None if known is None else parse_incident(known)
    return theirs is not None and (ours is None or _is_later(theirs, ours))


def _is_later(one: Incident, other: Incident) -> bool:
    """Return True if the latest event of `one` came after that of `other`, or if only `one` was told.

    One that handled the latest event of the other, and a further one, is later; if that says nothing, the
    order in a log that has both counts. Their times count last: the healer's clock may have been set since.
    """
    if one.last_id != other.last_id:
        if (is_ahead := one.has_handled(other.last_id)) != other.has_handled(one.last_id):
            return is_ahead
        shared = sorted(one.last_entries.keys() & other.last_entries.keys())
        if shared:
            found = (entry_sort_key(each.last_entries[shared[0]].encode()) for each in (one, other))
            return next(found) > next(found)
    return (one.last_ts, one.told_at or 0.0) > (other.last_ts, other.told_at or 0.0)


def _parse_lineage(raw: bytes, by: str, seq: int) -> Lineage:
    """Return the lineage in a field; if another writer left it there, every lower number counts as included.

    So it is with the state of an older release, which wrote no lineage and kept the field of a newer one.
    """
    found = parse_object(raw)
    terms, floor = found.get("terms"), found.get("floor")
    if found.get(BY) != by or not isinstance(terms, dict) or type(floor) is not int:
        return Lineage(floor=seq)
    return Lineage({name: each for name, each in terms.items() if type(each) is int}, floor)
