"""Signals as the service `signals` stores and publishes them: places, ticks, checkpoints and cosignatures.

    await seed_signals(url, [make_tick(1, make_content("SPY", 1, side="long"))], cosigned=1)

A content is canonical JSON, so its id is what the log's tree has.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

import asyncpg
import orjson
import redis

from marketswarm.keys import SIGNALS_LOG
from services.signals.log.entries import encode_entry
from services.tables.signals import SignalRow, make_signal_fields

NOW_MS = int(time.time()) * 1000
CYCLE_MS = 5000
VOTES: Mapping[str, Any] = {
    "trend": {
        "weight": "0.4", "direction": 1, "strength": "0.900000000000", "confidence": "0.800000000000",
        "expires": NOW_MS, "reasons": ["the mean of 10 closes is above that of 30"],
    },
    "breakout": {
        "weight": "0.25", "direction": 1, "strength": "0.500000000000", "confidence": "1.000000000000",
        "expires": NOW_MS, "reasons": ["the close is above the highest high of 20 bars"],
    },
    "reversion": {
        "weight": "0.2", "direction": -1, "strength": "0.300000000000", "confidence": "1.000000000000",
        "expires": NOW_MS, "reasons": ["the close is 1.4 deviations above its mean"],
    },
    "xai_grok": {"abstained": "late", "weight": "0.15"},
}  # fmt: skip
"""Votes whose sum is SCORE."""
ENDPOINTS = [
    {"voter": "trend", "rule": "trend", "weight": 0.4},
    {"voter": "breakout", "rule": "breakout", "weight": 0.25},
    {"voter": "reversion", "rule": "reversion", "weight": 0.2},
    {"voter": "xai_grok", "kind": "chat", "url": "https://api.x.ai/v1", "model": "grok-4", "weight": 0.15},
]
"""The voters of these votes in a truth."""
SCORE, CONFLICT, PARTICIPATION = "0.415294117647", "0.253699788584", "0.850000000000"
ORIGIN = {"code": "0.1.0", "truth": "7", "consensus": "6.0"}


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick and the places in it that are stored."""

    number: int
    at_ms: int
    contents: tuple[dict[str, Any], ...]
    rules: bytes | None = None
    """The text of the rules that its entry names; None: it names none."""


def make_content(symbol: str, tick: int, side: str | None = "long", **more: Any) -> dict[str, Any]:
    """Return the place of a symbol; without a side it abstained for want of a quorum."""
    bars = {"timeframe": "1m", "source": "massive", "first": NOW_MS - 1_800_000, "last": NOW_MS - 60_000,
            "count": 30, "digest": "ab" * 32}  # fmt: skip
    decided = {"outcome": "signal", "side": side} if side else {"outcome": "abstained", "why": "quorum"}
    numbers = {"score": SCORE, "confidence": SCORE.lstrip("-"), "conflict": CONFLICT,
               "participation": PARTICIPATION, "effective": "2.752380952381"}  # fmt: skip
    place = {"v": 1, "symbol": symbol, "tick": tick, "before": "flat", "price": "581.2", "replay": False,
             "votes": VOTES, "bars": bars}  # fmt: skip
    return {**place, **decided, **numbers, **more}


def make_tick(number: int, *contents: dict[str, Any], at_ms: int | None = None) -> Tick:
    return Tick(number, NOW_MS - 600_000 + CYCLE_MS * number if at_ms is None else at_ms, contents)


def make_rows(tick: Tick) -> list[SignalRow]:
    """Return the rows of a tick, each with the hash of its content."""
    rows = []
    for place, content in enumerate(tick.contents):
        text = encode_entry(content)
        hashed = sha256(b"\x00" + text).digest()
        decided = (content["outcome"], content.get("side"))
        numbers = (content[name] for name in ("score", "confidence", "conflict", "participation"))
        rows.append(SignalRow(
            tick.number, content["symbol"], place, tick.at_ms, *decided, *numbers, content["replay"], hashed,
            text.decode(),
        ))  # fmt: skip
    return rows


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


async def seed_signals(url: str, ticks: Sequence[Tick], *, cosigned: int = 0, first: int = 0) -> None:
    """Write ticks, the entry `first` of the log first, and a cosigned checkpoint of so many entries."""
    connection = await asyncpg.connect(url)
    try:
        epochs = await connection.fetchval("select count(*) from signal_epochs")
        await connection.execute("insert into signal_epochs values ($1, now(), $2)", epochs + 1, "signals-1")
        for n, tick in enumerate(ticks, first):
            named: dict[str, str] = {}
            if tick.rules is not None:
                digest = sha256(b"\x00" + tick.rules)
                named["rules"] = digest.hexdigest()
                sql = "insert into signal_rules values ($1, $2) on conflict do nothing"
                await connection.execute(sql, digest.digest(), tick.rules.decode())
            entry = orjson.dumps(
                {"v": 1, "kind": "tick", "tick": tick.number, "places": 4, **ORIGIN, **named}
            ).decode()
            await connection.execute(
                "insert into signal_log values ($1, 'tick', $2, $3, $4, $5)",
                *(n, tick.number, epochs + 1, _moment(tick.at_ms), entry),
            )
            await write_places(connection, make_rows(tick))
        if cosigned:
            await cosign(connection, cosigned)
    finally:
        await connection.close()


async def word_signal(url: str, tick: int, symbol: str, text: str, model: str = "grok-4") -> None:
    """Store how a model worded a signal, as it is: the text may be anything."""
    connection = await asyncpg.connect(url)
    try:
        sql = "insert into signal_wordings values ($1, $2, now(), $3, $4)"
        await connection.execute(sql, tick, symbol, model, text)
    finally:
        await connection.close()


async def write_places(connection: Any, rows: Sequence[SignalRow]) -> None:
    """Write the places of the newest tick as they are: a content need not fit its hash."""
    for row in rows:
        decimals = [None if each is None else Decimal(each) for each in row[6:10]]
        cells = (*row[:3], _moment(row.at), *row[4:6], *decimals, *row[10:])
        marks = ", ".join(f"${number}" for number in range(1, len(cells) + 1))
        await connection.execute(f"insert into signals values ({marks})", *cells)  # noqa: S608 - numbers


async def cosign(connection: Any, size: int, at_ms: int = NOW_MS - 9000) -> None:
    await connection.execute(
        "insert into signal_checkpoints values ($1, $2, 'a note')", size, _moment(at_ms - 1000)
    )
    await connection.execute(
        "insert into signal_cosignatures values ($1, $2, $3, 'a line')",
        *(size, "witness.example/one", _moment(at_ms)),
    )


def publish(client: redis.Redis, tick: Tick, asset: str = "stocks") -> list[str]:
    """Publish the places of a tick as signals does after the commit; return their ids."""
    rows = make_rows(tick)
    for row in rows:
        client.xadd(SIGNALS_LOG, dict[Any, Any](make_signal_fields(row, asset)))
    return [row.ident for row in rows]
