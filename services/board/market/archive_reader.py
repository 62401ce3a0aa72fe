"""Read the market from PostgreSQL: only SELECT, with limits of time, over a small pool of connections.

The board works without a database; every method raises DatabaseAwayError with a reason that its reader
understands, and what comes from the streams is shown all the same.

A database that does not answer in time is away, as its pool notes. Then every question is answered at once
with the reason, and only `watch` asks the database, until it answers again, so no page waits for it twice.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from marketswarm import log as logs
from marketswarm.agent.requests import RequestOutcome
from marketswarm.bus.stored_values import MAX_AHEAD_SEC
from marketswarm.web.cache import Cached
from services.board.market.many_rows import (
    format_known,
    format_vintages,
    list_values,
    select_page,
    select_stream,
)
from services.board.market.query import TableQuery, parse_quote_cursor
from services.board.market.query_times import find_kind, make_query_histogram
from services.market.adjust import Adjuster, GivenClose
from services.tables.adjusted_bars import (
    SHARE_SQL,
    Adjust,
    adjust_closes,
    find_row_day,
    make_adjusters,
    make_basis,
)
from services.tables.rows import ACTION_CELLS, QUOTE_CELLS, Cells
from services.tables.tables import (
    ACTION_TABLE,
    BOARD_NAME,
    DOWNLOAD_TABLE,
    OBSERVATION_TABLE,
    QUOTE_TABLE,
    SYMBOL_TABLE,
    TableSchema,
)

if TYPE_CHECKING:
    from marketswarm.postgres.pool import ConnectionPool, DatabaseAway

CONNECT_SEC: Final = 3.0  # a server that has opened no connection by then is away
STATEMENT_SEC: Final = 2.5  # the server ends a longer statement itself, which shows that it is there
FETCH_SEC: Final = 3.5  # a server that has not even ended a statement by then is away
ANSWER_SEC: Final = 4.0
"""How long all queries of one answer may take together, with connecting; the database may be there all the
same. The guard gives up an answer after ten seconds."""
RECONNECT_SEC: Final = 20.0
"""How long it may take to open the connections again."""
CONNECTIONS: Final = 8
STREAMS: Final = 4
"""How many Arrow streams may be sent at once, each over a connection of its own besides."""
STREAM_SEC: Final = 900.0
"""How long a stream may take. The database keeps the old versions of rows for it until then."""
MAX_ASSETS: Final = 20_000  # the most symbols whose asset class is kept, and of one answer
ASSET_SEC: Final = 60.0  # how long an asset class is kept, because the truth may name another one
NOT_SET: Final = "no archive: DATABASE_URL is not set, so the board has only what came since it began"
OLD_SCHEMA: Final = "the archive lacks tables of this version: its service makes them when it starts"
NO_DRIVER: Final = "the driver asyncpg is not installed: the extra `archive` has it"
NO_ANSWER: Final = "the database did not answer in time"
TOO_BUSY: Final = "the database needs too long for this now"
_EXPLAINED: Final = {"42P01": OLD_SCHEMA, "42703": OLD_SCHEMA, "57014": TOO_BUSY}
"""PostgreSQL's codes for a table or a column that is not there, and for a statement that took too long."""

log = logs.get("board")

V = TypeVar("V")

