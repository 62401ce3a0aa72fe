"""See the market as of an instant of the past: which symbols it had then, and what may be said of it.

The archive knows since some day which symbols the truth had. As of an earlier instant the universe is every
symbol that had a record by then, and each answer says which of both it is.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import Depends, Query, params

from services.board.market.feed import MarketStates
from services.board.market.query import QueryError
from services.board.market.states import OBSERVATIONS, StoredSeries
from services.board.market.tables import format_time
from services.market.records import AssetClass
from services.tables.rows import Cells

MAX_AS_OF: Final = 40  # characters of a request
AsOf = Annotated[
    str | None, Query(max_length=MAX_AS_OF, description="Only what was known by then; a date is its end.")
]
_DAILY: Final = "1d"


class UniverseOf(StrEnum):
    """Name where the symbols of a past instant are from."""

    TRUTH = "truth"
    """Those that the truth named then."""
    RECORDS = "records"
    """Those that had a record by then: the truth of that time is not known."""


@dataclass(frozen=True, slots=True)
class PastMarket:
    """Hold the symbols of an instant as series, with the groups of then.

    `at_ms` and `known_since` (None: nothing is known) are epoch milliseconds; from the second on it is known
    what the truth had.
    """

    at_ms: int
    states: MarketStates
    of: UniverseOf
    known_since: int | None

    def describe(self) -> dict[str, Any]:
        """Return what an answer says of its universe."""
        return {"of": self.of, "known_since": self.known_since}

    @property
    def headers(self) -> dict[str, str]:
        """The same for answers that have no place for it."""
        since = "" if self.known_since is None else f"; known since {format_time(self.known_since)}"
        return {"X-Universe": f"{self.of}{since}"}

    def list_symbols(self, asset: str | None, *, is_series: bool = False) -> list[str]:
        """Return the symbols by name, or the economic series; those of a class if one is given."""
        return [
            one.symbol
            for one in self.states.series
            if (one.kind == OBSERVATIONS) is is_series and asset in {None, one.asset}
        ]


def make_past(
    at_ms: int, known_since: int | None, rows: list[Cells], now: Mapping[str, tuple[StoredSeries, ...]]
) -> PastMarket:
    """Return the market of an instant. `rows` have symbol, class, label and whether it is an economic series.

    If the universe of then is not known, the label is None: then it is that of the series that are loaded
    `now`, by symbol. Prices of the past are the closes of days.
    """
    series = tuple(_make_series(row, now.get(row[0], ())) for row in rows)
    by_symbol: dict[str, tuple[StoredSeries, ...]] = {one.symbol: (one,) for one in series}
    is_known = known_since is not None and at_ms >= known_since
    of = UniverseOf.TRUTH if is_known else UniverseOf.RECORDS
    return PastMarket(at_ms, MarketStates(series, by_symbol=by_symbol), of, known_since)


def _make_series(row: Cells, now: tuple[StoredSeries, ...]) -> StoredSeries:
    symbol, asset, label, is_series = row
    is_observed = asset == AssetClass.ECONOMIC if is_series is None else is_series
    return StoredSeries(
        id=symbol,
        symbol=symbol,
        kind=OBSERVATIONS if is_observed else "bars",
        timeframe=_DAILY,
        asset=asset,
        group=label if label is not None else next((one.group for one in now if one.group), None),
    )


def refuse_past(why: str) -> params.Depends:
    """Return a dependency that refuses `as_of` by name, for what has no past that could be shown."""

    async def refuse(as_of: Annotated[str | None, Query(include_in_schema=False)] = None) -> None:
        """Raise QueryError if a request has `as_of`. A coroutine, since FastAPI runs others in a thread."""
        if as_of is not None:
            raise QueryError(f"as_of: {why}")

    refusing: Callable[..., Awaitable[None]] = refuse
    found: params.Depends = Depends(refusing)
    return found
