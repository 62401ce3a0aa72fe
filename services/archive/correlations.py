"""Compute how the daily returns of each pair of symbols move together.

PostgreSQL gives the closes, and pairs them; `services/market/adjust.py` adjusts them in between, as it does
for everyone.

The returns of a pair are the logarithms of the closes of a day by those of the day before, of the days on
which both symbols have a close, because markets are closed on different days, and returns over different
stretches of time can't be compared. A split is no return: the closes are adjusted for splits. The
correlation of `day` is Pearson's over the last `days` such returns up to it. A day is the trading day that
the bar names. Only final bars count, and of those that were built none of too few minutes: its close is that
of an hour in which we happened to look.

The days of all symbols need not end together, because a recording of 2013 may be played beside one of 2018.
So the days that are computed are the latest ones, and the last ones of most symbols. A day that was computed
while history was still coming in is computed again, and one of whose bars retention has taken some is not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

from marketswarm.postgres.transaction import transaction
from services.archive.settings import KeptTable
from services.market.adjust import GivenClose
from services.market.universe import DAY_SHARE, DayShares, list_day_shares
from services.tables.adjusted_bars import (
    DAY_SQL,
    SHARE_SQL,
    Adjust,
    adjust_closes,
    make_adjusters,
    make_basis,
)

LATEST_DAYS: Final = 5
"""The latest days that are computed again when daily bars change: corrections come within days."""
LAST_DAYS: Final = 5
"""The days on which most symbols have their last bar, which are computed, too."""
NO_SHARES: Final = list_day_shares(None)
MIN_DAYS: Final = 5
"""The fewest common days of a correlation."""
SETTLED_DAYS: Final = 7
"""The age from which no correction of a day's bars is expected, where retention takes bars of its span."""