_QUOTE_LIST: Final = QUOTE_TABLE.list_selected(QUOTE_CELLS)
_QUOTES: Final = f"""
select {_QUOTE_LIST} from quotes where symbol = $1
and ($2::bigint is null or at >= to_timestamp($2::bigint / 1000.0))
and ($3::bigint is null or at < to_timestamp($3::bigint / 1000.0))
and ($4::bigint is null or (at, source) < (to_timestamp($4::bigint / 1000.0), $5::text))
and ($7::bigint is null or at <= to_timestamp($7::bigint / 1000.0))
order by at desc, source desc limit $6"""  # noqa: S608 - our own names
# All of a day: a page that ended within one would lose the others.
_ACTIONS: Final = f"""
select {ACTION_TABLE.list_selected(ACTION_CELLS)} from actions where symbol = $1 and not withdrawn
and ($2::bigint is null or ex_day >= to_timestamp($2::bigint / 1000.0))
and ($3::bigint is null or ex_day < to_timestamp($3::bigint / 1000.0))
and ($5::date is null or ex_day <= $5)
order by ex_day desc fetch first $4 rows with ties"""  # noqa: S608 - our own names
_LATEST_QUOTES: Final = f"""
select {_QUOTE_LIST} from (
  select found.* from unnest($1::text[]) as wanted(symbol)
  cross join lateral (
    select * from quotes where symbol = wanted.symbol
    and at <= to_timestamp($2::bigint / 1000.0) order by at desc limit 1
  ) as found
) as latest"""  # noqa: S608 - our own names
# One step of an index for each symbol, because to read all quotes would take minutes.
_QUOTED: Final = """
with recursive walk(symbol, n) as (
  select (select symbol from quotes order by symbol limit 1)::text, 1
  union all
  select (
    select symbol from quotes as one where one.symbol > walk.symbol order by one.symbol limit 1
  )::text, n + 1 from walk where symbol is not null and n < $1
)
select symbol from walk where symbol is not null"""
# the last record by then is not known without a search, and no later one than that is named
_SYMBOLS: Final = f"""
select {SYMBOL_TABLE.list_selected(SYMBOL_TABLE.columns)} from (
  select symbol, asset, first_seen, least(last_seen, to_timestamp($4::bigint / 1000.0)) as last_seen, replay
  from symbols where ($1::text is null or symbol > $1) and ($2::text is null or asset = $2)
  and ($4::bigint is null or first_seen <= to_timestamp($4::bigint / 1000.0))
  order by symbol limit $3
) as known order by symbol"""  # noqa: S608 - our own names
# the symbols that the truth had at an instant, whether they had a record by then or not
_UNIVERSE: Final = """
select named.symbol, named.asset, named.label, named.is_series,
  (extract(epoch from first_seen) * 1000)::bigint,
  (extract(epoch from least(last_seen, to_timestamp($4::bigint / 1000.0))) * 1000)::bigint, replay
from universes as named left join symbols as one
  on one.symbol = named.symbol and first_seen <= to_timestamp($4::bigint / 1000.0)
where ($1::text is null or named.symbol > $1) and ($2::text is null or named.asset = $2)
and known_at <= to_timestamp($4::bigint / 1000.0)
and (gone_at is null or gone_at > to_timestamp($4::bigint / 1000.0))
order by named.symbol limit $3"""
_UNIVERSE_SINCE: Final = "select (extract(epoch from min(known_at)) * 1000)::bigint from universes"
_ASSET: Final = "select asset from symbols where symbol = $1"
_AS_OF: Final = "to_timestamp($3::bigint / 1000.0)"
_PAIR_KNOWN: Final = f"""($3::bigint is null or {_AS_OF} >=
    coalesce(one.known_at, (one.day + 1)::timestamp at time zone 'UTC'))"""
