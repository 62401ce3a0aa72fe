"""Read what the sections of sources and bars in a truth say of symbols, for the services that use them. Pure.

A section is that of another service, which checks it: what is not right in it is left out here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from marketswarm.truth import Service, Truth
from services.market.fields import SYMBOL
from services.market.records import AssetClass, RecordKind

DAY_SHARE: Final = 0.25
"""The share of its minutes of which a built day must be made, unless the section of bars says otherwise."""
UNOFFICIAL_CLOSE: Final = (
    "minutes without a series of days: the close of a day is that of its last minute, and not the official "
    "one of the closing auction; add a series of 1d"
)
"""What a truth is warned of whose stocks have no days of their source."""
_ASSETS = frozenset(AssetClass)


@dataclass(frozen=True, slots=True)
class LoadedSymbol:
    """Say of a symbol whose bars are loaded its class, and its session: None for that of the class."""

    asset: AssetClass
    session: str | None


def list_loaded_symbols(sources: Service) -> dict[str, LoadedSymbol]:
    """Return the symbols whose bars a section of sources loads, as the first series of each has them."""
    disabled = set(_list_texts(sources.settings.get("disabled")))
    found: dict[str, LoadedSymbol] = {}
    for entry in sources.endpoints:
        if isinstance(entry, dict) and entry.get("kind", RecordKind.BARS) == RecordKind.BARS:
            asset, session = entry.get("asset", AssetClass.STOCKS), entry.get("session")
            symbols = (each for each in list_entry_symbols(entry) if each not in disabled)
            if entry.get("separate") is True:
                continue  # of one source for itself, beside the series of the symbol
            if isinstance(asset, str) and asset in _ASSETS and isinstance(session, str | None):
                for symbol in symbols:
                    found.setdefault(symbol, LoadedSymbol(AssetClass(asset), session))
    return found


def list_separate_bars(sources: Service | None) -> dict[tuple[str, str], frozenset[str]]:
    """Return by symbol and source the timeframes of the bars that are loaded from that source for itself."""
    found: dict[tuple[str, str], set[str]] = {}
    disabled = set() if sources is None else set(_list_texts(sources.settings.get("disabled")))
    for entry in () if sources is None else sources.endpoints:
        if not isinstance(entry, dict) or entry.get("separate") is not True:
            continue
        named, timeframe = _list_texts(entry.get("from")), entry.get("timeframe", "1m")
        if entry.get("kind", RecordKind.BARS) == RecordKind.BARS and isinstance(timeframe, str) and named:
            for symbol in list_entry_symbols(entry):
                if symbol not in disabled:
                    found.setdefault((symbol, named[0]), set()).add(timeframe)
    return {name: frozenset(timeframes) for name, timeframes in found.items()}


def list_bar_sources(sources: Service) -> dict[str, tuple[str, ...]]:
    """Return by symbol the names of the sources that a section of sources asks for its bars, each once.

    What is loaded from a source for itself is not among them.
    """
    found: dict[str, dict[str, None]] = {}
    for entry in sources.endpoints:
        if not isinstance(entry, dict) or entry.get("separate") is True:
            continue
        if entry.get("kind", RecordKind.BARS) == RecordKind.BARS:
            for symbol in list_entry_symbols(entry):
                found.setdefault(symbol, {}).update(dict.fromkeys(_list_texts(entry.get("from"))))
    return {symbol: tuple(names) for symbol, names in found.items()}


def list_checked_symbols(truth: Truth) -> dict[str, LoadedSymbol]:
    """Return the symbols that bars has by a truth: those of its groups, and those that sources loads."""
    sources, bars = truth.services.get("sources"), truth.services.get("bars")
    if bars is None:
        return {}
    found: dict[str, LoadedSymbol] = {}
    usual: dict[str, str] = {}
    for group in bars.endpoints:
        if not isinstance(group, dict):
            continue
        asset, session = group.get("asset", AssetClass.STOCKS), group.get("session")
        if not isinstance(asset, str) or asset not in _ASSETS or not isinstance(session, str | None):
            continue
        symbols = list(list_entry_symbols(group))
        for symbol in symbols:
            found.setdefault(symbol, LoadedSymbol(AssetClass(asset), session))
        if not symbols and session is not None:
            usual.setdefault(asset, session)
    left_out = set(list_left_out(bars))
    for symbol, loaded in ({} if sources is None else list_loaded_symbols(sources)).items():
        if symbol not in left_out:
            found.setdefault(symbol, LoadedSymbol(loaded.asset, usual.get(loaded.asset, loaded.session)))
    return found


def list_named_sessions(truth: Truth) -> dict[str, str]:
    """Return by symbol the code of the session that a truth names for its bars.

    Symbols that trade in the session of their class are left out.
    """
    checked = list_checked_symbols(truth)
    return {symbol: each.session for symbol, each in checked.items() if each.session is not None}


@dataclass(frozen=True, slots=True)
class DayShares:
    """Say of which share of its minutes a built day must be made to count, of 0 to 1.

    That of a symbol goes before that of its asset class, and that before DAY_SHARE.
    """

    by_symbol: Mapping[str, float]
    by_asset: Mapping[str, float]


def find_default_share(asset: str, *, quotes: bool) -> float:
    """Return the share of a group that says none.

    Most options trade in few minutes a day, and how many quotes there are is a matter of who asks.
    """
    return 0.0 if quotes or asset == AssetClass.OPTIONS else DAY_SHARE


def list_day_shares(bars: Service | None) -> DayShares:
    """Return the shares that a section of bars says, of symbols and, without symbols, of asset classes."""
    by_symbol: dict[str, float] = {}
    by_asset = {str(AssetClass.OPTIONS): 0.0}
    for group in () if bars is None else bars.endpoints:
        if not isinstance(group, dict):
            continue
        asset = group.get("asset", AssetClass.STOCKS)
        if not isinstance(asset, str) or asset not in _ASSETS:
            continue
        checks = group.get("checks")
        share = checks.get("day_share") if isinstance(checks, dict) else None
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            share = find_default_share(asset, quotes=group.get("quotes") is True)
        if symbols := list(list_entry_symbols(group)):
            by_symbol |= dict.fromkeys(symbols, float(share))
        else:
            by_asset[asset] = float(share)
    return DayShares(by_symbol, by_asset)


def list_entry_symbols(entry: dict[str, object]) -> Iterator[str]:
    """Yield the symbols of one entry of `endpoints`, of sources or bars; leave out what is not a symbol."""
    for text in _list_texts([entry.get("symbol"), *_list_texts(entry.get("symbols"))]):
        if SYMBOL.fullmatch(text) is not None:
            yield text


def list_left_out(bars: Service) -> list[str]:
    """Return the symbols that bars does not take, by its section."""
    return _list_texts(bars.settings.get("without"))


def _list_texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
