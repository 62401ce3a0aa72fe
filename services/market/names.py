"""List the names of symbols and economic series that a truth has. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from marketswarm.keys import CHECKED_BARS, MARKET_SERIES
from marketswarm.truth import Service, Truth
from services.market.records import AssetClass, RecordKind
from services.market.universe import list_entry_symbols


@dataclass(frozen=True, slots=True)
class KnownName:
    """Hold what is known of a symbol, or of an economic series (`is_series`).

    `names` are what else it is called, such as the company, by `settings.symbols` of a service of the truth.
    `first_seen` and `last_seen` are the times of its oldest and newest record in the archive, in epoch
    milliseconds; None while it has none. `replay` says whether all of them were played from a recording.
    """

    symbol: str
    asset: str
    is_series: bool = False
    group: str | None = None
    names: tuple[str, ...] = ()
    first_seen: int | None = None
    last_seen: int | None = None
    replay: bool = False


def list_truth_names(truth: Truth) -> dict[str, KnownName]:
    """Return the names in the endpoints of the services that publish checked bars or series."""
    found: dict[str, KnownName] = {}
    for key in (MARKET_SERIES, CHECKED_BARS):
        for section in truth.services.values():
            if any(point.key == key for point in section.access_points.publish_to):
                for one in _list_names_of(section):
                    found.setdefault(one.symbol, one)
    called = list_other_names(truth)
    return {symbol: replace(one, names=called.get(symbol, ())) for symbol, one in found.items()}


def list_loaded_names(truth: Truth) -> dict[str, KnownName]:
    """Return the same names without those that `settings.disabled` of their service takes out."""
    disabled = {
        symbol
        for section in truth.services.values()
        if isinstance(found := section.settings.get("disabled"), list)
        for symbol in found
        if isinstance(symbol, str)
    }
    return {symbol: one for symbol, one in list_truth_names(truth).items() if symbol not in disabled}


def list_other_names(truth: Truth) -> dict[str, tuple[str, ...]]:
    """Return what symbols are called, by `settings.symbols` of services, as vexy_ai has it."""
    found: dict[str, tuple[str, ...]] = {}
    for section in truth.services.values():
        called = section.settings.get("symbols")
        if isinstance(called, dict):
            for symbol, names in called.items():
                if isinstance(names, list):
                    found[symbol] = tuple(one for one in names if isinstance(one, str))
    return found


def _list_names_of(section: Service) -> Iterator[KnownName]:
    for entry in section.endpoints:
        if isinstance(entry, dict) and entry.get("separate") is not True:
            asset, group = str(entry.get("asset", AssetClass.STOCKS)), entry.get("group")
            is_series = entry.get("kind") == RecordKind.OBSERVATIONS
            for symbol in list_entry_symbols(entry):
                yield KnownName(symbol, asset, is_series, group if isinstance(group, str) else None)
