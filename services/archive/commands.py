"""Implement `marketswarm archive backup`, `restore`, `verify`, `export` and `refused`."""

import os
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import orjson
import typer

from marketswarm.bus import Bus
from marketswarm.bus.stream import StreamEntry, read_entries_before
from marketswarm.cli import event_loop, output
from marketswarm.cli.data_folder import DATA, read_database
from marketswarm.cli.fleet_view import FleetView, ask_fleet
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.options import Data, Json, argument, option
from marketswarm.cli.tables import show
from marketswarm.exit import Exit, Mistake
from marketswarm.postgres.errors import PostgresAwayError
from marketswarm.postgres.pool import open_connection
from marketswarm.settings import read_settings
from marketswarm.text import describe_url, escape_text
from marketswarm.truth import suggest_name
from services.archive.backup import Backup, BackupError, make_backup
from services.archive.export import (
    SYMBOL_TABLES,
    ExportedFile,
    ExportError,
    Period,
    export_table,
    read_adjuster,
    read_range,
)
from services.archive.restore import restore_backup, verify_backup
from services.archive.settings import ArchiveEnvironment, find_dead_letter_key, find_streams
from services.tables.adjusted_bars import Adjust

T = TypeVar("T")

SERVICE: Final = "archive"
FAILED: Final = 1
"""The exit code of a backup that can't be made, verified or restored."""
_EXPORT_SEC: Final = 6 * 3600.0
_MOST: Final = 10_000
_WORDS: Final = (b"stream", b"entry", b"reason")

_REPLACE_HELP: Final = (
    "Replace the whole database; archive's sessions are ended. Before, stop board, signals and whatever else "
    "reads it: `marketswarm stop board` and `marketswarm stop signals`, `docker compose stop board signals`, "
    "`systemctl stop marketswarm@board marketswarm@signals`, or `kubectl -n marketswarm scale "
    "deployment/board deployment/signals --replicas=0`."
)

File = Annotated[Path, argument("FILE", "The dump, or its manifest, of a backup.")]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Hold an entry that was refused at `refused_at` (epoch seconds), with its first fields, cut."""

    stream: str
    entry: str
    reason: str
    refused_at: float
    fields: Mapping[str, str]


def backup(
    to: Annotated[Path | None, option("--to", "DIR", "The folder; by default the service's own.")] = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Save the database in a file, with a manifest of what is in it."""
    url, programs = find_database(data)
    folder = to or Path(os.environ.get("ARCHIVE_BACKUP_FOLDER") or data / "backups")
    made = _run(make_backup(url, folder, time.time(), programs))
    _print_backup(f"saved to {folder / made.file}", made, as_json=as_json)


