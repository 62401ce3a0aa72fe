"""Say how rows come into each table: the columns, the key, and which of two rows with one key stays. Pure.

A batch is copied into a staging table, which the connection has for itself, and merged from there. The merge
is the same whatever was written before and in whatever order batches come: a row of lower rank never replaces
one of higher rank, so an entry may be delivered again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any, Final, get_args, get_type_hints

from marketswarm.keys import (
    ALERT_LOG,
    CHECKED_BARS,
    FEATURES,
    INDICATORS,
    MARKET_ACTIONS,
    MARKET_DOWNLOADS,
    MARKET_OBSERVATIONS,
    MARKET_QUOTES,
    MEDIC_EVIDENCE,
    MEDIC_INCIDENTS,
    SOURCE_BARS,
)
from services.market.actions import find_day
from services.market.computed import FEATURE_NAMES, INDICATOR_NAMES
from services.market.fields import MAX_AHEAD_MS, EntryError, Fields
from services.tables import rows
from services.tables.rows import ColumnType, Row, RowMaker, SymbolRow

BOARD_NAME: Final = "marketswarm board"
"""The name of the sessions of the board, which only reads, as PostgreSQL shows them."""
_NEVER: Final = float("-inf")
# a bus that lost entries has revisions counted again, under a higher epoch; of equal ones the later entry
_BY_REV: Final = ("epoch", "rev", "final", "stream_position")
_BY_ANSWER: Final = ("asked_at", "stream_position")
_COLUMN_TYPES: Final = {
    str: ColumnType.TEXT,
    float: ColumnType.NUMBER,
    int: ColumnType.COUNT,
    bool: ColumnType.FLAG,
}
_STAGED: Final = {
    ColumnType.TEXT: "text",
    ColumnType.NUMBER: "double precision",
    ColumnType.COUNT: "bigint",
    ColumnType.FLAG: "boolean",
    ColumnType.DATE: "text",
    ColumnType.TIME: "bigint",
    ColumnType.JSON: "jsonb",
}
"""How a staging table holds a column of each type."""
_MERGED: Final = {
    ColumnType.TIME: """timestamptz 'epoch' + "{0}" * interval '1 ms'""",
    ColumnType.DATE: '"{0}"::date',
}
"""How a staged column becomes the table's, if not as it is."""
_SELECTED: Final = {
    ColumnType.TIME: '(extract(epoch from "{0}") * 1000)::bigint',
    ColumnType.DATE: """to_char("{0}", 'YYYY-MM-DD')""",
}
"""How a column of a table becomes a column of a row, if not as it is."""
VALUE_NAMES: Final = {"indicators": INDICATOR_NAMES, "features": FEATURE_NAMES}
"""By table, the names in its column of JSON that have columns of their own in files and Arrow streams."""
_UNIX_TIMES: Final = ("start", "at", "asked_at", "epoch")
"""The columns of records that are times of a writer's clock."""
_PAST_DAYS: Final = ("ex_day",)
"""The columns of dates that have come."""