_DAY: Final = DAY_SQL
_SHARE: Final = f"""coalesce(
    (SELECT share FROM unnest($4::text[], $5::float8[]) AS own(symbol, share) WHERE own.symbol = bars.symbol),
    (SELECT share FROM symbols JOIN unnest($6::text[], $7::float8[]) AS kind(asset, share)
        ON kind.asset = symbols.asset WHERE symbols.symbol = bars.symbol),
    {DAY_SHARE}
)"""  # noqa: S608 - our own names
_DAYS: Final = f"""
WITH latest AS (
    SELECT DISTINCT {_DAY} AS day
    FROM bars WHERE timeframe = '1d' AND final
        AND start >= (SELECT max(start) FROM bars WHERE timeframe = '1d' AND final) - interval '30 days'
    ORDER BY day DESC LIMIT $1
), last AS (
    SELECT newest.day
    FROM symbols, LATERAL (
        SELECT {_DAY} AS day FROM bars WHERE bars.symbol = symbols.symbol AND timeframe = '1d' AND final
        ORDER BY start DESC LIMIT 1
    ) newest
    GROUP BY newest.day ORDER BY count(*) DESC, newest.day DESC LIMIT $2
)
SELECT day FROM latest UNION SELECT day FROM last
"""  # noqa: S608 - our own names
# twice the calendar days that 60 trading days need, and some; a day begins at most three days from its date
_DAILY: Final = f"""
SELECT symbol, {_DAY} AS day, start, close, adjustment, adjusted_to, replay,
    coalesce(known_at, start + interval '1 day') AS known_at
FROM bars
WHERE timeframe = '1d' AND final
    AND start < ($1::date + 4)::timestamp AT TIME ZONE 'UTC'
    AND start >= ($1::date - 2 * $2::integer - 10)::timestamp AT TIME ZONE 'UTC'
    AND {_DAY} <= $1::date
    AND (minutes IS NULL OR minutes >= (minutes + coalesce(missing, 0)) * {_SHARE})
"""  # noqa: S608 - our own names
# The window of a day begins some days before the bars that are compared: at worst the same is computed again.
_CHANGED: Final = f"""
WITH wanted AS ({_DAYS}), due AS (
    SELECT day FROM wanted UNION SELECT day FROM correlated_days
), daily AS (
    SELECT {_DAY} AS day, count(*) AS n, sum(rev) AS revs, sum(hashfloat8(close)::bigint) AS closes,
        count(*) FILTER (WHERE replay) AS replays
    FROM bars WHERE timeframe = '1d' AND final
        AND start >= (SELECT min(day) - 2 * $3::integer - 20 FROM due)::timestamp AT TIME ZONE 'UTC'
    GROUP BY 1
), summed AS (
    SELECT day, concat_ws(' ', $4::text, sum(n) OVER span, sum(revs) OVER span, sum(closes) OVER span,
        sum(n * (day - date '2000-01-01')) OVER span, sum(replays) OVER span, (
            SELECT sum(hashfloat8(ratio)::bigint * (ex_day - date '2000-01-01')) FROM actions
            WHERE kind = 'split' AND NOT withdrawn
                AND ex_day BETWEEN daily.day - (2 * $3::integer + 14) AND daily.day
        )) AS made_of, sum(replays) OVER span > 0 AS has_replays
    FROM daily
    WINDOW span AS (ORDER BY day RANGE BETWEEN make_interval(days => 2 * $3 + 14) PRECEDING AND CURRENT ROW)
)
SELECT day, summed.made_of FROM due JOIN summed USING (day) LEFT JOIN correlated_days before USING (day)
WHERE summed.made_of IS DISTINCT FROM before.made_of
    AND (has_replays OR day >= coalesce($5::date, '-infinity'))
    AND (has_replays OR before.day IS NULL OR day >= coalesce($6::date, '-infinity'))
ORDER BY day DESC
"""  # noqa: S608 - our own names
_CHOOSE: Final = f"""
WITH daily AS (
    SELECT DISTINCT ON (symbol, day) * FROM ({_DAILY}) found ORDER BY symbol, day, start DESC
), chosen AS (
    SELECT symbol FROM daily GROUP BY symbol ORDER BY count(*) DESC, symbol COLLATE "C" LIMIT $3
)
SELECT symbol, day, close, adjustment, adjusted_to, replay, known_at
FROM daily JOIN chosen USING (symbol) WHERE close > 0
ORDER BY symbol, day
"""  # noqa: S608 - our own names
_COMPUTE: Final = """
WITH closed AS (
    SELECT symbol, day, ln(close) AS close, replay, known_at
    FROM unnest($4::text[], $5::date[], $6::float8[], $7::boolean[], $8::timestamptz[])
        AS given(symbol, day, close, replay, known_at)
), paired AS (
    SELECT one.symbol AS a, other.symbol AS b,
        one.close - lead(one.close) OVER days AS x, other.close - lead(other.close) OVER days AS y,
        one.replay OR other.replay OR lead(one.replay OR other.replay) OVER days AS replay,
        greatest(one.known_at, other.known_at, lead(greatest(one.known_at, other.known_at)) OVER days)
            AS known_at,
        row_number() OVER days AS age
    FROM closed one JOIN closed other ON one.day = other.day
        AND one.symbol COLLATE "C" < other.symbol COLLATE "C"
    WINDOW days AS (PARTITION BY one.symbol, other.symbol ORDER BY one.day DESC)
), correlated AS (
    SELECT a, b, corr(x, y) AS value, count(*) AS n, bool_or(replay) AS replay, max(known_at) AS known_at
    FROM paired WHERE age <= $2 AND x IS NOT NULL GROUP BY a, b
), found AS (
    SELECT * FROM correlated WHERE n >= $3 AND value IS NOT NULL AND value <> 'NaN'
), removed AS (
    DELETE FROM correlations stale
    WHERE day = $1::date AND NOT EXISTS (SELECT FROM found WHERE found.a = stale.a AND found.b = stale.b)
)
INSERT INTO correlations AS old (day, a, b, value, n, replay, known_at)
SELECT $1::date, a, b, greatest(-1, least(1, value)), n, replay, known_at FROM found
ON CONFLICT (day, a, b) DO UPDATE SET
    value = excluded.value, n = excluded.n, replay = excluded.replay, known_at = excluded.known_at
WHERE (old.value, old.n, old.replay, old.known_at)
    IS DISTINCT FROM (excluded.value, excluded.n, excluded.replay, excluded.known_at)
"""

_REMEMBER: Final = """
INSERT INTO correlated_days VALUES ($1, $2) ON CONFLICT (day) DO UPDATE SET made_of = excluded.made_of
"""
_FORGET: Final = "DELETE FROM correlated_days WHERE day < (SELECT min(day) FROM correlations)"


