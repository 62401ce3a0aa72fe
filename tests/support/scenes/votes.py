"""Questions to voters outside, the answers of such voters, and an asker of one of them."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import orjson

from marketswarm.bus import Bus
from services.signals.ask.asker import VoteAsker
from services.signals.ask.endpoints import AskSettings
from services.signals.ask.keys import parse_keys
from services.signals.ask.metrics import AskMetrics
from services.signals.ask.news import NewsMemory
from services.signals.ask.questions import VoteQuestion
from services.signals.view import BarWindow
from support.rig.receiver import Answer

AS_OF_MS = 1_800_000_000_000
PATIENT_SEC = 60.0
"""How long an answer may take that is to be in time, on a busy machine."""


class ManualClock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.ahead_sec = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_sec


def make_window(*closes: float) -> BarWindow:
    """Minutes that end at AS_OF_MS."""
    column = np.array(closes or range(100, 140), dtype=np.float64)
    starts = AS_OF_MS - 60_000 * np.arange(len(column), 0, -1, dtype=np.int64)
    return BarWindow(starts, *(column for _ in BarWindow._fields[1:]))


def ask_of(symbol: str = "AAPL", voter: str = "mine", **more: Any) -> VoteQuestion:
    named = {"as_of_ms": AS_OF_MS, "price": 139.0, "bars": make_window(), "volatility": 0.001}
    return VoteQuestion(symbol=symbol, voter=voter, **(named | more))


def say(**more: Any) -> dict[str, Any]:
    """What a voter answers."""
    return {"direction": "up", "strength": 0.5, "confidence": 0.8, "reason": "the means rise"} | more


def reply(body: Any = None, **more: Any) -> Answer:
    """The response of a program."""
    raw = body if isinstance(body, bytes) else orjson.dumps(say(**more) if body is None else body)
    return Answer(200, {"Content-Type": "application/json"}, raw)


def complete(content: str | bytes | None = None, **more: Any) -> Answer:
    """The response of a model."""
    text = orjson.dumps(say(**more)).decode() if content is None else content
    text = text.decode() if isinstance(text, bytes) else text
    return reply({"choices": [{"message": {"content": text}}]})


def deadline(sec: float = PATIENT_SEC) -> float:
    return time.monotonic() + sec


@asynccontextmanager
async def asking(
    bus: Bus, voters: Mapping[str, AskSettings], *, keys: str = "", clock: Any = time.monotonic
) -> AsyncIterator[VoteAsker]:
    """An asker of these voters; `news` and `metrics` are its own."""
    async with VoteAsker(parse_keys(keys), NewsMemory(), AskMetrics(), clock) as asker:
        await asker.configure(bus, voters)
        yield asker