# Of each period the values in the order in which they were known, without those that repeat the one before:
# whatever comes, and in whatever order, a series that is asked for each hour has a row for each revision.
_MERGE_VINTAGES: Final = """
WITH staged AS (
    SELECT symbol, timestamptz 'epoch' + start * interval '1 ms' AS start, value,
        timestamptz 'epoch' + known_at * interval '1 ms' AS known_at, source,
        timestamptz 'epoch' + asked_at * interval '1 ms' AS asked_at, digest, replay, stream_position
    FROM stage_observation_vintages
), versions AS (
    SELECT DISTINCT ON (symbol, start, known_at) * FROM (
        SELECT * FROM staged
        UNION ALL
        SELECT kept.symbol, kept.start, kept.value, kept.known_at, kept.source, kept.asked_at, kept.digest,
            kept.replay, kept.stream_position
        FROM observation_vintages kept
        JOIN (SELECT DISTINCT symbol, start FROM staged) asked USING (symbol, start)
    ) found ORDER BY symbol, start, known_at, stream_position DESC
), steps AS (
    SELECT *, value IS NOT DISTINCT FROM lag(value) OVER (PARTITION BY symbol, start ORDER BY known_at)
        AS is_repeated
    FROM versions
), removed AS (
    DELETE FROM observation_vintages kept USING steps
    WHERE is_repeated AND kept.symbol = steps.symbol AND kept.start = steps.start
        AND kept.known_at = steps.known_at
)
INSERT INTO observation_vintages AS old
    (symbol, start, value, known_at, source, asked_at, digest, replay, stream_position)
SELECT symbol, start, value, known_at, source, asked_at, digest, replay, stream_position
FROM steps WHERE NOT is_repeated
ON CONFLICT (symbol, start, known_at) DO UPDATE SET value = excluded.value, source = excluded.source,
    asked_at = excluded.asked_at, digest = excluded.digest, replay = excluded.replay,
    stream_position = excluded.stream_position
WHERE excluded.stream_position > old.stream_position
"""