@dataclass(frozen=True, slots=True)
class Compared:
    """Say what is compared: how many days one correlation has, how many symbols, and which days count."""

    days: int
    symbols: int
    shares: DayShares = NO_SHARES

    @property
    def fingerprint(self) -> str:
        """A text that is another one if other correlations follow from the same bars."""
        shares = repr([sorted(each.items()) for each in (self.shares.by_symbol, self.shares.by_asset)])
        return f"{self.days} {self.symbols} {blake2b(shares.encode(), digest_size=6).hexdigest()}"


@dataclass(frozen=True, slots=True)
class KeptDays:
    """Hold the first day whose correlations are kept, and the first one that is computed more than once.

    None stands for every day. A day with a replayed bar counts as after both, since retention keeps it.
    """

    stored: date | None = None
    whole: date | None = None


EVERY_DAY: Final = KeptDays()


def find_kept_days(keep_days: Mapping[KeptTable, float], days: int, now: datetime) -> KeptDays:
    """Return what is kept of correlations over so many days, by the settings of retention."""
    stored, bars = (keep_days.get(table) for table in ("correlations", "bars"))
    # a day begins at most three days from its date, and the fingerprint of one spans 2 * days + 14 before it
    whole = None if bars is None else max(bars - (2 * days + 18), SETTLED_DAYS)
    # the day in which a span of retention begins is not wholly in it, and its correlations are deleted
    first = (None if age is None else (now - timedelta(days=age - 1)).date() for age in (stored, whole))
    return KeptDays(*first)


async def list_changed_days(
    connection: Any, compared: Compared, kept: KeptDays = EVERY_DAY
) -> dict[date, str]:
    """Return the days to compute, newest first, each with a fingerprint of the bars that they are made of.

    These are the latest days and the last days of most symbols, and those that have correlations already, if
    a bar that they are made of has changed or come since. A day that is not `kept` whole is computed once:
    from what retention leaves of its bars, other correlations or none would follow.
    """
    limits = kept.stored, kept.whole
    rows = await connection.fetch(
        _CHANGED, LATEST_DAYS, LAST_DAYS, compared.days, compared.fingerprint, *limits
    )
    return {row["day"]: row["made_of"] for row in rows}


async def compute_correlations(connection: Any, day: date, compared: Compared, made_of: str) -> int:
    """Compute the correlations of a day, and write those that are new or changed; return how many.

    Those of pairs that are no longer compared are deleted. The symbols with most daily bars are compared.
    `made_of` is the day's fingerprint by `list_changed_days`, which is stored.
    """
    shares = (compared.shares.by_symbol, compared.shares.by_asset)
    lists = [list(cells) for each in shares for cells in (each.keys(), each.values())]
    async with transaction(connection):
        rows = await connection.fetch(_CHOOSE, day, compared.days, compared.symbols, *lists)
        columns = await _adjust_closes(connection, rows, day)
        status = await connection.execute(_COMPUTE, day, compared.days, MIN_DAYS, *columns)
        await connection.execute(_REMEMBER, day, made_of)
    return int(status.rpartition(" ")[2])


async def _adjust_closes(connection: Any, rows: Sequence[Any], day: date) -> list[list[Any]]:
    """Return the columns of closes as `_COMPUTE` takes them, adjusted for the splits up to a day.

    `rows` are those of `_CHOOSE`: by symbol and day.
    """
    by_symbol: dict[str, list[GivenClose]] = {}
    for row in rows:
        given = GivenClose(row["day"], row["close"], make_basis(row["adjustment"], row["adjusted_to"]))
        by_symbol.setdefault(row["symbol"], []).append(given)
    since = min((row["day"] for row in rows), default=day)
    splits = await connection.fetch(SHARE_SQL, list(by_symbol), since, None)
    adjusters, wanted = make_adjusters(splits), Adjust.SPLITS.make_basis(day)
    closes = [
        close
        for symbol, some in by_symbol.items()
        for close in adjust_closes(some, adjusters.get(symbol), wanted)
    ]
    symbols, days, replays, known = (
        [row[name] for row in rows] for name in ("symbol", "day", "replay", "known_at")
    )
    return [symbols, days, closes, replays, known]


async def forget_expired_days(connection: Any) -> None:
    """Delete the rows that say from what correlations were made, where those are no longer kept."""
    await connection.execute(_FORGET)
