"""Add, disable and enable a symbol in the text of a valid truth, in the section of sources. Pure.

Each function returns the changed text, or raises EditError. As in `marketswarm.truth.document_edit`, whether
the result is valid is for the one check of documents.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.truth.document_edit import EditError
from marketswarm.truth.document_text import remove_value, set_value
from marketswarm.truth.errors import Place, describe_unknown
from services.market.records import AssetClass, RecordKind

_SECTION: Final[Place] = ("services", "sources")
_ENDPOINTS: Final[Place] = (*_SECTION, "endpoints")
_DISABLED: Final[Place] = (*_SECTION, "settings", "disabled")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSymbol:
    """A symbol to be added: its class, and how its series is loaded.

    Without `sources` it gets the series of another symbol: of `like`, or of the first one of its class.
    `every_sec` is in seconds; None: by the refresh alone. The last four are of a series of its own.
    """

    symbol: str
    asset: AssetClass
    like: str | None = None
    sources: Sequence[str] = ()
    timeframe: str | None = None
    every_sec: float | None = None
    group: str | None = None


def add_symbol(text: str, new: NewSymbol) -> str:
    """Return the text with the series of one more symbol; `bars` takes it without being told."""
    entries = _read_entries(text)
    if new.symbol in _list_symbols(entries):
        remedy = f"`marketswarm symbol enable {new.symbol}`" if new.symbol in _read_disabled(text) else ""
        is_off = f", and is disabled: {remedy} has it loaded again" if remedy else ""
        raise EditError(f"sources names {new.symbol} already{is_off}")
    if new.sources:
        return set_value(text, (*_ENDPOINTS, len(entries)), _make_entry(new))
    if new.timeframe or new.every_sec or new.group:
        raise EditError(
            "a timeframe, an interval and a group are of a series of its own: say --from, too; "
            "without it the symbol gets the series of another one"
        )
    model = _find_model(entries, new)
    for number, entry in enumerate(entries):
        if _is_model(entry, model):
            text = _add_to(text, number, entry, new.symbol)
    return text


def disable_symbol(text: str, symbol: str) -> str:
    """Return the text with a symbol that is not loaded any more; its series stay written."""
    _require_named(text, symbol)
    disabled = _read_disabled(text)
    if symbol in disabled:
        raise EditError(f"{symbol} is disabled already")
    return set_value(text, _DISABLED, [*disabled, symbol])


def enable_symbol(text: str, symbol: str) -> str:
    """Return the text with a disabled symbol that is loaded again."""
    _require_named(text, symbol)
    disabled = _read_disabled(text)
    if symbol not in disabled:
        raise EditError(f"{symbol} is not disabled")
    if disabled == [symbol]:
        return remove_value(text, _DISABLED)
    return remove_value(text, (*_DISABLED, disabled.index(symbol)))


def list_models(text: str, new: NewSymbol) -> list[dict[str, Any]]:
    """Return the entries with the series that a new symbol without sources of its own would get."""
    entries = _read_entries(text)
    model = _find_model(entries, new)
    return [entry for entry in entries if _is_model(entry, model)]


def find_catalog(text: str) -> str | None:
    """Return the folder with source files of one's own that a truth names."""
    return _read_settings(text).get("catalog")


def _is_model(entry: dict[str, Any], model: str) -> bool:
    """Return True for a series of a symbol that others get as well; one kept by source costs its limits."""
    return model in _list_symbols([entry]) and not entry.get("separate")


def _find_model(entries: Sequence[dict[str, Any]], new: NewSymbol) -> str:
    if new.like is not None:
        symbols = _list_symbols(entries)
        if new.like not in symbols:
            raise EditError(describe_unknown(new.like, symbols))
        return new.like
    alike = [each for each in entries if each.get("asset", AssetClass.STOCKS) == new.asset]
    if not alike:
        raise EditError(f"sources loads no {new.asset} yet: say by --from which sources serve {new.symbol}")
    return _list_symbols(alike)[0]


def _add_to(text: str, number: int, entry: dict[str, Any], symbol: str) -> str:
    """Return the text with the symbol in a list of them; one alone, or a critical one, stays as it is.

    Then there is one more entry of its own, which is not critical.
    """
    if "symbols" in entry and not entry.get("critical"):
        return set_value(text, (*_ENDPOINTS, number, "symbols", len(entry["symbols"])), symbol)
    others = {name: value for name, value in entry.items() if name not in ("symbol", "symbols", "critical")}
    return set_value(text, (*_ENDPOINTS, len(_read_entries(text))), {"symbol": symbol, **others})


def _make_entry(new: NewSymbol) -> dict[str, Any]:
    is_economic = new.asset is AssetClass.ECONOMIC
    entry = {
        "symbol": new.symbol,
        "group": new.group,
        "asset": None if new.asset is AssetClass.STOCKS else new.asset.value,
        "kind": RecordKind.OBSERVATIONS.value if is_economic else None,
        "timeframe": new.timeframe,
        "every_sec": None if new.every_sec is None else _plain(new.every_sec),
        "from": list(new.sources),
    }
    return {name: value for name, value in entry.items() if value is not None}


def _plain(number: float) -> float:
    return int(number) if number.is_integer() else number


def _require_named(text: str, symbol: str) -> None:
    symbols = _list_symbols(_read_entries(text))
    if symbol not in symbols:
        raise EditError(describe_unknown(symbol, symbols))


def _list_symbols(entries: Sequence[dict[str, Any]]) -> list[str]:
    return list(
        dict.fromkeys(each for entry in entries for each in entry.get("symbols") or [entry["symbol"]])
    )


def _read_entries(text: str) -> list[dict[str, Any]]:
    """Return the series of a valid truth. Raise EditError if it has no section of sources."""
    section = json.loads(text)["services"].get(_SECTION[-1])
    if section is None:
        raise EditError("the truth has no service sources, which loads symbols: see docs/market.md")
    return list(section.get("endpoints") or ())


def _read_disabled(text: str) -> list[str]:
    return list(_read_settings(text).get("disabled") or ())


def _read_settings(text: str) -> dict[str, Any]:
    return json.loads(text)["services"].get(_SECTION[-1], {}).get("settings") or {}