@dataclass(frozen=True, eq=False)
class TableSchema:
    """Describe one table, whose columns are the fields of `row`.

    Attributes:
        rank: the columns by which one of two rows with one key stays: the greater one. A null is the least.
            Empty where the first one stays.
        newer: the condition in SQL under which a row of the batch (`new`) replaces the one that is there
            (`old`), if not by the rank.
        changes: how a replaced row's columns are set, if not simply to the new ones.
        merge: the statement that merges the staged rows, if not by the rank.
        kept: the columns in which a row that replaces another keeps that one's value where it has none.
    """

    name: str
    row: type[Row | SymbolRow]
    key: tuple[str, ...]
    rank: tuple[str, ...] = ()
    newer: str = ""
    changes: str = ""
    merge: str = ""
    kept: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return self.row._fields

    @cached_property
    def types(self) -> Mapping[str, ColumnType]:
        hints = get_type_hints(self.row, include_extras=True)
        return {name: _find_type(hint) for name, hint in hints.items()}

    @cached_property
    def answered(self) -> Mapping[str, ColumnType]:
        """The columns of an answer about one key without its last column, such as all starts of a chart."""
        names = self.columns[len(self.key) - 1 : -1]
        return {name: self.types[name] for name in names}

    @property
    def stage(self) -> str:
        return f"stage_{self.name}"

    @property
    def stage_sql(self) -> str:
        """The statement that makes the staging table, empty after each transaction."""
        # no checks: each row is checked once, when it is merged
        columns = ", ".join(f'"{name}" {_STAGED[kind]}' for name, kind in self.types.items())
        return f"CREATE TEMPORARY TABLE IF NOT EXISTS {self.stage} ({columns}) ON COMMIT DELETE ROWS"

    @property
    def merge_sql(self) -> str:
        """The statement that merges the staged rows; it needs at most one staged row of each key."""
        if self.merge:
            return self.merge
        replaced = self.changes or ", ".join(
            f'"{name}" = {self._replace_column(name)}' for name in self.columns if name not in self.key
        )
        newer = self.newer or self._compare_ranks()
        action = f"UPDATE SET {replaced} WHERE {newer}" if newer else "NOTHING"
        action = action.replace("new.", "excluded.")
        return (
            f"INSERT INTO {self.name} AS old ({self._list(self.columns, {})}) "  # noqa: S608 - our own names
            f"SELECT {self._list(self.columns, _MERGED)} FROM {self.stage} "
            f"ON CONFLICT ({', '.join(self.key)}) DO {action}"
        )

    def keep_values(self, row: Row, replaced: Row) -> Row:
        """Return a row with the values of the row that it replaces in the columns of `kept` that it lacks."""
        lacking = [name for name in self.kept if getattr(row, name) is None]
        return row._replace(**{name: getattr(replaced, name) for name in lacking}) if lacking else row

    def list_selected(self, names: Iterable[str]) -> str:
        """Return what a SELECT lists so that these columns come as they are in a row."""
        return self._list(names, _SELECTED)

    @cached_property
    def key_of(self) -> Callable[[Any], Any]:
        return itemgetter(*map(self.columns.index, self.key))

    def rank_of(self, row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(_NEVER if (cell := row[place]) is None else cell for place in self._rank_places)

    @cached_property
    def _rank_places(self) -> Sequence[int]:
        return tuple(map(self.columns.index, self.rank))

    @cached_property
    def time_columns(self) -> Sequence[tuple[str, int]]:
        """The columns that are times of a writer's clock, in epoch milliseconds, and their places."""
        return [(name, place) for place, name in enumerate(self.columns) if name in _UNIX_TIMES]

    @cached_property
    def day_columns(self) -> Sequence[tuple[str, int]]:
        """The columns that are dates that have come, as texts, and their places."""
        return [(name, place) for place, name in enumerate(self.columns) if name in _PAST_DAYS]

    def require_past(self, row: Sequence[Any], now_ms: float) -> None:
        """Raise EntryError if a time of a row is more than MAX_AHEAD_MS after `now_ms`.

        Such a row would never be replaced, and have a partition of its own that is never old enough to go.
        """
        for name, place in self.time_columns:
            if row[place] is not None and row[place] > now_ms + MAX_AHEAD_MS:
                raise EntryError(f"{name}: more than a day ahead")
        for name, place in self.day_columns:
            if row[place] > find_day(round(now_ms) + MAX_AHEAD_MS).isoformat():
                raise EntryError(f"{name}: more than a day ahead")

    def _replace_column(self, name: str) -> str:
        return f'coalesce(new."{name}", old."{name}")' if name in self.kept else f'new."{name}"'

    def _compare_ranks(self) -> str:
        """Return the condition in SQL that `new` has a greater rank than `old`; empty without ranks."""
        # NULL stands for an unknown time, which is before any
        forms = {ColumnType.TIME: "coalesce({1}.{0}, '-infinity')"}
        sides = (
            ", ".join(forms.get(self.types[name], "{1}.{0}").format(name, side) for name in self.rank)
            for side in ("new", "old")
        )
        return "({}) > ({})".format(*sides) if self.rank else ""

    def _list(self, names: Iterable[str], forms: Mapping[ColumnType, str]) -> str:
        """Return columns in SQL, each in the form of its type, and quoted: `values` is a word of SQL."""
        return ", ".join(forms.get(self.types[name], '"{0}"').format(name) for name in names)


def _find_type(hint: Any) -> ColumnType:
    for each in (hint, *get_args(hint)):
        if hasattr(each, "__metadata__"):
            kind: ColumnType = each.__metadata__[0]
            return kind
        if each in _COLUMN_TYPES:
            return _COLUMN_TYPES[each]
    raise TypeError(f"{hint}: no type of a column")


BAR_TABLE: Final = TableSchema(
    "bars", rows.BarRow, ("symbol", "timeframe", "start"), _BY_REV, kept=("known_at",)
)
SOURCE_BAR_TABLE: Final = TableSchema(
    "source_bars", rows.BarRow, ("symbol", "timeframe", "start", "source"), _BY_REV, kept=("known_at",)
)
"""The bars that are loaded from one source for itself, beside those of the symbol in `bars`."""
QUOTE_TABLE: Final = TableSchema("quotes", rows.QuoteRow, ("symbol", "at", "source"), _BY_ANSWER)
OBSERVATION_TABLE: Final = TableSchema(
    "observations",
    rows.ObservationRow,
    ("symbol", "start"),
    _BY_ANSWER,
    # the same value that is asked for again was known before
    changes="known_at = CASE WHEN old.value = new.value THEN least(old.known_at, new.known_at) "
    "ELSE new.known_at END, value = new.value, source = new.source, asked_at = new.asked_at, "
    "digest = new.digest, replay = new.replay, stream_position = new.stream_position",
)
VINTAGE_TABLE: Final = TableSchema(
    "observation_vintages",
    rows.ObservationRow,
    ("symbol", "start", "known_at"),
    ("stream_position",),
    merge=_MERGE_VINTAGES,
)
"""Every value of each observation, with when it was known: the archive writes each observation here, too."""
ACTION_TABLE: Final = TableSchema("actions", rows.ActionRow, ("symbol", "ex_day", "kind"), _BY_ANSWER)
INDICATOR_TABLE: Final = TableSchema(
    "indicators", rows.IndicatorRow, ("symbol", "timeframe", "start"), _BY_REV, kept=("known_at",)
)
FEATURE_TABLE: Final = TableSchema(
    "features", rows.FeatureRow, ("symbol", "start"), ("epoch", "rev", "stream_position")
)
DOWNLOAD_TABLE: Final = TableSchema("downloads", rows.DownloadRow, ("id",))
ALERT_TABLE: Final = TableSchema("alert_log", rows.AlertRow, ("id",))
INCIDENT_TABLE: Final = TableSchema("incident_events", rows.IncidentEventRow, ("id",))
EVIDENCE_TABLE: Final = TableSchema("incident_evidence", rows.EvidenceRow, ("id",))
SYMBOL_TABLE: Final = TableSchema(
    "symbols",
    SymbolRow,
    ("symbol",),
    newer="(new.asset, least(new.first_seen, old.first_seen), greatest(new.last_seen, old.last_seen), "
    "new.replay AND old.replay) IS DISTINCT FROM (old.asset, old.first_seen, old.last_seen, old.replay)",
    changes="asset = new.asset, first_seen = least(old.first_seen, new.first_seen), "
    "last_seen = greatest(old.last_seen, new.last_seen), replay = old.replay AND new.replay",
)
STREAMS: Final[dict[str, tuple[TableSchema, RowMaker]]] = {
    CHECKED_BARS: (BAR_TABLE, rows.make_bar_row),
    SOURCE_BARS: (SOURCE_BAR_TABLE, rows.make_source_bar_row),
    INDICATORS: (INDICATOR_TABLE, rows.make_indicator_row),
    FEATURES: (FEATURE_TABLE, rows.make_feature_row),
    MARKET_QUOTES: (QUOTE_TABLE, rows.make_quote_row),
    MARKET_OBSERVATIONS: (OBSERVATION_TABLE, rows.make_observation_row),
    MARKET_ACTIONS: (ACTION_TABLE, rows.make_action_row),
    MARKET_DOWNLOADS: (DOWNLOAD_TABLE, rows.make_download_row),
    ALERT_LOG: (ALERT_TABLE, rows.make_alert_row),
    MEDIC_INCIDENTS: (INCIDENT_TABLE, rows.make_incident_event_row),
    MEDIC_EVIDENCE: (EVIDENCE_TABLE, rows.make_evidence_row),
}
"""What the entries of each stream become, by the stream's own key."""
TABLES: Final = (*(table for table, _ in STREAMS.values()), VINTAGE_TABLE, SYMBOL_TABLE)


def make_row(
    stream: str, ident: bytes, fields: Fields, now: float
) -> tuple[TableSchema, Row, SymbolRow | None]:
    """Return the table and the row of an entry of a stream at `now` (epoch seconds), and that of its symbol.

    Raises EntryError if the entry is invalid.
    """
    table, make = STREAMS[stream]
    row, symbol = make(ident, fields)
    table.require_past(row, 1000 * now)
    return table, row, symbol


def keep_highest(table: TableSchema, found: Iterable[Row]) -> list[Row]:
    """Return one row of each key: the row of the highest rank, and the first of equal ones.

    Where it lacks a value of `kept`, it has that of the row that it replaces. They are in the order of their
    keys: two instances that lock the same rows lock them in the same order.
    """
    best: dict[Any, Row] = {}
    for row in found:
        key = table.key_of(row)
        known = best.get(key)
        if known is None:
            best[key] = row
        elif table.rank_of(row) > table.rank_of(known):
            best[key] = table.keep_values(row, known)
    return [best[key] for key in sorted(best)]
