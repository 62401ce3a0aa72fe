"""Write the entries of the log in one form, so that the same content always has the same hash. Pure.

An entry is canonical JSON (RFC 8785) of text, whole numbers, lists and objects; numbers with a point are
decimal text. Each says its own place in the log (`n`), so none can be moved. A tick has one place for every
symbol that the truth had, by name: its entry has the root of the tree of these places, so none can be left
out. Places that say "as before" follow from the ones before them and need not be stored.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

import orjson
import rfc8785

from services.signals.log.merkle import hash_entry, hash_tree

VERSION: Final = 1
_TEXT: Final = frozenset({str})
_PLAIN: Final = frozenset({str, int, bool, type(None)})
_CANONICAL: Final = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER


class LogEntryKind(StrEnum):
    """What an entry of the log says."""

    TICK = "tick"
    """What was decided of all symbols at one instant."""
    GAP = "gap"
    """Ticks that were not decided, and why."""
    KEY = "key"
    """That another key signs from here on: signed by the old and the new one."""


class PlaceOutcome(StrEnum):
    """What a place says of its symbol."""

    SIGNAL = "signal"
    UNCHANGED = "unchanged"
    CLOSED = "closed"
    ABSTAINED = "abstained"
    FAILED = "failed"


FOLLOWING: Final = (PlaceOutcome.UNCHANGED, PlaceOutcome.CLOSED)
"""The outcomes of places that need not be stored: `since` names the tick that they follow from."""


DECIDED: Final = (PlaceOutcome.SIGNAL, PlaceOutcome.ABSTAINED)
"""The outcomes of places for which votes were weighed: each names them."""


class LogEntryError(ValueError):
    """An entry can't be written: it has a float, or two places of one symbol."""


@dataclass(frozen=True, slots=True)
class TickPlaces:
    """Hold the places of a tick by symbol, ready to be hashed; the names are in the order of the tree.

    `known` are the hashes of the texts, of a writer that keeps those of places that say "as before", and
    `known_root` is that of their tree.
    """

    symbols: tuple[str, ...]
    texts: tuple[bytes, ...]
    known: tuple[bytes, ...] | None = field(default=None, repr=False, compare=False)
    known_root: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def hashes(self) -> list[bytes]:
        return [hash_entry(text) for text in self.texts] if self.known is None else list(self.known)

    @property
    def root(self) -> bytes:
        return hash_tree(self.hashes) if self.known_root is None else self.known_root


def encode_entry(content: Mapping[str, Any]) -> bytes:
    """Return canonical JSON. Raises LogEntryError for a float, and for a key that is no text."""
    try:
        # fifty times as fast, and the same bytes: keys of ASCII have one order, and no number has a point
        if _is_plain(content):
            return orjson.dumps(content, option=_CANONICAL)
    except orjson.JSONEncodeError:
        pass  # the other one says what is wrong
    try:
        return rfc8785.dumps(content)
    except rfc8785.CanonicalizationError as error:
        raise LogEntryError(str(error)) from None


def _is_plain(content: Any) -> bool:
    """Return whether a value has plain types and keys of ASCII alone. Raises LogEntryError for a float."""
    is_plain, left = True, [content]
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            if (
                type(value) is not dict
                or not _TEXT.issuperset(map(type, value))
                or not "".join(value).isascii()
            ):
                is_plain = False
            inner: Collection[Any] = value.values()
        elif isinstance(value, list | tuple):
            is_plain = is_plain and type(value) is list
            inner = value
        elif isinstance(value, float):
            raise LogEntryError("a number with a point must be decimal text")
        else:
            is_plain = is_plain and type(value) in _PLAIN
            continue
        if not _PLAIN.issuperset(map(type, inner)):  # most of what is written is of these, and done with
            left += [each for each in inner if type(each) not in _PLAIN]
    return is_plain


@lru_cache(maxsize=8)  # those of a tick are those of the tick before
def hash_symbols(symbols: tuple[str, ...]) -> bytes:
    """Return the digest by which a tick names the symbols that its places are of."""
    return hash_entry(encode_entry({"symbols": list(symbols)}))


def make_place(symbol: str, outcome: PlaceOutcome, **content: Any) -> bytes:
    """Return the text of a symbol's place. A following outcome has `since`, a tick, and nothing else."""
    if outcome in FOLLOWING and content.keys() != {"since"}:
        raise LogEntryError(f"{outcome} has since, and nothing else")
    return encode_entry({"v": VERSION, "symbol": symbol, "outcome": str(outcome), **content})


def join_places(places: Mapping[str, bytes]) -> TickPlaces:
    """Return the places of a tick in the order of their tree: by the code points of the symbol."""
    symbols = tuple(sorted(places))
    return TickPlaces(symbols, tuple(places[symbol] for symbol in symbols))


def make_tick(
    number: int,
    tick: int,
    at_ms: int,
    places: TickPlaces,
    *,
    code: str,
    truth: str,
    consensus: str,
    rules: bytes | None = None,
) -> bytes:
    """Return the entry of a tick, `number` in the log.

    Args:
        tick: its number among ticks; wall clocks go back, this never does.
        at_ms: the wall time, in epoch milliseconds.
        code: the version of the program, `truth` the revision of its configuration.
        rules: by which it was decided, as they are stored beside the log; the entry has their digest.
    """
    named = {} if rules is None else {"rules": hash_entry(rules).hex()}
    return encode_entry(
        {
            "v": VERSION,
            "kind": str(LogEntryKind.TICK),
            "n": number,
            "tick": tick,
            "at": format_time(at_ms),
            "places": len(places.texts),
            "root": places.root.hex(),
            "symbols": hash_symbols(places.symbols).hex(),
            "code": code,
            "truth": truth,
            "consensus": consensus,
            **named,
        }
    )


def make_gap(number: int, first: int, last: int, at_ms: int, reason: str) -> bytes:
    """Return the entry of ticks that were not decided, from `first` to `last`, both among them."""
    return encode_entry(
        {
            "v": VERSION,
            "kind": str(LogEntryKind.GAP),
            "n": number,
            "first": first,
            "last": last,
            "at": format_time(at_ms),
            "reason": reason,
        }
    )


def make_key_change(number: int, at_ms: int, old: str, new: str, signatures: Sequence[str]) -> bytes:
    """Return the entry that another key signs from here on; `signatures` are lines of both keys."""
    return encode_entry(
        {
            "v": VERSION,
            "kind": str(LogEntryKind.KEY),
            "n": number,
            "at": format_time(at_ms),
            "old": old,
            "new": new,
            "signatures": list(signatures),
        }
    )


def make_key_statement(origin: str, number: int, old: str, new: str) -> bytes:
    """Return what both keys sign when the key of a log changes, as the text of a note."""
    return f"marketswarm key change\n{origin}\n{number}\n{old}\n{new}\n".encode()


def format_time(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}Z"
