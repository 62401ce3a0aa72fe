"""The entries that bars publishes: bars, indicators, and the records that failed a check. Pure."""

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

import orjson

from marketswarm.keys import MARKET_BARS, MARKET_QUOTES
from services.bars.indicators import Values
from services.bars.quality import Rejection
from services.market.adjust import PriceBasis
from services.market.entries import encode_entry, encode_provenance
from services.market.fields import Fields
from services.market.intervals import Grid, Interval, find_utc_end, name_period
from services.market.records import (
    PERIODS,
    Adjustment,
    AssetClass,
    Bar,
    Provenance,
    RecordKind,
    Timeframe,
    VolumeKind,
)

_LONGEST_SHOWN: Final = 2048
_MOST_SHOWN: Final = 64


@dataclass(frozen=True, slots=True)
class Arrival:
    """Hold an entry as it came: its kind, its id, its fields, and when it was written."""

    kind: RecordKind
    id: bytes
    fields: Fields

    @property
    def written_ms(self) -> int:
        return int(self.id.partition(b"-")[0])


@dataclass(slots=True)
class Outputs:
    """Collect what is to be published: the fields of entries, by stream, each with its names and values."""

    bars: list[dict[str, str]] = field(default_factory=list)
    indicators: list[dict[str, str]] = field(default_factory=list)
    quarantine: list[dict[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.bars) + len(self.indicators) + len(self.quarantine)


class EntryEncoder:
    """Make the entries of one symbol."""

    def __init__(self, symbol: str, asset: AssetClass, epoch: int, grid: Grid) -> None:
        self._symbol, self._asset, self._grid = symbol, asset, grid
        self._epoch = str(epoch)
        self._minutes: dict[Timeframe, tuple[Interval, int]] = {}
        """The last interval of each timeframe, and how many minutes of it the market trades."""

    def encode_bar(
        self,
        bar: Bar,
        basis: PriceBasis,
        provenance: Provenance,
        *,
        rev: int,
        is_final: bool,
        volume_kind: VolumeKind | None,
        minutes: int = 0,
        is_other_hours: bool = False,
        corrected_ms: int = 0,
    ) -> dict[str, str]:
        """Return the entry of a bar, which is known at its `end`; a correction since `corrected_ms`.

        A bar of other hours than the session's, whose day of UTC ends later, is known since the end of that.
        `minutes` is of how many it was built, 0 if it was not. How it is adjusted and whose volume it has are
        its own, and not those of `provenance`, which is of its last change.
        """
        if (provenance.adjustment, provenance.volume_kind) != (basis.adjustment, volume_kind):
            provenance = replace(provenance, adjustment=basis.adjustment, volume_kind=volume_kind)
        fields = encode_entry(bar, self._asset, provenance)
        if basis.adjustment is not Adjustment.RAW:
            fields["adjusted_to"] = basis.day.isoformat()
        fields["rev"], fields["epoch"] = str(rev), self._epoch
        fields["final"] = "1" if is_final else "0"
        timeframe: Timeframe = bar.timeframe  # type: ignore[assignment]
        if (interval := self._grid.find(bar.start_ms, timeframe)) is not None:
            fields["end"] = str(interval.close_ms)
            if minutes:
                missing = self._count_minutes(interval) - minutes
                fields["minutes"], fields["missing"] = str(minutes), str(max(0, missing))
            if corrected_ms or is_other_hours:
                fields["known_at"] = str(
                    max(corrected_ms, _find_end(interval, is_other_hours=is_other_hours))
                )
        is_of_days = timeframe == "1d" or timeframe in PERIODS
        if is_of_days and (day := self._grid.find_day(bar.start_ms)) is not None:
            named = name_period(day.date, timeframe) if timeframe in PERIODS else day.date
            fields["day"] = named.isoformat()
        return fields

    def encode_values(
        self,
        key: tuple[Timeframe, int],
        values: Values,
        provenance: Provenance,
        *,
        rev: int,
        is_final: bool,
        is_other_hours: bool = False,
        corrected_ms: int = 0,
    ) -> dict[str, str]:
        """Return the entry of the values of a bar, whose `key` is its timeframe and its start.

        They are known when the bar is; if a correction changed them since `corrected_ms`.
        """
        timeframe, start_ms = key
        interval = self._grid.find(start_ms, timeframe)
        fields = {
            "sym": self._symbol,
            "timeframe": timeframe,
            "start": str(start_ms),
            "rev": str(rev),
            "epoch": self._epoch,
            "final": "1" if is_final else "0",
        }
        if interval is not None:
            fields["known_at"] = str(max(corrected_ms, _find_end(interval, is_other_hours=is_other_hours)))
        fields["values"] = orjson.dumps(values).decode()
        fields.update(encode_provenance(provenance))
        fields.pop("volume_kind", None)  # values have no volume, and the last change does not say whose
        return fields

    def _count_minutes(self, interval: Interval) -> int:
        """Return how many minutes of an interval the market trades; a bar is published while it forms."""
        known = self._minutes.get(interval.timeframe)
        if known is None or known[0] != interval:
            known = self._minutes[interval.timeframe] = (interval, self._grid.count_minutes(interval))
        return known[1]

    def encode_rejected(self, arrival: Arrival, source: str, rejection: Rejection) -> dict[str, str]:
        return {
            "check": rejection.check.value,
            "why": rejection.why,
            "stream": MARKET_BARS if arrival.kind is RecordKind.BARS else MARKET_QUOTES,
            "entry": arrival.id.decode(),
            "at": str(arrival.written_ms),
            "sym": self._symbol,
            "source": source,
            "fields": _show_fields(arrival.fields),
        }


def _find_end(interval: Interval, *, is_other_hours: bool) -> int:
    """Return when the bar of an interval has ended."""
    return find_utc_end(interval.close_ms) if is_other_hours else interval.close_ms


def _show_fields(fields: Fields) -> str:
    """Return the first _MOST_SHOWN fields of an entry as JSON, _LONGEST_SHOWN bytes of each."""
    return orjson.dumps(
        {
            name.decode("utf-8", "replace")[:100]: value[:_LONGEST_SHOWN].decode("utf-8", "replace")
            for name, value in islice(fields.items(), _MOST_SHOWN)
        }
    ).decode()
