"""Say how rows come into each table: the columns, the key, and which of two rows with one key stays. Pure.

A batch is copied into a staging table, which the connection has for itself, and merged from there. The merge
is the same whatever was written before and in whatever order batches come: a row of lower rank never replaces
one of higher rank, so an entry may be delivered again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from operator import itemgetter
from typing import Any, Final, get_type_hints

from marketswarm.keys import (
    ALERT_LOG,
    CHECKED_BARS,
    FEATURES,
    INDICATORS,
    MARKET_DOWNLOADS,
    MARKET_OBSERVATIONS,
    MARKET_QUOTES,
)
from services.archive.rows import (
    AlertRow,
    BarRow,
    DownloadRow,
    FeatureRow,
    IndicatorRow,
    ObservationRow,
    QuoteRow,
    Row,
    RowMaker,
    SymbolRow,
    make_alert_row,
    make_bar_row,
    make_download_row,
    make_feature_row,
    make_indicator_row,
    make_observation_row,
    make_quote_row,
)

_TYPES: Final = {
    str: "text",
    str | None: "text",
    float: "double precision",
    float | None: "double precision",
    int: "bigint",
    int | None: "bigint",
    bool: "boolean",
    date | None: "date",
    datetime: "timestamptz",
    datetime | None: "timestamptz",
}
_JSON: Final = "jsonb"
_JSON_COLUMNS: Final = ("values", "event")


@dataclass(frozen=True, slots=True)
class TableSchema:
    """Describe one table.

    Attributes:
        row: the class of its rows, whose fields are its columns.
        newer: the condition in SQL under which a row of the batch (`new`) replaces the one that is there
            (`old`); empty where none does.
        changes: how a replaced row's columns are set, if not simply to the new ones.
    """

    name: str
    row: type[Row | SymbolRow]
    key: tuple[str, ...]
    newer: str = ""
    changes: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        return self.row._fields

    @property
    def stage(self) -> str:
        """The name of the staging table."""
        return f"stage_{self.name}"

    @property
    def stage_sql(self) -> str:
        """The statement that makes the staging table, empty after each transaction."""
        # no checks, because each row is checked once, when it is merged
        columns = ", ".join(
            f'"{name}" {_JSON if name in _JSON_COLUMNS else _TYPES[kind]}'
            for name, kind in get_type_hints(self.row).items()
        )
        return f"CREATE TEMPORARY TABLE IF NOT EXISTS {self.stage} ({columns}) ON COMMIT DELETE ROWS"

    @property
    def merge_sql(self) -> str:
        """The statement that merges the staged rows; it needs at most one staged row of each key."""
        names = self._quoted()
        replaced = self.changes or ", ".join(
            f'"{name}" = new."{name}"' for name in self.columns if name not in self.key
        )
        action = f"UPDATE SET {replaced} WHERE {self.newer}" if self.newer else "NOTHING"
        action = action.replace("new.", "excluded.")
        return (
            f"INSERT INTO {self.name} AS old ({names}) SELECT {names} FROM {self.stage} "  # noqa: S608 - our own names
            f"ON CONFLICT ({', '.join(self.key)}) DO {action}"
        )

    def key_getter(self) -> Callable[[Any], Any]:
        return itemgetter(*map(self.columns.index, self.key))

    def _quoted(self) -> str:
        """Quote the columns, because `values` is a word of SQL."""
        return ", ".join(f'"{name}"' for name in self.columns)


# a bus that lost entries has revisions counted anew, under a higher epoch; of equal ones the later entry
_BY_REV: Final = (
    "(new.epoch, new.rev, new.final, new.stream_position) > "
    "(old.epoch, old.rev, old.final, old.stream_position)"
)
# NULL stands for an answer of unknown time, which is older than any
_BY_ANSWER: Final = (
    "(coalesce(new.asked_at, '-infinity'), new.stream_position) > "
    "(coalesce(old.asked_at, '-infinity'), old.stream_position)"
)

BARS: Final = TableSchema("bars", BarRow, ("symbol", "timeframe", "start"), _BY_REV)
QUOTES: Final = TableSchema("quotes", QuoteRow, ("symbol", "at", "source"), _BY_ANSWER)
OBSERVATIONS: Final = TableSchema("observations", ObservationRow, ("symbol", "start"), _BY_ANSWER)
INDICATOR_VALUES: Final = TableSchema("indicators", IndicatorRow, ("symbol", "timeframe", "start"), _BY_REV)
FEATURE_VALUES: Final = TableSchema(
    "features",
    FeatureRow,
    ("symbol", "start"),
    "(new.epoch, new.rev, new.stream_position) > (old.epoch, old.rev, old.stream_position)",
)
DOWNLOADS: Final = TableSchema("downloads", DownloadRow, ("id",))
ALERTS: Final = TableSchema("alerts", AlertRow, ("id",))
SYMBOLS: Final = TableSchema(
    "symbols",
    SymbolRow,
    ("symbol",),
    "(new.asset, least(new.first_seen, old.first_seen), greatest(new.last_seen, old.last_seen), "
    "new.replay AND old.replay) IS DISTINCT FROM (old.asset, old.first_seen, old.last_seen, old.replay)",
    "asset = new.asset, first_seen = least(old.first_seen, new.first_seen), "
    "last_seen = greatest(old.last_seen, new.last_seen), replay = old.replay AND new.replay",
)
TABLES: Final = (BARS, QUOTES, OBSERVATIONS, INDICATOR_VALUES, FEATURE_VALUES, DOWNLOADS, ALERTS, SYMBOLS)

STREAMS: Final[dict[str, tuple[TableSchema, RowMaker]]] = {
    CHECKED_BARS: (BARS, make_bar_row),
    INDICATORS: (INDICATOR_VALUES, make_indicator_row),
    FEATURES: (FEATURE_VALUES, make_feature_row),
    MARKET_QUOTES: (QUOTES, make_quote_row),
    MARKET_OBSERVATIONS: (OBSERVATIONS, make_observation_row),
    MARKET_DOWNLOADS: (DOWNLOADS, make_download_row),
    ALERT_LOG: (ALERTS, make_alert_row),
}
"""What the entries of each stream become, by the stream's own key."""


def keep_highest(table: TableSchema, rows: Iterable[Row]) -> list[Row]:
    """Return one row of each key, that of the highest rank, and the first of equal ones.

    They are in the order of their keys: two instances that lock the same rows lock them in the same order.
    """
    best: dict[Any, Row] = {}
    key_of = table.key_getter()
    for row in rows:
        key = key_of(row)
        known = best.get(key)
        if known is None or row.rank > known.rank:
            best[key] = row
    return [best[key] for key in sorted(best)]