# The newest ten days: not every class of symbols trades on the same ones.
_NEWEST_DAYS: Final = f"""
with recursive newest(day, remaining) as (
  select coalesce($1::date, (
    select max(day) from correlations where $3::bigint is null or day <= ({_AS_OF} at time zone 'UTC')::date
  )), 10
  union all
  select (select max(older.day) from correlations as older where older.day < newest.day), remaining - 1
  from newest where $1::date is null and newest.day is not null and remaining > 1
)"""  # noqa: S608 - our own names
# Of each pair the newest of these days. The first pairs of all days are among the first pairs of each day.
_CORRELATIONS: Final = f"""{_NEWEST_DAYS}
select distinct on (a, b) to_char(newest.day, 'YYYY-MM-DD'), a, b, value, n, found.replay,
  (extract(epoch from coalesce(known_at, (newest.day + 1)::timestamp at time zone 'UTC')) * 1000)::bigint
from newest cross join lateral (
  select * from correlations as one
  where one.day = newest.day and (one.a, one.b) > ($5::text, $6::text) and {_PAIR_KNOWN}
  and ($4::text[] is null or (one.a = any($4) and one.b = any($4)))
  order by one.a, one.b limit $2
) as found
order by a, b, newest.day desc limit $2"""  # noqa: S608 - our own names
# The first symbols by name. One that only comes second in pairs comes after a first one, so it is among the
# partners of the first ones. These are looked up one after the other, because to read all pairs would take
# seconds.
_CORRELATED: Final = f"""{_NEWEST_DAYS}, walk(day, symbol, n) as (
  select newest.day, (
    select a from correlations as one where one.day = newest.day and {_PAIR_KNOWN} order by a limit 1
  )::text, 1 from newest
  union all
  select walk.day, (
    select a from correlations as one
    where one.day = walk.day and one.a > walk.symbol and {_PAIR_KNOWN} order by a limit 1
  )::text, n + 1 from walk where symbol is not null and n < $2
), firsts as (
  select distinct symbol from walk where symbol is not null order by symbol limit $2
)
select symbol from (
  select symbol from firsts
  union
  select distinct b::text from correlations as one join newest using (day)
  where one.a = any(array(select symbol from firsts)) and {_PAIR_KNOWN}
) as known order by symbol limit $2"""  # noqa: S608 - our own names
_NEWEST: Final = """
select symbol, (extract(epoch from start) * 1000)::bigint, {value}, source, replay{basis}
from unnest($1::text[]) as wanted(symbol)
cross join lateral (
  select start, {value}, source, replay{basis} from {table} where symbol = wanted.symbol {condition}
  order by start desc limit $2
) as found"""
_NEWEST_BARS: Final = _NEWEST.format(
    table="bars",
    value="close",
    condition="{condition}",
    basis=", day, adjustment, adjusted_to",
)
_NEWEST_OBSERVATIONS: Final = _NEWEST.format(table="observations", value="value", condition="", basis="")
_PAST_OBSERVATIONS: Final = _NEWEST.format(
    table=format_vintages("wanted.symbol", "to_timestamp($3::bigint / 1000.0)"),
    value="value",
    condition="",
    basis="",
)


_MINUTES: Final = """
select wanted.symbol, wanted.open_ms, found.source, count(*), count(*) filter (where found.rev > 0),
  bool_or(found.replay)
from unnest($1::text[], $2::bigint[], $3::bigint[]) as wanted(symbol, open_ms, until_ms)
cross join lateral (
  select source, rev, replay from bars where symbol = wanted.symbol and timeframe = '1m'
  and start >= to_timestamp(wanted.open_ms / 1000.0) and start < to_timestamp(wanted.until_ms / 1000.0)
) as found
group by wanted.symbol, wanted.open_ms, found.source"""


_COUNT_BARS: Final = """
select count(*) from (
  select 1 from bars where symbol = any($1::text[]) and timeframe = $2
  and start >= $3::date and start < $4::date + 1 limit $5
) as counted"""
_BUILT_DAYS: Final = """
select wanted.symbol, wanted.open_ms, found.minutes, found.missing
from unnest($1::text[], $2::bigint[], $3::text[]) as wanted(symbol, open_ms, day)
cross join lateral (
  select minutes, missing from bars where symbol = wanted.symbol and timeframe = '1d' and final
  and day = wanted.day::date and minutes is not null and missing is not null
  and start >= to_timestamp(wanted.open_ms / 1000.0) - interval '2 days'
  and start < to_timestamp(wanted.open_ms / 1000.0) + interval '2 days'
  order by start desc limit 1
) as found"""


class BuiltDay(NamedTuple):
    """Hold of how many minutes the bar of a trading day was built, by bars, and how many of the day lack."""

    symbol: str
    open_ms: int
    minutes: int
    missing: int


class MinuteCount(NamedTuple):
    """Count the minutes of a symbol that one source served in a span that begins at `open_ms`.

    `corrected` of them were published again with other values.
    """

    symbol: str
    open_ms: int
    source: str
    minutes: int
    corrected: int
    replay: bool


class Download(NamedTuple):
    """A request to a source, or to a recording (`replay`): the columns of `downloads` that are shown.

    The texts are those of others. `asked_at` is in epoch milliseconds.
    """

    asked_at: int
    source: str
    series: str | None
    status: int | None
    outcome: str
    reason: str | None
    took_ms: int | None
    records: int | None
    replay: bool


_DOWNLOADS: Final = (
    f"select {DOWNLOAD_TABLE.list_selected(Download._fields)} from downloads order by asked_at desc limit $1"  # noqa: S608 - our own names
)


