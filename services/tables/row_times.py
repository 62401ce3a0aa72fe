"""Say which tables there are, which column dates their rows, and how the newest row of one is found. Pure."""

from collections.abc import Mapping
from typing import Final

from services.tables.signals import SIGNAL_TABLES
from services.tables.tables import TABLES

TABLE_NAMES: Final = (
    *("bars", "source_bars", "quotes", "observations", "observation_vintages", "actions", "indicators"),
    *("features", "symbols", "universes", "sources", "source_health"),
    *("downloads", "correlations", "correlated_days", "alert_log"),
    *("alert_counts", "incidents", "incident_events", "incident_evidence"),
    *SIGNAL_TABLES,
)
"""Every table of the schema."""
ROW_TIMES: Final[Mapping[str, str]] = {
    **{table.name: table.time_columns[0][0] for table in TABLES if table.time_columns},
    "actions": "ex_day",
    "correlations": "day",
    "universes": "known_at",
    "source_health": "at",
    "alert_counts": "day",
    "incidents": "opened_at",
}
"""By table, the column that says how new a row is."""

WINDOWS_SEC: Final = (3600.0, 86_400.0, 7 * 86_400.0, 60 * 86_400.0, 730 * 86_400.0, float("inf"))
"""How far back the newest row is looked for, one after the other: the long tables have no index that ends
with their last row, and the blocks of a short time are found by their BRIN index, or are one partition."""


def format_newest(table: str) -> str:
    """Return the SELECT of the time of the newest row of a table, and of its age, since an instant.

    Both are in seconds, the instant is its parameter (epoch seconds). A row ahead of the server's clock does
    not count; without one there is no result.
    """
    column = ROW_TIMES[table]
    return (
        "SELECT extract(epoch FROM newest)::float8, extract(epoch FROM now() - newest)::float8 "  # noqa: S608 - our own names
        f"FROM (SELECT max({column})::timestamptz AS newest FROM {table} "
        f"WHERE {column} >= to_timestamp($1::float8) AND {column} <= now()) found WHERE newest IS NOT NULL"
    )
