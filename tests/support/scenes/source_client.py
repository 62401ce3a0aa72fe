"""A source of hourly bars for tests that ask one: its file, its answers, and an account of its requests."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from marketswarm.bus.circuit_breaker import BreakerReading, BreakerState
from marketswarm.bus.rate_limiter import Windows
from services.market.records import AssetClass, RecordKind
from services.sources.cascade.series import time_of
from services.sources.catalog.answer import SourceAnswer
from services.sources.catalog.request import ApiKey, Question
from services.sources.catalog.source import MarketSource
from support.rig.receiver import Answer

START = datetime(2026, 11, 2, tzinfo=UTC)
KEY = ApiKey("the-key", "the-secret")
BY_KEY = {"place": "query", "name": "key", "env": "EXAMPLE_KEY"}


def make_source(
    *,
    auth: Mapping[str, Any] | None = None,
    limits: Mapping[str, int] | None = None,
    limited: Sequence[str] = (),
    **endpoint: Any,
) -> MarketSource:
    """A source of hourly bars, one row an hour, whose file says what is given."""
    fields = {name: {"path": f"[{at}]"} for at, name in enumerate(("open", "high", "low", "close"), 1)}
    bars = {
        "kind": "bars",
        "assets": ["stocks"],
        "timeframes": {"1h": "60"},
        "adjustment": "raw",
        "path": "/bars/{symbol}",
        "params": {"from": "{start:epoch_s}", "to": "{end:epoch_s}"},
        "records": "rows",
        "fields": {"start": {"path": "[0]", "format": "epoch_s"}, **fields},
        **endpoint,
    }
    return MarketSource.model_validate(
        {
            "name": "example",
            "title": "Example",
            "docs": ["https://example.org/"],
            "limited": limited,
            "base_url": "https://api.example.org",
            "auth": auth or {"place": "none"},
            "limits": limits or {"per_minute": 60},
            "serves": {"bars": bars},
        }
    )


def question(hours: int = 4) -> Question:
    """Ask for so many hours."""
    return Question("AAPL", AssetClass.STOCKS, RecordKind.BARS, START, START + timedelta(hours=hours), "1h")


def row(hour: int) -> list[float]:
    """The bar of an hour, counted from START."""
    return [int(START.timestamp()) + 3600 * hour, 1, 3, 0.5, 2]


def hours_of(answer: SourceAnswer) -> list[int]:
    """The hours of the bars of an answer."""
    return [time_of(each) // 3_600_000 % 24 for each in answer.records]


def rows(*hours: int, **more: Any) -> Answer:
    """The answer with the bars of these hours."""
    return Answer(
        200, {"Content-Type": "application/json"}, orjson.dumps({"rows": [*map(row, hours)], **more})
    )


class Account:
    """Stands for limiter and breaker; `waits` are the seconds of requests that are not granted at once."""

    def __init__(self, *waits: float, open_sec: float = 0.0) -> None:
        self.waits, self.open_sec = list(waits), open_sec
        self.taken: list[tuple[str | None, tuple[tuple[int, int], ...]]] = []
        self.blocked: list[tuple[str | None, float]] = []
        self.outcomes: list[str] = []

    async def take(self, secret: str | None, windows: Windows) -> float:
        self.taken.append((secret, tuple(windows)))
        return self.waits.pop(0) if self.waits else 0.0

    async def count_left(
        self, _secret: str | None, windows: Windows, _waited_for_sec: float = 0.0
    ) -> Sequence[int]:
        return [count for _, count in windows]

    async def block(self, secret: str | None, sec: float, _windows: Windows) -> None:
        self.blocked.append((secret, sec))

    async def ask(self) -> BreakerReading:
        return BreakerReading(BreakerState.OPEN if self.open_sec else BreakerState.CLOSED, self.open_sec)

    async def record_success(self) -> None:
        self.outcomes.append("ok")

    async def record_failure(self, *, is_trial: bool = False) -> None:
        self.outcomes.append("failed trial" if is_trial else "fail")
