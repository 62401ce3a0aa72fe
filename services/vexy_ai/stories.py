"""Which titles tell of the same: near-duplicates joined by MinHash and locality-sensitive hashing.

The same titles in the same order always give the same groups: the seed is fixed. Pieces of text are compared,
not words, so no language has an advantage; what says the same in other words is not found, and is not meant
to be. The library is imported with this module, which an idle worker does not do.
"""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from rensa import RMinHash, RMinHashLSH

PIECE: Final = 4  # characters
PERMUTATIONS: Final = 128
BANDS: Final = 32
"""With four rows a band: what is alike to 0.6 is a candidate in 99 cases of 100, to 0.3 in 23."""
SEED: Final = 42
COMPARED_AT_MOST: Final = 64
"""Candidates that a title is compared with, the oldest first: thousands in one mould take no minutes."""


def joined(titles: Sequence[str], similar: float) -> list[list[int]]:
    """Groups of the positions of titles that are alike to `similar` (Jaccard, 0 to 1), each in order.

    A group holds whoever is alike to any other in it. An empty title is like no other.
    """
    roots = list(range(len(titles)))
    by_text: dict[str, int] = {}
    for at, title in enumerate(titles):
        text = normal(title)
        if text:
            roots[at] = by_text.setdefault(text, at)
    firsts = sorted(by_text.values())
    texts = [normal(titles[at]) for at in firsts]
    sketches = RMinHash.from_token_sets([sorted(pieces(text)) for text in texts], PERMUTATIONS, SEED)
    index = RMinHashLSH(similar, PERMUTATIONS, BANDS)
    for n, sketch in enumerate(sketches):
        for candidate in sorted(index.query(sketch))[:COMPARED_AT_MOST]:
            mine, other = _root(roots, firsts[n]), _root(roots, firsts[candidate])
            if mine != other and alike(texts[n], texts[candidate]) >= similar:
                roots[max(mine, other)] = min(mine, other)
        index.insert(n, sketch)
    groups: dict[int, list[int]] = {}
    for at in range(len(titles)):
        groups.setdefault(_root(roots, at), []).append(at)
    return list(groups.values())


def normal(title: str) -> str:
    """What is compared: letters and digits in one case and form, single spaces between."""
    folded = unicodedata.normalize("NFKC", title).casefold()
    return " ".join("".join(each if each.isalnum() else " " for each in folded).split())


@lru_cache(maxsize=1024)
def pieces(text: str) -> frozenset[str]:
    """Every run of so many characters; a shorter text is its own."""
    return frozenset(text[at : at + PIECE] for at in range(max(1, len(text) - PIECE + 1)))


def alike(one: str, other: str) -> float:
    """The share of pieces that both have, of those that either has."""
    mine, others = pieces(one), pieces(other)
    return len(mine & others) / len(mine | others)


def _root(roots: list[int], at: int) -> int:
    while roots[at] != at:
        roots[at] = roots[roots[at]]
        at = roots[at]
    return at
