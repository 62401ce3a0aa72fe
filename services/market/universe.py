"""Read which symbols the section of sources in a truth loads, for the services that take them. Pure.

The section is that of another service, which checks it: what is not a series of bars is left out here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from marketswarm.truth import Service
from services.market.fields import SYMBOL
from services.market.records import AssetClass, RecordKind

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
            if isinstance(asset, str) and asset in _ASSETS and isinstance(session, str | None):
                for symbol in symbols:
                    found.setdefault(symbol, LoadedSymbol(AssetClass(asset), session))
    return found


def list_entry_symbols(entry: dict[str, object]) -> Iterator[str]:
    """Yield the symbols of one entry of `endpoints`, of sources or bars; leave out what is not a symbol."""
    for text in _list_texts([entry.get("symbol"), *_list_texts(entry.get("symbols"))]):
        if SYMBOL.fullmatch(text) is not None:
            yield text


def _list_texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
