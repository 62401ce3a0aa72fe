"""Put together what a stranger needs to check one symbol's past offline, as lines of JSON. Pure.

The first line has the signed checkpoint and the hashes on both sides of a run of entries; each further one
an entry, and of a tick the symbol's place in it with its path. Nothing is left to believe: the entries of
the run, the hashes beside it and the places hash to the root that the log signed and a witness cosigned.
services/signals/verify.py checks such a file, and imports nothing of ours.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.signals.log.checkpoint import parse_checkpoint
from services.signals.log.entries import TickPlaces
from services.signals.log.merkle import (
    Node,
    Span,
    append_entry,
    hash_span,
    list_inclusion,
    split_span,
    split_tree,
)
from services.signals.log.note import parse_note

FORMAT: Final = "marketswarm-audit/1"
MAX_ENTRIES: Final = 2_000_000
"""The most entries of one file: four months of a tick every five seconds."""


@dataclass(frozen=True, slots=True)
class AuditedEntry:
    """Hold an entry of the log, and the places of its tick; None of an entry that is no tick."""

    text: bytes
    places: TickPlaces | None


def list_beside(first: int, end: int, size: int) -> list[Span]:
    """Return the subtrees on both sides of the entries from `first` up to `end`, from the left.

    With the entries between them they make the root of a tree of `size`. Raises ValueError if the tree does
    not have these entries.
    """
    if not 0 <= first < end <= size:
        raise ValueError(f"a tree of {size} entries has no entries from {first} to {end}")
    spans: list[Span] = []
    open_spans = [(0, size)]
    while open_spans:
        start, stop = open_spans.pop()
        if stop <= first or start >= end:
            spans.append((start, stop))
        elif first > start or end < stop:
            middle = start + split_tree(stop - start)
            open_spans += [(middle, stop), (start, middle)]
    return spans


def write_bundle(
    symbol: str,
    checkpoint: bytes,
    first: int,
    entries: Sequence[AuditedEntry],
    nodes: Callable[[list[Node]], Mapping[Node, bytes]],
) -> Iterator[str]:
    """Yield the lines of a file about a symbol, for the entries from `first` on.

    `checkpoint` is signed and cosigned; `nodes` returns the hashes of subtrees of the log. Raises ValueError
    for a tick without the symbol, or a checkpoint that does not have the entries.
    """
    size = parse_checkpoint(parse_note(checkpoint).text).size
    spans = list_beside(first, first + len(entries), size)
    found = nodes([node for span in spans for node in split_span(span)])
    yield _to_line(
        {
            "format": FORMAT,
            "symbol": symbol,
            "first": first,
            "count": len(entries),
            "hashes": [_encode(hash_span(span, found)) for span in spans],
            "checkpoint": checkpoint.decode(),
        }
    )
    for number, each in enumerate(entries, first):
        line: dict[str, Any] = {"entry": each.text.decode()}
        if each.places is not None:
            if symbol not in each.places.symbols:
                raise ValueError(f"entry {number}: its tick has no {symbol}")
            line |= _prove_place(each.places, each.places.symbols.index(symbol))
        yield _to_line(line)


def _prove_place(places: TickPlaces, index: int) -> dict[str, Any]:
    nodes: dict[Node, bytes] = {}
    for size, each in enumerate(places.hashes):
        nodes.update(append_entry(size, nodes, each))
    spans = list_inclusion(index, len(places.texts))
    path = [_encode(hash_span(span, nodes)) for span in spans]
    return {"place": places.texts[index].decode(), "index": index, "path": path}


def _encode(value: bytes) -> str:
    return b64encode(value).decode()


def _to_line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