class DatabaseAwayError(Exception):
    """The database can't be read; the message says why, in words for the reader of a page."""


async def try_archive(reading: Awaitable[V], default: V) -> tuple[V, str | None]:
    """Return what was read; or `default`, and why the database can't be read."""
    try:
        return await reading, None
    except DatabaseAwayError as error:
        return default, str(error)


class ArchiveReader:
    """Reads the database's tables; a row is a tuple in the order that each method names.

    `url` has the password; None if the board has no database. A query that takes longer than `slow_ms` is
    logged.
    """

    def __init__(self, url: str | None, slow_ms: float | None = None) -> None:
        self.is_configured = url is not None
        self._pool = None if url is None else make_pool(url, slow_ms)
        self._places = asyncio.Semaphore(CONNECTIONS)
        self.query_seconds = make_query_histogram()
        self.assets = Cached[str, str](ASSET_SEC, MAX_ASSETS)

    def count_connections(self) -> int:
        return 0 if self._pool is None else self._pool.count_open()

    def find_answer_age_sec(self) -> float | None:
        """Return how long ago the database answered last; None if it never did, or if there is none."""
        answered_at = None if self._pool is None else self._pool.answered_at
        return None if answered_at is None else time.monotonic() - answered_at

    @property
    def problem(self) -> str | None:
        """Why the database is away; None while it answers, or if there is none."""
        if self._pool is None:
            return NO_DRIVER if self.is_configured else None
        return None if self._pool.away is None else explain(self._pool.away.error)

    async def watch(self) -> None:
        """Look until cancelled whether the database answers; while it is away, nothing else asks it.

        Logs when it goes away, and when it is back.
        """
        if self._pool is None:
            if self.problem is not None:
                log.warning("market.database_away", reason=self.problem)
            return
        known: DatabaseAway | None = None
        async for away in self._pool.watch():
            if away is not None and known is None:
                log.warning("market.database_away", reason=explain(away.error))
            elif away is None and known is not None:
                log.info("market.database_back", away_sec=round(time.monotonic() - known.since, 1))
            known = away

    @contextlib.asynccontextmanager
    async def limit_answer(self) -> AsyncIterator[None]:
        """Bound the queries of the block to ANSWER_SEC together. Raises DatabaseAwayError beyond that."""
        try:
            async with asyncio.timeout(ANSWER_SEC):
                yield
        except TimeoutError:
            raise DatabaseAwayError(TOO_BUSY) from None

    async def read_range(self, table: TableSchema, key: Sequence[str], query: TableQuery) -> list[Cells]:
        """Return the answered cells of the newest rows of a query, by key and start, the oldest first.

        As of an instant, these are the rows that were known then; of observations, the values of then.
        """
        bounds = query.from_ms, query.before_ms, query.limit
        if query.as_of_ms is None:
            return (await self.fetch(_select_range(table), *key, *bounds))[::-1]
        return (await self.fetch(_select_known(table, *key[1:]), *key, *bounds, query.as_of_ms))[::-1]

    async def read_many(
        self, table: TableSchema, symbols: Sequence[str], query: TableQuery, timeframe: str | None
    ) -> list[Cells]:
        """Return the rows of a page of many symbols: the symbol, then its answered cells. Raises QueryError.

        They come by symbol, in this order, and then by time, the oldest first.
        """
        sql = select_page(table, query, timeframe)
        return await self.fetch(sql, *list_values(symbols, query, timeframe))

    async def copy_many(
        self,
        table: TableSchema,
        symbols: Sequence[str],
        query: TableQuery,
        timeframe: str | None,
        take_rows: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """Pass the rows of many symbols on as lines of CSV, in the order of `read_many`.

        Nothing more is read while `take_rows` runs. If that fails, or this is cancelled, the connection is
        closed, which ends the statement. The limit of time is that of the caller. Raises DatabaseAwayError.
        """
        pool = self._require_pool()
        sql, values = select_stream(table, query, timeframe), list_values(symbols, query, timeframe)
        try:
            async with pool.connect(STREAM_SEC + FETCH_SEC) as connection:
                try:
                    await connection.execute(f"set statement_timeout = {round(1000 * STREAM_SEC)}")
                    await connection.copy_from_query(sql, *values, output=take_rows, format="csv")
                except BaseException:
                    connection.terminate()
                    raise
        except pool.failures as error:
            raise DatabaseAwayError(explain(error)) from None

    async def read_quotes(self, symbol: str, query: TableQuery) -> list[Cells]:
        """Return the quotes of a symbol, each with the cells of QUOTE_CELLS. Raises QueryError.

        Two sources may have quotes of one time, so the cursor has both: `<time>:<source>`.
        """
        at_ms, source = parse_quote_cursor(query.cursor)
        bounds = query.from_ms, query.to_ms, at_ms, source, query.limit, query.as_of_ms
        return (await self.fetch(_QUOTES, symbol, *bounds))[::-1]

    async def read_actions(self, symbol: str, query: TableQuery, last_day: date | None = None) -> list[Cells]:
        """Return the actions of a symbol that were not withdrawn, the oldest first, with ACTION_CELLS.

        They are those of the newest days of a query, all of each day, so they may be more than its limit.
        An action is known from its day on: none with an ex-day after `last_day` is returned (None: announced
        ones, too).
        """
        bounds = query.from_ms, query.before_ms, query.limit, last_day
        rows = await self.fetch(_ACTIONS, symbol, *bounds)
        return sorted(rows)

    async def read_latest_quotes(self, symbols: Sequence[str], as_of_ms: int | None = None) -> list[Cells]:
        """Return the latest quote of each symbol that has one by then, with the cells of QUOTE_CELLS.

        Without an instant that is by now: what is dated more than MAX_AHEAD_SEC later was so by a clock that
        was ahead, and set back since.
        """
        by_ms = round(1000 * (time.time() + MAX_AHEAD_SEC)) if as_of_ms is None else as_of_ms
        return await self.fetch(_LATEST_QUOTES, list(symbols), by_ms)

    async def read_quoted_symbols(self, limit: int) -> list[str]:
        """Return the first symbols, in the order of the database, that have quotes."""
        return [row[0] for row in await self.fetch(_QUOTED, limit)]

    async def read_symbols(
        self, after: str | None, asset: str | None, limit: int, as_of_ms: int | None = None
    ) -> list[Cells]:
        """Return symbol, asset, first_seen, last_seen and replay, by symbol from the one after `after` on.

        As of an instant, these are the symbols that had a record by then; none is said to have a later one.
        """
        return await self.fetch(_SYMBOLS, after, asset, limit, as_of_ms)

    async def read_universe(
        self, after: str | None, asset: str | None, limit: int, as_of_ms: int
    ) -> list[Cells]:
        """Return the symbols that the truth had at an instant, by symbol from the one after `after` on.

        Each has symbol, asset, label, whether it is an economic series, first_seen, last_seen and replay; the
        last three are None without a record by then.
        """
        return await self.fetch(_UNIVERSE, after, asset, limit, as_of_ms)

    async def read_universe_since(self) -> int | None:
        """Return since when it is known which symbols the truth had (epoch ms); None if it is not."""
        ((since,),) = await self.fetch(_UNIVERSE_SINCE)
        return None if since is None else int(since)

    async def find_asset(self, symbol: str) -> str | None:
        asset = self.assets.find_kept(symbol)
        if asset is None and (rows := await self.fetch(_ASSET, symbol)):
            asset = str(rows[0][0])
            self.assets.keep(symbol, asset)
        return asset

    async def read_adjusters(
        self, symbols: Sequence[str], since: date | None = None, as_of_ms: int | None = None
    ) -> dict[str, Adjuster]:
        """Return what adjusts the bars of each symbol from a day on, by its splits and dividends.

        They are those up to now and announced, with the closes that are known now, or were as of an instant.
        """
        rows = await self.fetch(SHARE_SQL, list(symbols), since, _make_moment(as_of_ms))
        found = make_adjusters(rows)
        return {symbol: found.get(symbol) or Adjuster(()) for symbol in symbols}

    async def read_correlations(
        self,
        day: date | None,
        symbols: Sequence[str] | None,
        limit: int,
        after: tuple[str, str] = ("", ""),
        as_of_ms: int | None = None,
    ) -> list[Cells]:
        """Return day, a, b, value, n, replay and when it was known of pairs of symbols, by their names.

        Without a `day`, each pair has the newest of the last ten days. `symbols` are those whose pairs are
        wanted, None for all; `after` is the pair after which to begin. As of an instant, these are the pairs
        and days that were known then.
        """
        names = None if symbols is None else list(symbols)
        return await self.fetch(_CORRELATIONS, day, limit, as_of_ms, names, *after)

    async def read_correlated_symbols(self, limit: int, as_of_ms: int | None = None) -> list[str]:
        """Return the first symbols by name that have correlations on the last ten days, or as of then."""
        return [row[0] for row in await self.fetch(_CORRELATED, None, limit, as_of_ms)]

    async def read_newest(
        self,
        symbols: Sequence[str],
        timeframe: str | None,
        points: int,
        days: Mapping[str, date],
        as_of_ms: int | None = None,
    ) -> list[Cells]:
        """Return symbol, start, close, source and replay of the newest bars of each symbol, newest first.

        The close is adjusted for splits up to the day of its symbol in `days`; a sixth cell is the close
        adjusted for dividends, too. Without a timeframe, those of observations, with their value for the
        closes; they need no day. As of an instant, all of it is as it was known then.
        """
        past = () if as_of_ms is None else (as_of_ms,)
        if timeframe is None:
            sql = _NEWEST_OBSERVATIONS if as_of_ms is None else _PAST_OBSERVATIONS
            found = await self.fetch(sql, list(symbols), points, *past)
            return [(*row, row[2]) for row in found]
        condition = "and timeframe = $3"
        if as_of_ms is not None:
            condition += f" and {format_known(timeframe, 'to_timestamp($4::bigint / 1000.0)')}"
        found = await self.fetch(
            _NEWEST_BARS.replace("{condition}", condition), list(symbols), points, timeframe, *past
        )
        return await self._adjust_newest(found, timeframe, days, as_of_ms)

    async def _adjust_newest(
        self, found: Sequence[Cells], timeframe: str, days: Mapping[str, date], as_of_ms: int | None
    ) -> list[Cells]:
        """Return rows of _NEWEST_BARS as `read_newest` does."""
        by_symbol: dict[str, list[GivenClose]] = {}
        for symbol, start, close, _source, _replay, day, *basis in found:
            given = GivenClose(find_row_day(start, day, timeframe), close, make_basis(*basis))
            by_symbol.setdefault(symbol, []).append(given)
        if not by_symbol:
            return []
        since = min(each.day for closes in by_symbol.values() for each in closes)
        adjusters = await self.read_adjusters(list(by_symbol), since, as_of_ms)
        adjusted: dict[str, Iterator[tuple[float, float]]] = {}
        for symbol, closes in by_symbol.items():
            both = (
                adjust_closes(closes, adjusters.get(symbol), adjust.make_basis(days[symbol]))
                for adjust in (Adjust.SPLITS, Adjust.ALL)
            )
            adjusted[symbol] = iter(zip(*both, strict=True))
        rows: list[Cells] = []
        for row in found:
            close, whole = next(adjusted[row[0]])
            rows.append((*row[:2], close, *row[3:5], whole))
        return rows

    async def count_minutes(
        self, symbols: Sequence[str], opens_ms: Sequence[int], untils_ms: Sequence[int]
    ) -> list[MinuteCount]:
        """Return by source how many minutes there are in spans of symbols, each from its open to its end."""
        spans = list(symbols), list(opens_ms), list(untils_ms)
        return [MinuteCount(*row) for row in await self.fetch(_MINUTES, *spans)]

    async def count_bars(
        self, symbols: Sequence[str], timeframe: str, days: tuple[date, date], most: int
    ) -> int:
        """Return how many bars symbols have from a first to a last day, in UTC, but not more than `most`."""
        return int((await self.fetch(_COUNT_BARS, list(symbols), timeframe, *days, most))[0][0])

    async def read_built_days(
        self, symbols: Sequence[str], opens_ms: Sequence[int], days: Sequence[str]
    ) -> list[BuiltDay]:
        """Return what final bars of trading days were built of; none for a bar that a source gave whole."""
        return [BuiltDay(*row) for row in await self.fetch(_BUILT_DAYS, symbols, opens_ms, days)]

    async def read_downloads(self, limit: int) -> list[Download]:
        """Return the last requests to sources, the newest first."""
        return [Download(*row) for row in await self.fetch(_DOWNLOADS, limit)]

    async def reconnect(self) -> RequestOutcome:
        """Open the connections anew; a statement that runs may go on for STATEMENT_SEC."""
        if self._pool is None:
            return RequestOutcome(why=self.problem or NOT_SET)
        try:
            async with asyncio.timeout(RECONNECT_SEC):
                await self._pool.recycle(STATEMENT_SEC)
        except (*self._pool.failures, TimeoutError) as error:
            return RequestOutcome(why=explain(error))
        return RequestOutcome()

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()

    async def fetch(self, sql: str, *values: Any) -> list[Cells]:
        """Return the rows of a query. Raises DatabaseAwayError, at once if it is known to be away."""
        self._require_pool()
        async with self.limit_answer(), self._places:
            pool = self._require_pool()  # it may have gone away while this waited
            begun = time.monotonic()
            try:
                async with pool.connect(FETCH_SEC) as connection:
                    rows = await connection.fetch(sql, *values)
            except pool.failures as error:
                raise DatabaseAwayError(explain(error)) from None
            finally:
                self.query_seconds.observe(find_kind(sql), time.monotonic() - begun)
        return [tuple(row) for row in rows]

    def _require_pool(self) -> "ConnectionPool":
        """Return the pool. Raises DatabaseAwayError if there is none, or the database is known to be away."""
        if self._pool is None or self.problem is not None:
            raise DatabaseAwayError(self.problem or NOT_SET)
        return self._pool


def _make_moment(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


def make_pool(url: str, slow_ms: float | None = None) -> "ConnectionPool | None":
    """Return a pool that opens its connections when they are needed; None without the driver."""
    try:
        from marketswarm.postgres.pool import ConnectionPool  # noqa: PLC0415 - a board without one needs no driver
    except ImportError:
        return None
    settings = {
        "application_name": BOARD_NAME,
        "default_transaction_read_only": "on",
        "statement_timeout": f"{round(1000 * STATEMENT_SEC)}",
    }
    most = CONNECTIONS + STREAMS + 1  # one is for `watch`
    return ConnectionPool(url, settings, most=most, connect_sec=lambda: CONNECT_SEC, slow_ms=slow_ms)


def explain(error: BaseException) -> str:
    """Return in words for a reader why a query failed."""
    cause = error.__cause__ or error
    state = getattr(cause, "sqlstate", None)
    if isinstance(cause, TimeoutError):
        return NO_ANSWER
    if state in _EXPLAINED:
        return _EXPLAINED[state]
    kind = type(cause).__name__
    is_away = getattr(error, "is_outage", False)
    return f"the database is away ({kind})" if is_away else f"the database refused: {kind}"


def _select_range(table: TableSchema, known: str = "") -> str:
    """Return the SELECT of rows by all columns of the key but `start`, bounds of that, and the most rows.

    `known` is a further condition.
    """
    key = [f"{name} = ${n}" for n, name in enumerate(table.key[:-1], 1)]
    first, end, most = (f"${len(key) + n}" for n in (1, 2, 3))
    return f"""
select {table.list_selected(table.answered)} from {table.name} where {" and ".join(key)}
and ({first}::bigint is null or start >= to_timestamp({first}::bigint / 1000.0))
and ({end}::bigint is null or start < to_timestamp({end}::bigint / 1000.0)) {known}
order by start desc limit {most}"""  # noqa: S608 - our own names


def _select_known(table: TableSchema, timeframe: str = "1d") -> str:
    """Return the same SELECT of the rows that were known by an instant, which is its last parameter."""
    instant = f"to_timestamp(${len(table.key) + 3}::bigint / 1000.0)"
    if table is not OBSERVATION_TABLE:
        return _select_range(table, f"and {format_known(timeframe, instant)}")
    vintages = format_vintages("$1", instant)
    return _select_range(OBSERVATION_TABLE).replace("from observations", f"from {vintages}")
