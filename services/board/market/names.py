"""Know the names of the market: the symbols and the economic series that the truth or the archive has.

What is not known is refused with the nearest name, so that a typing error is not taken for a market without
trades. A name is looked for only when there is nothing to answer.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Final

from marketswarm.truth import Truth, find_nearest, suggest_name
from marketswarm.web.cache import Cached
from services.board.market.archive_reader import ArchiveReader, DatabaseAwayError, try_archive
from services.board.market.feed import MarketStates
from services.board.market.live import LiveMarket
from services.board.market.states import OBSERVATIONS
from services.market.names import KnownName, list_other_names, list_truth_names
from services.market.records import AssetClass

MAX_NAMES: Final = 20_000  # the most names of the archive that are kept
NAMES_SEC: Final = 60.0  # how long they are kept: what is newer is found one by one
OBSERVED: Final = (AssetClass.ECONOMIC,)
"""The asset classes whose symbols are economic series."""


class UnknownNameError(Exception):
    """Neither the truth nor the archive has a name; the message suggests one that is known."""


def find_matches(query: str, known: Mapping[str, KnownName], limit: int) -> list[KnownName]:
    """Return up to `limit` names by how well they match, the nearest one if none does.

    The symbol itself comes first, then symbols that begin so, then other names with a word that begins so,
    then symbols that have the text anywhere.
    """
    wanted = " ".join(query.casefold().split())
    ranked = sorted(
        (rank, len(one.symbol), one.symbol)
        for one in known.values()
        if (rank := _rank_match(wanted, one)) is not None
    )
    found = [known[symbol] for _, _, symbol in ranked[:limit]]
    near = None if found or not wanted else find_nearest(query, known)
    return found if near is None else [known[near]]


def _rank_match(wanted: str, one: KnownName) -> int | None:
    """Return how well a name matches, 0 for best; None if it does not."""
    symbol, names = one.symbol.casefold(), [name.casefold() for name in one.names]
    if not wanted:
        return None
    if wanted in (symbol, *names):
        return 0
    if symbol.startswith(wanted):
        return 1
    if any(f" {name}".find(f" {wanted}") >= 0 for name in names):
        return 2
    return 3 if wanted in symbol else None


class NameDirectory:
    """Finds names: in the truth in force, in the states of the sources, in the streams and in the archive."""

    def __init__(
        self,
        archive: ArchiveReader,
        truth_now: Callable[[], Truth],
        states_now: Callable[[], MarketStates],
        live: LiveMarket,
    ) -> None:
        self._archive, self._truth_now, self._states_now = archive, truth_now, states_now
        self._live = live
        self._last: Mapping[str, KnownName] = {}
        """The names that the archive had when it answered last."""
        self.archived = Cached[str, Mapping[str, KnownName]](NAMES_SEC)
        self._truth: Truth | None = None
        self._named: Mapping[str, KnownName] = {}
        self._called: Mapping[str, tuple[str, ...]] = {}

    def list_named(self) -> dict[str, KnownName]:
        """Return the names of the truth, and of the series that the sources have loaded."""
        truth = self._truth_now()
        if truth is not self._truth:
            self._truth, self._named = truth, list_truth_names(truth)
            self._called = list_other_names(truth)
        found = dict(self._named)
        for one in self._states_now().series:
            called = self._called.get(one.symbol, ())
            known = KnownName(one.symbol, one.asset, one.kind == OBSERVATIONS, one.group, called)
            found.setdefault(one.symbol, known)
        return found

    async def list_all(self) -> dict[str, KnownName]:
        """Return all names, the first MAX_NAMES of the archive's. Raises DatabaseAwayError."""
        archived, named = await self.archived.find("", self._read_archived), self.list_named()
        found = {name: replace(one, names=self._called.get(name, ())) for name, one in archived.items()}
        for name, one in named.items():
            past = found.get(name, one)
            first, last, replay = past.first_seen, past.last_seen, past.replay
            found[name] = replace(one, first_seen=first, last_seen=last, replay=replay)
        return found

    async def find_assets(self, symbols: Collection[str]) -> dict[str, str]:
        """Return the asset class of each symbol that is known. Raises DatabaseAwayError."""
        found = self.list_named()
        if any(symbol not in found for symbol in symbols):
            found = {**await self.archived.find("", self._read_archived), **found}
        return {symbol: found[symbol].asset for symbol in symbols if symbol in found}

    async def search(self, query: str, limit: int) -> tuple[list[KnownName], str | None]:
        """Return the names that a query may mean, the best first, and why those of the archive may lack."""
        known, away = await try_archive(self.list_all(), None)
        return find_matches(query, self.list_named() if known is None else known, limit), away

    async def require_symbols(self, symbols: Collection[str]) -> None:
        """Raise UnknownNameError for the first name that is not known. Raises DatabaseAwayError."""
        unnamed = self._list_unnamed(symbols)
        known = await self.list_all() if unnamed else {}
        for symbol in unnamed:
            if symbol not in known and await self._archive.find_asset(symbol) is None:
                hint = suggest_name(symbol, sorted(known), "there are")
                raise UnknownNameError(f"there is no symbol {symbol}; {hint}")

    async def require_symbols_without_archive(self, symbols: Collection[str]) -> None:
        """Do the same; while the archive is away, by what it had when it answered last.

        Nothing is refused before the bus of the market was read, nor if the archive had too many names to
        keep all of them.
        """
        try:
            await self.require_symbols(symbols)
        except DatabaseAwayError:
            is_read = self._states_now().read_at is not None and self._live.is_followed
            if not is_read or len(self._last) >= MAX_NAMES:
                return
            for symbol in self._list_unnamed(symbols):
                if symbol not in self._last:
                    known = self.list_named().keys() | self._live.list_symbols() | self._last.keys()
                    hint = suggest_name(symbol, sorted(known), "there are")
                    raise UnknownNameError(
                        f"while the archive is away there is no symbol {symbol}; {hint}"
                    ) from None

    def _list_unnamed(self, symbols: Collection[str]) -> list[str]:
        """Return those that neither the truth nor the bus of the market has."""
        if not symbols:
            return []
        named, live = self.list_named(), self._live.list_symbols()
        return [symbol for symbol in symbols if symbol not in named and symbol not in live]

    async def require_series(self, names: Collection[str]) -> None:
        """Raise UnknownNameError for the first name that no economic series has. Raises DatabaseAwayError."""
        known = await self.list_all() if names else {}
        series = {each.symbol for each in known.values() if each.is_series}
        for name in names:
            if name not in series:
                hint = suggest_name(name, sorted(series), "there are")
                raise UnknownNameError(f"there is no series {name}; {hint}")

    async def _read_archived(self) -> Mapping[str, KnownName]:
        rows = await self._archive.read_symbols(None, None, MAX_NAMES)
        self._last = {
            symbol: KnownName(symbol, asset, asset in OBSERVED, None, (), first_seen, last_seen, replay)
            for symbol, asset, first_seen, last_seen, replay in rows
        }
        return self._last
