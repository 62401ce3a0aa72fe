"""Put together what a stranger needs to check one symbol's past offline, as lines of JSON. Pure.

The first line has the signed checkpoint and the hashes on both sides of a run of entries; each further one
an entry, and of a tick the symbol's place in it with its path. Nothing is left to believe: the entries of
the run, the hashes beside it and the places hash to the root that the log signed and a witness cosigned.
services/signals/verify.py checks such a file, and imports nothing of ours.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.signals.log.checkpoint import parse_checkpoint
from services.signals.log.merkle import Node, Span, hash_span, split_span, split_tree
from services.signals.log.note import parse_note
from services.signals.log.places import PlaceProof

FORMAT: Final = "marketswarm-audit/1"
MAX_ENTRIES: Final = 2_000_000
"""The most entries of one file: four months of a tick every five seconds."""


@dataclass(frozen=True, slots=True)
class AuditedEntry:
    """Hold an entry of the log, and of a tick the place of the symbol; None of an entry that is no tick.

    `symbols` are all that the tick has a place of, in their order, if they are others than those before.
    """

    text: bytes
    place: PlaceProof | None
    symbols: tuple[str, ...] | None = None


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


def list_nodes_beside(first: int, end: int, size: int) -> list[Node]:
    """Return the full subtrees whose hashes `format_head` needs."""
    return [node for span in list_beside(first, end, size) for node in split_span(span)]


def format_head(symbol: str, checkpoint: bytes, first: int, count: int, nodes: Mapping[Node, bytes]) -> str:
    """Return the first line of a file about a symbol, for `count` entries from `first` on.

    `checkpoint` is signed and cosigned; `nodes` has the hashes of `list_nodes_beside`. Raises ValueError for
    a checkpoint that does not have the entries, KeyError for a node that is missing.
    """
    size = parse_checkpoint(parse_note(checkpoint).text).size
    spans = list_beside(first, first + count, size)
    return _to_line(
        {
            "format": FORMAT,
            "symbol": symbol,
            "first": first,
            "count": count,
            "hashes": [_encode(hash_span(span, nodes)) for span in spans],
            "checkpoint": checkpoint.decode(),
        }
    )


def format_audited(entry: AuditedEntry) -> str:
    """Return the line of an entry."""
    line: dict[str, Any] = {"entry": entry.text.decode()}
    if entry.place is not None:
        path = [_encode(each) for each in entry.place.path]
        if entry.symbols is not None:
            line["symbols"] = entry.symbols
        line |= {"place": entry.place.text.decode(), "index": entry.place.index, "path": path}
    return _to_line(line)


def _encode(value: bytes) -> str:
    return b64encode(value).decode()


def _to_line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
