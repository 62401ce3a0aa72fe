"""Keep which symbols the truth had, and when, so that a day of the past has the universe of that day.

Each symbol has a row of the table `universes` for each span in which the truth named it with one class and
group. A change counts from when archive saw it, and nothing is known of the time before archive saw a truth.
"""

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from marketswarm.postgres.transaction import transaction
from marketswarm.truth import Truth
from services.market.names import list_loaded_names

_MAX_ASSET: Final = 60
_MAX_LABEL: Final = 200

_GIVEN: Final = """unnest($2::text[], $3::text[], $4::text[], $5::boolean[])
    AS given(symbol, asset, label, is_series)"""
# the clock may have gone back since a row was written
_END: Final = f"""
UPDATE universes old SET gone_at = greatest($1, known_at + interval '1 ms')
WHERE gone_at IS NULL AND NOT EXISTS (
    SELECT FROM {_GIVEN} WHERE given.symbol = old.symbol::text
        AND (given.asset, given.label, given.is_series) = (old.asset, old.label, old.is_series)
)
"""  # noqa: S608 - our own names
_BEGIN: Final = f"""
INSERT INTO universes (symbol, known_at, asset, label, is_series)
SELECT given.symbol, greatest($1, last.gone_at), asset, label, is_series
FROM {_GIVEN} LEFT JOIN LATERAL (
    SELECT max(coalesce(gone_at, 'infinity')) AS gone_at FROM universes WHERE symbol::text = given.symbol
) last ON true
WHERE last.gone_at IS NULL OR last.gone_at < 'infinity'
"""  # noqa: S608 - our own names


class UniverseName(NamedTuple):
    """Name a symbol or an economic series (`is_series`); `label` is its group, or its class without one."""

    symbol: str
    asset: str
    label: str
    is_series: bool


def list_universe(truth: Truth) -> list[UniverseName]:
    """Return by symbol the names that the services of a truth load; what is too long is left out."""
    return [
        UniverseName(one.symbol, one.asset, one.group or one.asset, one.is_series)
        for _, one in sorted(list_loaded_names(truth).items())
        if 0 < len(one.asset) <= _MAX_ASSET and len(one.group or "") <= _MAX_LABEL
    ]


async def write_universe(connection: Any, names: list[UniverseName], at: float) -> int:
    """Write that the truth has these names, and no others, since a time (epoch seconds).

    Spans that ended get their end, and new ones are added, in one transaction. Return how many rows changed.
    """
    columns = [list(column) for column in zip(*names, strict=True)] or [[], [], [], []]
    moment = datetime.fromtimestamp(at, UTC)
    async with transaction(connection):
        statuses = [await connection.execute(sql, moment, *columns) for sql in (_END, _BEGIN)]
    return sum(int(status.rpartition(" ")[2]) for status in statuses)