def restore(
    file: File,
    *,
    replace: Annotated[bool, typer.Option("--replace", help=_REPLACE_HELP)] = False,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Restore a backup into the database in one transaction, and compare it with what was saved.

    What was stored since the backup is lost.
    """
    url, programs = find_database(data)
    made = _run(restore_backup(url, file, programs, replace=replace))
    _print_backup(f"restored into {describe_url(url)}, as it was saved", made, as_json=as_json)


def verify(file: File, data: Data = DATA, as_json: Json = False) -> None:
    """Restore a backup into a database of its own, compare it with what was saved, and drop it again."""
    url, programs = find_database(data)
    made = _run(verify_backup(url, file, programs))
    _print_backup(f"{made.file} can be restored, as it was saved", made, as_json=as_json)


def export(
    table: Annotated[str, argument("TABLE", f"One of {', '.join(SYMBOL_TABLES)}.")],
    to: Annotated[Path, option("--to", "DIR", "The folder for the files.")],
    *,
    symbol: Annotated[
        list[str] | None, option("--symbol", "SPY", "Only this one; may be given again.")
    ] = None,
    since: Annotated[datetime | None, option("--from", "DAY", "The first day, in UTC.")] = None,
    until: Annotated[datetime | None, option("--until", "DAY", "The day after the last one, in UTC.")] = None,
    by: Annotated[Period, typer.Option("--by", help="What a file has the rows of, in UTC.")] = "month",
    as_of: Annotated[
        datetime | None, option("--as-of", "DAY", "Only what was known by the end of this day, in UTC.")
    ] = None,
    adjust: Annotated[
        Adjust | None,
        typer.Option(
            help="Bars as traded, or adjusted up to today, or --as-of; by default as their sources gave them."
        ),
    ] = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Write a table as Parquet files, one for each month or each day."""
    if table not in SYMBOL_TABLES:
        raise typer.BadParameter(f"{table!r} is not one of {', '.join(SYMBOL_TABLES)}", param_hint="TABLE")
    if adjust is not None and table != "bars":
        raise typer.BadParameter(f"only bars can be adjusted, {table} can't", param_hint="--adjust")
    url, _ = find_database(data)
    known = None if as_of is None else _end_day(as_of.replace(tzinfo=UTC))
    files = _run(_export_all(url, table, to, (since, until), symbol or (), by=by, as_of=known, adjust=adjust))
    if as_json:
        output.print_json([{"file": str(each.path), "rows": each.rows} for each in files])
        return
    for each in files:
        output.print_line(f"{each.path}  {each.rows:,} rows")
    output.print_line(f"{sum(each.rows for each in files):,} rows of {table} in {len(files)} files")


def refused(
    count: Annotated[int, option("--count", "50", "How many, from the newest.", min=1, max=_MOST)] = 50,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """List the entries that archive refused, the newest first: each stream keeps about the last thousand."""
    letters, now = ask_fleet(data, lambda fleet: _read_refused(fleet, count)), time.time()
    show(
        letters,
        {
            "since": lambda each: format_moment(each.refused_at, now),
            "stream": lambda each: each.stream,
            "entry": lambda each: each.entry,
            "reason": lambda each: each.reason,
            "fields": lambda each: ", ".join(f"{name}={value}" for name, value in each.fields.items())[:200],
        },
        as_json=as_json,
        empty="archive refused nothing",
    )


def find_database(data: Path) -> tuple[str, Path | None]:
    """Return the URL of the database and the folder of its programs (None: those on PATH).

    They are of the environment, otherwise of the embedded fleet in the folder `data`. Raises Exit, code 2.
    """
    settings = read_settings(ArchiveEnvironment)
    if settings.database_url is not None:
        return settings.database_url, settings.postgres_bin
    url, programs = read_database(data)
    return url, settings.postgres_bin or programs


def parse_dead_letter(entry: StreamEntry) -> DeadLetter | None:
    raw = entry.fields or {}
    try:
        fields, refused_at = orjson.loads(raw[b"fields"]), float(raw[b"ts"])
        stream, ident, reason = (raw[name].decode("utf-8", "replace") for name in _WORDS)
        is_letter = isinstance(fields, dict) and all(isinstance(value, str) for value in fields.values())
        if not is_letter or not isfinite(refused_at):
            return None
        return DeadLetter(stream, ident, reason, refused_at, fields)
    except (KeyError, ValueError):
        return None


async def read_dead_letters(bus: Bus, key: str, count: int) -> list[DeadLetter]:
    """Return up to `count` dead letters, the newest first, without what others wrote. Raises BusError."""
    found: list[DeadLetter] = []
    before = b"+"
    while len(found) < count and (page := await read_entries_before(bus, key, before, count=count)):
        found += filter(None, map(parse_dead_letter, page))
        before = b"(" + page[-1].id
    return found[:count]


async def _read_refused(fleet: FleetView, count: int) -> list[DeadLetter]:
    section = fleet.require_section(SERVICE, ", which keeps these entries")
    points = section.access_points.subscribe_to
    key = find_dead_letter_key(section)
    streams = (*find_streams(points), *find_streams(points, followed=True))
    found = [
        letter
        for bus in dict.fromkeys(stream.bus for stream in streams)
        for letter in await read_dead_letters(fleet.bus(bus), key, count)
    ]
    return sorted(found, key=lambda each: each.refused_at, reverse=True)[:count]


def _end_day(at: datetime) -> datetime:
    """Return the end of a day that is given by its midnight; a time of the day as it is."""
    return at + timedelta(days=1) if at == at.replace(hour=0, minute=0, second=0) else at


async def _export_all(
    url: str,
    table: str,
    folder: Path,
    days: tuple[datetime | None, datetime | None],
    symbols: Sequence[str],
    *,
    by: Period,
    as_of: datetime | None,
    adjust: Adjust | None,
) -> list[ExportedFile]:
    """Export the rows from the first day on and before the second one; None sets no bound."""
    async with open_connection(url, _EXPORT_SEC) as connection:
        await _require_known(connection, table, symbols)
        found = await read_range(connection, table)
        if found is None:
            return []
        (first, last), (since, until) = found, days
        first = max(first, since.replace(tzinfo=UTC)) if since else first
        end = until.replace(tzinfo=UTC) if until else last + timedelta(milliseconds=1)
        adjusted = None
        if adjust is not None:
            at_ms = round(1000 * (time.time() if as_of is None else as_of.timestamp()))
            adjusted = await read_adjuster(connection, adjust, at_ms, symbols, as_of=as_of)
        span = first, end
        written = export_table(
            connection, table, folder, span, symbols, by=by, as_of=as_of, adjusted=adjusted
        )
        return [each async for each in written]


async def _require_known(connection: Any, table: str, symbols: Sequence[str]) -> None:
    """Raise Mistake for a symbol that neither the table nor the archive's list of symbols has."""
    known = [row[0] for row in await connection.fetch("SELECT symbol FROM symbols ORDER BY symbol")]
    has_rows = f"SELECT EXISTS (SELECT FROM {table} WHERE symbol = $1)"  # noqa: S608 - our own names
    for symbol in symbols:
        if symbol not in known and not await connection.fetchval(has_rows, symbol):
            hint = suggest_name(symbol, known, "there are")
            raise Mistake(f"the archive has no symbol {escape_text(symbol)[:60]}; {hint}")


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return event_loop.run(work)
    except (BackupError, ExportError, PostgresAwayError) as error:
        raise Exit(FAILED, str(error)) from None


def _print_backup(sentence: str, made: Backup, *, as_json: bool) -> None:
    if as_json:
        tables = {table: each.rows for table, each in made.tables.items()}
        output.print_json({"file": made.file, "size": made.size, "sha256": made.sha256, "tables": tables})
        return
    output.print_line(sentence)
    rows = sum(each.rows for each in made.tables.values())
    output.print_line(
        f"  {rows:,} rows in {len(made.tables)} tables, {made.size:,} bytes, schema {made.schema}"
    )
