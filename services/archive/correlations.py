"""Compute how the daily returns of each pair of symbols move together, in PostgreSQL.

The returns of a pair are the logarithms of the closes of a day by those of the day before, of the days on
which both symbols have a close, because markets are closed on different days, and returns over different
stretches of time can't be compared. A split is no return: the closes are adjusted for splits. The
correlation of `day` is Pearson's over the last `days` such returns up to it. A day is the trading day that
the bar names. Only final bars count, and of those that were built none of too few minutes: its close is that
of an hour in which we happened to look.

The days of all symbols need not end together, because a recording of 2013 may be played beside one of 2018.
So the days that are computed are the latest ones, and the last ones of most symbols. A day that was computed
while history was still coming in is computed again.
"""

from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from typing import Any, Final

from marketswarm.postgres.transaction import transaction
from services.market.universe import DAY_SHARE, DayShares, list_day_shares
from services.tables.adjusted_bars import DAY_SQL

LATEST_DAYS: Final = 5
"""The latest days that are computed again when daily bars change: corrections come within days."""
LAST_DAYS: Final = 5
"""The days on which most symbols have their last bar, which are computed, too."""
NO_SHARES: Final = list_day_shares(None)
MIN_DAYS: Final = 5
"""The fewest common days of a correlation."""

_DAY: Final = DAY_SQL
# The logarithm of the product of all ratios up to the day whose splits a close contains: with it, differences
# of closes that were given on different days are right, whatever day all are adjusted to in the end.
_SPLIT: Final = f"""coalesce((
    SELECT sum(ln(ratio)) FROM actions WHERE actions.symbol = bars.symbol AND kind = 'split' AND NOT withdrawn
        AND ex_day <= greatest({_DAY}, adjusted_to)
), 0)"""  # noqa: S608 - our own names
_SHARE: Final = f"""coalesce(
    (SELECT share FROM unnest($5::text[], $6::float8[]) AS own(symbol, share) WHERE own.symbol = bars.symbol),
    (SELECT share FROM symbols JOIN unnest($7::text[], $8::float8[]) AS kind(asset, share)
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
SELECT symbol, {_DAY} AS day, start, close, {_SPLIT} AS split, rev, replay FROM bars
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
        )) AS made_of
    FROM daily
    WINDOW span AS (ORDER BY day RANGE BETWEEN make_interval(days => 2 * $3 + 14) PRECEDING AND CURRENT ROW)
)
SELECT day, summed.made_of FROM due JOIN summed USING (day) LEFT JOIN correlated_days before USING (day)
WHERE summed.made_of IS DISTINCT FROM before.made_of
ORDER BY day DESC
"""  # noqa: S608 - our own names
_COMPUTE: Final = f"""
WITH daily AS (
    SELECT DISTINCT ON (symbol, day) * FROM ({_DAILY}) found ORDER BY symbol, day, start DESC
), chosen AS (
    SELECT symbol FROM daily GROUP BY symbol ORDER BY count(*) DESC, symbol COLLATE "C" LIMIT $3
), closed AS (
    SELECT symbol, day, ln(close) + split AS close, replay
    FROM daily JOIN chosen USING (symbol) WHERE close > 0
), paired AS (
    SELECT one.symbol AS a, other.symbol AS b,
        one.close - lead(one.close) OVER days AS x, other.close - lead(other.close) OVER days AS y,
        one.replay OR other.replay OR lead(one.replay OR other.replay) OVER days AS replay,
        row_number() OVER days AS age
    FROM closed one JOIN closed other ON one.day = other.day
        AND one.symbol COLLATE "C" < other.symbol COLLATE "C"
    WINDOW days AS (PARTITION BY one.symbol, other.symbol ORDER BY one.day DESC)
), correlated AS (
    SELECT a, b, corr(x, y) AS value, count(*) AS n, bool_or(replay) AS replay
    FROM paired WHERE age <= $2 AND x IS NOT NULL GROUP BY a, b
), found AS (
    SELECT * FROM correlated WHERE n >= $4 AND value IS NOT NULL AND value <> 'NaN'
), removed AS (
    DELETE FROM correlations stale
    WHERE day = $1::date AND NOT EXISTS (SELECT FROM found WHERE found.a = stale.a AND found.b = stale.b)
)
INSERT INTO correlations AS old (day, a, b, value, n, replay)
SELECT $1::date, a, b, greatest(-1, least(1, value)), n, replay FROM found
ON CONFLICT (day, a, b) DO UPDATE SET value = excluded.value, n = excluded.n, replay = excluded.replay
WHERE (old.value, old.n, old.replay) IS DISTINCT FROM (excluded.value, excluded.n, excluded.replay)
"""  # noqa: S608 - our own names

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


async def list_changed_days(connection: Any, compared: Compared) -> dict[date, str]:
    """Return the days to compute, newest first, each with a fingerprint of the bars that they are made of.

    These are the latest days and the last days of most symbols, and those that have correlations already, if
    a bar that they are made of has changed or come since.
    """
    rows = await connection.fetch(_CHANGED, LATEST_DAYS, LAST_DAYS, compared.days, compared.fingerprint)
    return {row["day"]: row["made_of"] for row in rows}


async def compute_correlations(connection: Any, day: date, compared: Compared, made_of: str) -> int:
    """Compute the correlations of a day, and write those that are new or changed; return how many.

    Those of pairs that are no longer compared are deleted. The symbols with most daily bars are compared.
    `made_of` is the day's fingerprint by `list_changed_days`, which is stored.
    """
    shares = (compared.shares.by_symbol, compared.shares.by_asset)
    lists = [list(cells) for each in shares for cells in (each.keys(), each.values())]
    async with transaction(connection):
        status = await connection.execute(_COMPUTE, day, compared.days, compared.symbols, MIN_DAYS, *lists)
        await connection.execute(_REMEMBER, day, made_of)
    return int(status.rpartition(" ")[2])


async def forget_expired_days(connection: Any) -> None:
    """Delete the rows that say from what correlations were made, where those are no longer kept."""
    await connection.execute(_FORGET)
