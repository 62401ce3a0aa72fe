"""Follow the places of ticks from stored rows, and prove one symbol's place in each tick. Pure.

Only places that changed are stored, so all others are made again here: what comes out hashes to the root that
the tick's entry has, or rows were changed, added or taken away since.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from services.signals.log.merkle import hash_entry
from services.signals.log.places import PlaceProof, PlaceTree, make_following


class StoredPlace(NamedTuple):
    """Hold what following takes from a row of `signals`; `content` is None of symbols that are not proven."""

    tick: int
    symbol: str
    outcome: str
    hash: bytes
    content: str | None


class PlacesChangedError(ValueError):
    """The stored places of a tick are not those that were logged; the text names the tick."""


class PlaceFollower:
    """Knows the leaf of each symbol of the last tick, and the tree over them.

    Args:
        symbol: whose places are proven.
        before: the last stored place of each symbol before the first tick.
    """

    def __init__(self, symbol: str, before: Iterable[StoredPlace]) -> None:
        self._symbol = symbol
        self._last = {each.symbol: each for each in before}
        self._symbols: tuple[str, ...] = ()
        self._indexes: Mapping[str, int] = {}
        self._tree = PlaceTree(())
        self._fresh: Sequence[StoredPlace] = ()

    def prove_tick(
        self, tick: int, symbols: tuple[str, ...], rows: Sequence[StoredPlace], root: bytes
    ) -> PlaceProof:
        """Return the proof of the symbol's place in the next tick, whose entry has `root`.

        `rows` are the stored places of this tick. Raises PlacesChangedError.
        """
        fresh, self._fresh = self._fresh, rows
        changed = {each.symbol for each in fresh} | {each.symbol for each in rows}
        self._last |= {each.symbol: each for each in rows}
        try:
            if symbols != self._symbols:
                self._symbols = symbols
                self._indexes = {each: at for at, each in enumerate(symbols)}
                self._tree = PlaceTree([self._find_hash(each, tick) for each in symbols])
            else:
                self._tree.replace({self._indexes[each]: self._find_hash(each, tick) for each in changed})
            index = self._indexes[self._symbol]
        except KeyError as error:
            raise PlacesChangedError(f"tick {tick}: no place of {error.args[0]} is stored") from None
        if self._tree.root != root:
            raise PlacesChangedError(f"tick {tick}: the stored places are not those that were logged")
        text = self._find_text(self._symbol, tick)
        if hash_entry(text) != self._tree.find_hash(index):
            raise PlacesChangedError(f"tick {tick}: the text of the place of {self._symbol} was changed")
        return self._tree.prove(index, text)

    def _find_hash(self, symbol: str, tick: int) -> bytes:
        last = self._last[symbol]
        return last.hash if last.tick == tick else hash_entry(make_following(symbol, last.outcome, last.tick))

    def _find_text(self, symbol: str, tick: int) -> bytes:
        last = self._last[symbol]
        if last.tick == tick:
            return (last.content or "").encode()
        return make_following(symbol, last.outcome, last.tick)
