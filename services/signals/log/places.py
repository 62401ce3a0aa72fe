"""Keep the tree of a tick's places from one tick to the next: a change costs a hash on each level. Pure."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Final, Self

from services.signals.log.entries import VERSION, PlaceOutcome, TickPlaces, make_place
from services.signals.log.merkle import EMPTY_ROOT, hash_pair

_REBUILT: Final = 4
"""If more than one in so many places changed, all levels are hashed again: that costs less than to look for
the parents of each."""


@dataclass(frozen=True, slots=True)
class PlaceProof:
    """Hold a place of a tick, its index among all of them, and the hashes that lead to the tick's root."""

    text: bytes
    index: int
    path: tuple[bytes, ...]


class PlaceTree:
    """The tree over the hashes of a tick's places, in the order of their symbols."""

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self._levels = [list(hashes)]
        self._build()

    def _build(self) -> None:
        """Hash all levels above the lowest one."""
        del self._levels[1:]
        while len(below := self._levels[-1]) > 1:
            pairs = list(map(hash_pair, below[::2], below[1::2]))
            self._levels.append(pairs if len(below) % 2 == 0 else [*pairs, below[-1]])

    def copy(self) -> Self:
        """Return a tree that changes apart from this one."""
        copied = copy(self)
        copied._levels = [level.copy() for level in self._levels]  # noqa: SLF001 - of this class
        return copied

    @property
    def root(self) -> bytes:
        return self._levels[-1][0] if self._levels[-1] else EMPTY_ROOT

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The hashes of the places, in their order."""
        return tuple(self._levels[0])

    def replace(self, changed: Mapping[int, bytes]) -> None:
        """Put other hashes at some indexes. Raises IndexError for one that the tick does not have."""
        for index, each in changed.items():
            self._levels[0][index] = each
        if _REBUILT * len(changed) > len(self._levels[0]):
            self._build()
            return
        above = {index // 2 for index in changed}
        for below, level in zip(self._levels, self._levels[1:], strict=False):
            for index in above:
                level[index] = _hash_parent(below, index)
            above = {index // 2 for index in above}

    def find_hash(self, index: int) -> bytes:
        return self._levels[0][index]

    def prove(self, index: int, text: bytes) -> PlaceProof:
        """Return the proof of the place at `index`, whose text is `text`."""
        path, at = [], index
        for level in self._levels[:-1]:
            beside = at ^ 1
            if beside < len(level):
                path.append(level[beside])
            at //= 2
        return PlaceProof(text, index, tuple(path))


def _hash_parent(below: Sequence[bytes], index: int) -> bytes:
    left = 2 * index
    return hash_pair(below[left], below[left + 1]) if left + 1 < len(below) else below[left]


def prove_place(places: TickPlaces, symbol: str) -> PlaceProof:
    """Return the proof of a symbol's place in a tick. Raises ValueError for a tick without the symbol."""
    if symbol not in places.symbols:
        raise ValueError(f"the tick has no {symbol}")
    index = places.symbols.index(symbol)
    return PlaceTree(places.hashes).prove(index, places.texts[index])


def make_following(symbol: str, outcome: str, tick: int) -> bytes:
    """Return the place of a symbol that follows from its last stored one: its outcome, at `tick`."""
    following = PlaceOutcome.CLOSED if outcome == PlaceOutcome.CLOSED else PlaceOutcome.UNCHANGED
    if symbol.isascii() and symbol.isprintable() and not {'"', "\\"} & {*symbol}:
        # as `make_place` writes it, ten times as fast: a tick has thousands of these
        return f'{{"outcome":"{following}","since":{tick},"symbol":"{symbol}","v":{VERSION}}}'.encode()
    return make_place(symbol, following, since=tick)
