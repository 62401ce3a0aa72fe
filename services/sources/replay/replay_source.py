"""Play a recording as a source: answer a question by what was known at that time of the recording.

The clock of a recording is on the bus (`replay_clock.lua`), so that all instances, all replays of one
recording and those that are restarted tell the same time. Its time is the server's: no instance's own
clock counts.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import quote

import anyio.to_thread

from marketswarm import log as logs
from marketswarm.bus import Bus
from marketswarm.bus.circuit_breaker import CircuitBreaker
from marketswarm.bus.scripts import Script
from marketswarm.keys import replay_clock_key, source_breaker_key
from services.market.entries import format_number
from services.market.records import ActionKind, Record, RecordKind, VolumeKind
from services.sources.access.client import OnRequest
from services.sources.catalog.answer import NOT_SERVED, AnswerStatus, SentRequest, SourceAnswer
from services.sources.catalog.request import Question
from services.sources.replay.recording import (
    Recording,
    RecordingError,
    Reel,
    SeriesKey,
    parse_line,
    parse_line_as_quote,
    read_recording,
    to_ms,
)

log = logs.get("sources")

REPLAY_CLOCK: Final = Script.beside("services.sources.replay", "replay_clock.lua")
MAX_SPEED: Final = 3600.0
MINUTE: Final = "1m"


@dataclass(frozen=True, slots=True)
class ReplayClock:
    """Hold how far a recording was played. All times are in milliseconds.

    Attributes:
        speed: how many milliseconds are played in one.
        begun_ms: since when it plays at this speed (epoch).
        elapsed_ms: how much had been played then.
        now_ms: what time it is (epoch), by the bus.
    """

    speed: float
    begun_ms: int
    elapsed_ms: int
    now_ms: int

    @property
    def played_ms(self) -> int:
        """How much of the recording was played until now, in milliseconds."""
        return self.elapsed_ms + int(max(0, self.now_ms - self.begun_ms) * self.speed)

    def find_time(self, reel: Reel) -> int:
        """Return the time in a reel, in epoch milliseconds: never after its end."""
        return min(to_ms(reel.play_from) + self.played_ms, to_ms(reel.to))


class ReplaySource:
    """Answer questions from a recording. Each method that is awaited raises BusError if the bus fails.

    Args:
        name: what the source is called in a cascade; several may play one recording.
        bus: the bus that has the clock, and the breaker of the source.
        speed: how many seconds are played in one.
        start: the time in one of the reels at which to begin, as ISO 8601; the others begin as much earlier
            or later. By default each begins where its header says.

    Raises:
        RecordingError: `speed` or `start` is out of bounds.
    """

    def __init__(
        self, name: str, recording: Recording, bus: Bus, *, speed: float = 60.0, start: str | None = None
    ) -> None:
        if not 0 < speed <= MAX_SPEED:
            raise RecordingError(f"speed: {speed:g} is not more than 0, and at most {MAX_SPEED:g}")
        self.name, self.recording = name, recording
        self.speed, self._bus = speed, bus
        self._offset_ms = 0 if start is None else find_offset(recording, start)
        self._breaker = CircuitBreaker(bus, source_breaker_key(name))

    async def read_clock(self) -> ReplayClock:
        """Return the clock, which begins to run with the first call.

        Log a warning if another start or file restarts the clock on a bus that has played a recording.
        """
        key = replay_clock_key(self.recording.header.name)
        args: list[str | bytes | float] = [
            self.recording.digest,
            format_number(self.speed),
            str(self._offset_ms),
        ]
        begun, elapsed, now, is_anew = await self._bus.script(REPLAY_CLOCK, [key], args)
        if is_anew:
            log.warning("replay.restarted", recording=self.recording.header.name, bus=self._bus.name)
        return ReplayClock(self.speed, int(begun), int(elapsed), int(now))

    async def find_time(self, symbol: str) -> float:
        """Return epoch seconds for sessions and ages of records; 0 if the recording lacks the symbol."""
        reel = self.recording.find_reel(symbol)
        return 0.0 if reel is None else (await self.read_clock()).find_time(reel) / 1000

    async def ask(self, question: Question, *, on_request: OnRequest | None = None) -> SourceAnswer:
        """Return what was known by now, as a source answers: never anything later than the clock.

        A time of the question that lies after the reel's end is one of today: it is moved to where the clock
        is. So the last hour of today is the last hour of the recording. `on_request` is called with
        what would be the request to a source outside; its `url` begins with `replay://`.
        """
        begun = time.monotonic()
        reel = self.recording.find_reel(question.symbol)
        if reel is None or not any(map(self.recording.has_series, _find_keys(question))):
            return SourceAnswer(self.name, AnswerStatus.FAILED, NOT_SERVED, is_replay=True)
        reading = await self._breaker.ask()
        if reading.refusal:
            why, wait_sec = reading.refusal, reading.wait_sec or 0.0
            return SourceAnswer(self.name, AnswerStatus.FAILED, why, wait_sec=wait_sec, is_replay=True)
        clock = await self.read_clock()
        time_ms = clock.find_time(reel)
        moved = move_question(question, reel, time_ms, clock.now_ms)
        lines, records = self._find_records(moved, time_ms)
        await self._breaker.record_success()
        body = b"".join(line + b"\n" for line in lines)
        why_empty = "the recording is over" if time_ms >= to_ms(reel.to) else "nothing of that time"
        answer = SourceAnswer(
            self.name,
            AnswerStatus.OK if records else AnswerStatus.EMPTY,
            "" if records else why_empty,
            records,
            asked_at=clock.now_ms / 1000,
            digest=hashlib.sha256(body).hexdigest() if lines else "",
            is_replay=True,
            played_at=time_ms / 1000,
            volume_kind=self._find_volume(question),
        )
        if on_request is not None:
            on_request(self._make_request(moved, answer, body, time.monotonic() - begun))
        return answer

    def _find_volume(self, question: Question) -> VolumeKind | None:
        kinds = self.recording.header.volume_kinds
        return kinds.get(question.asset) if question.kind is RecordKind.BARS else None

    def _find_records(self, question: Question, time_ms: int) -> tuple[list[bytes], tuple[Record, ...]]:
        """Return the lines of the recording, too."""
        keys = _find_keys(question)
        if question.kind is RecordKind.QUOTES:
            found = [self.recording.find_last_line(key, time_ms) for key in keys]
            quotes = [(parse_line_as_quote(line), line) for line in found if line is not None]
            latest = max(quotes, key=lambda each: each[0].at_ms, default=None)
            return ([], ()) if latest is None else ([latest[1]], (latest[0],))
        start_ms, end_ms = to_ms(question.start), to_ms(question.end)
        lines = [line for key in keys for line in self.recording.find_lines(key, start_ms, end_ms, time_ms)]
        return lines, tuple(map(parse_line, lines))

    def _make_request(
        self, question: Question, answer: SourceAnswer, body: bytes, took_sec: float
    ) -> SentRequest:
        series = "/".join(filter(None, (question.kind, quote(question.symbol, safe=""), question.timeframe)))
        span = f"start={to_ms(question.start)}&end={to_ms(question.end)}"
        return SentRequest(
            self.name,
            f"replay://{self.recording.header.name}/{series}?{span}",
            took_sec,
            HTTPStatus.OK,
            body,
            answer.asked_at,
            answer.outcome,
            answer.reason,
            len(answer.records),
            is_replay=True,
        )


async def open_replays(
    file: str, names: Sequence[str], bus: Bus, *, speed: float = 60.0, start: str | None = None
) -> dict[str, ReplaySource]:
    """Read a recording, and return the sources that play it, by name. Raise RecordingError if that fails."""
    recording = await anyio.to_thread.run_sync(read_recording, Path(file))
    return {name: ReplaySource(name, recording, bus, speed=speed, start=start) for name in names}


def find_offset(recording: Recording, start: str) -> int:
    """Return how far into a recording a time lies (ms). Raise RecordingError if no reel has it."""
    try:
        at = datetime.fromisoformat(start)
    except ValueError:
        raise RecordingError("start: no time as 2013-10-10T13:30:00Z") from None
    at_ms = to_ms(at if at.tzinfo else at.replace(tzinfo=UTC))
    for reel in recording.header.reels:
        if to_ms(reel.start) <= at_ms < to_ms(reel.to):
            return at_ms - to_ms(reel.play_from)
    raise RecordingError("start: no reel of the recording has this time")


def move_question(question: Question, reel: Reel, time_ms: int, now_ms: int) -> Question:
    """Return a question in which each time after the reel's end is moved from today to the reel's time."""

    def move(at: datetime) -> datetime:
        if at <= reel.to:
            return at
        return datetime.fromtimestamp((to_ms(at) - now_ms + time_ms) / 1000, UTC)

    return replace(question, start=move(question.start), end=move(question.end))


def _find_keys(question: Question) -> list[SeriesKey]:
    """Return the series that answer a question: for quotes also minutes, since each ends with one."""
    key = SeriesKey(question.kind, question.symbol, question.asset, question.timeframe)
    if question.kind is RecordKind.ACTIONS:
        return [key._replace(timeframe=kind.value) for kind in ActionKind]
    if question.kind is not RecordKind.QUOTES:
        return [key]
    return [key._replace(timeframe=""), SeriesKey(RecordKind.BARS, question.symbol, question.asset, MINUTE)]
