"""Put pings on the buses of their services: a ping is acknowledged when its bus has taken all of it.

All pings that wait for a bus go there in one script, in the order in which they came; while it is on its way,
the next ones gather. Each ping is an entry of the stream `pings:<svc>` and a beat on the service's channel. A
ping that is a sign of life is kept in `beat:<svc>`, too, and one that ends a run in `run:<svc>`.
"""

import asyncio
import os
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import orjson

from marketswarm import log as logs
from marketswarm.beat import Beat, RunReport, compute_life_sec, encode_beat
from marketswarm.bus import Bus, BusError
from marketswarm.bus.outage import Outage
from marketswarm.bus.scripts import Script
from marketswarm.keys import last_beat_key, last_run_key, pings_key
from marketswarm.pings import PINGS_KEPT, JobPing, PingKind, compute_kept_sec
from marketswarm.redactor import Redactor, list_secrets
from marketswarm.run_output import clean_output, find_last_line
from marketswarm.text import decode_text, extract_line, format_duration
from marketswarm.truth import Watch
from services.board.pings.answers import NO_BUS, TOO_MANY, RefusedPingError

MAX_WAITING: Final = 5_000  # how many pings may wait for one bus
MAX_WAITING_BYTES: Final = 16 * 1024 * 1024  # how many bytes of bodies may wait for one bus
BATCH: Final = 200  # how many pings go to a bus at once
BATCH_BYTES: Final = 2 * 1024 * 1024
CLEAN_SEC: Final = 1.0  # how long after its arrival secrets are still looked for in a body
EXPIRE_SEC: Final = 3600.0  # how often the life of a stream is set again
MAX_STARTS: Final = 10_000  # how many runs that continue are remembered, for their duration
_REPORTS: Final[dict[PingKind, RunReport]] = {
    PingKind.SUCCESS: "ended",
    PingKind.START: "started",
    PingKind.FAIL: "failed",
    PingKind.LOG: "log",
}

_WRITE: Final = Script.beside("services.board.pings", "write.lua")

log = logs.get("board")


@dataclass(slots=True)
class _WaitingPing:
    """A ping that waits for its bus; the run that it ends began at `started_at` (epoch seconds).

    `body` is what is kept of the ping's body.
    """

    ping: JobPing
    to: Watch
    done: asyncio.Future[None]
    body: bytes = b""
    started_at: float | None = None


class _BusQueue:
    """The pings that wait for one bus; `outage` lasts while the bus does not take them."""

    def __init__(self) -> None:
        self.waiting: deque[_WaitingPing] = deque()
        self.waiting_bytes = 0
        self.is_busy = False
        self.outage = Outage(log, "board.pings_refused", "board.pings_taken")

    def take_batch(self) -> list[_WaitingPing]:
        batch: list[_WaitingPing] = []
        size = 0
        while self.waiting and len(batch) < BATCH and size < BATCH_BYTES:
            one = self.waiting.popleft()
            size += len(one.body)
            if not one.done.done():  # its client may have given up
                batch.append(one)
        self.waiting_bytes -= size
        return batch


class PingWriter:
    """Writes pings to the buses, and counts those that were acknowledged, by kind.

    `find_bus` raises BusError for a name without a URL; `boot` is the id of this process, which all its beats
    carry; `start` starts a task that runs to its end.
    """

    def __init__(
        self,
        find_bus: Callable[[str], Bus],
        boot: str,
        start: Callable[[Coroutine[Any, Any, None], str], Any],
    ) -> None:
        self.acknowledged: Counter[str] = Counter()
        self._find_bus, self._boot, self._start = find_bus, boot, start
        self._redactor = Redactor(list_secrets(os.environ))
        self._cleaning = asyncio.Lock()
        self._held_bytes = 0  # of bodies that wait for their turn to be cleaned
        self._queues: dict[str, _BusQueue] = {}
        self._counts: Counter[str] = Counter()  # the last `i` of each service
        self._expiring: dict[str, float] = {}  # when the life of a service's stream was set
        self._begun_anew: dict[str, float] = {}  # when it was logged that a service's stream began again
        self._started: OrderedDict[tuple[str, str | None], float] = OrderedDict()

    @property
    def waiting(self) -> int:
        return sum(len(queue.waiting) for queue in self._queues.values())

    async def write(self, ping: JobPing, to: Watch) -> None:
        """Write a ping; return once the bus of its service has stored it. Raises RefusedPingError.

        Secrets are removed from its body first, in a thread.
        """
        body = await self._clean_body(ping) if ping.body else b""
        queue = self._queues.setdefault(to.bus, _BusQueue())
        if len(queue.waiting) >= MAX_WAITING or queue.waiting_bytes + len(body) > MAX_WAITING_BYTES:
            raise RefusedPingError(TOO_MANY)
        done = asyncio.get_running_loop().create_future()
        queue.waiting.append(_WaitingPing(ping, to, done, body))
        queue.waiting_bytes += len(body)
        if not queue.is_busy:
            queue.is_busy = True
            self._start(self._drain(to.bus, queue), f"pings to {to.bus}")
        await done
        self.acknowledged[ping.kind] += 1

    async def _clean_body(self, ping: JobPing) -> bytes:
        """Return the end of a body without secrets; what there was no time to search is left out."""
        until = time.monotonic() + CLEAN_SEC
        self._held_bytes += len(ping.body)
        try:
            if self._held_bytes > MAX_WAITING_BYTES:
                raise RefusedPingError(TOO_MANY)
            async with self._cleaning:  # one at a time: they take turns with the loop
                return await asyncio.to_thread(
                    clean_output, ping.body, ping.size, self._redactor, lambda: time.monotonic() >= until
                )
        finally:
            self._held_bytes -= len(ping.body)

    async def _drain(self, name: str, queue: _BusQueue) -> None:
        """Send what waits for a bus, batch by batch, until nothing does."""
        batch: list[_WaitingPing] = []
        try:
            while queue.waiting:
                await asyncio.sleep(0)  # the other requests of this turn of the loop come along
                batch = queue.take_batch()
                with queue.outage:
                    await self._send_batch(name, batch)
        finally:
            queue.is_busy = False
            for one in (*batch, *queue.waiting):
                if not one.done.done():
                    self._refuse(one)
            queue.waiting.clear()
            queue.waiting_bytes = 0

    async def _send_batch(self, name: str, batch: list[_WaitingPing]) -> None:
        """Send pings in one script and answer each. Raise BusError if the bus did not take one."""
        keys = [make(one.to.svc) for one in batch for make in (pings_key, last_beat_key, last_run_key)]
        texts = orjson.dumps([self._make_texts(one) for one in batch])
        args: list[str | bytes | float] = [
            PINGS_KEPT,
            texts,
            *(one.body for one in batch),
        ]
        try:
            failed, anew = await self._find_bus(name).script(_WRITE, keys, args) if batch else ([], [])
        except BusError:
            for one in batch:
                self._refuse(one)
            raise
        for number in failed[::2]:
            self._refuse(batch[number - 1])
        for number in anew:
            self._log_anew(batch[number - 1].to.svc)
        for one in batch:
            if not one.done.done():
                one.done.set_result(None)
        if failed:
            raise BusError(name, "error")

    def _log_anew(self, svc: str) -> None:
        """Log, once in EXPIRE_SEC, that the pings of a service were deleted: their stream had been ended."""
        now = time.monotonic()
        if now - self._begun_anew.get(svc, float("-inf")) >= EXPIRE_SEC:
            self._begun_anew[svc] = now
            log.warning("board.pings_reset", svc=svc, why="an entry with the last possible id ended them")

    def _refuse(self, one: _WaitingPing) -> None:
        """Tell a client that its ping was not taken.

        The life of the stream may not have been set either. The client sends an end again, so its start is
        kept, unless there was another one since.
        """
        self._expiring.pop(one.to.svc, None)
        if one.started_at is not None:
            self._started.setdefault((one.to.svc, one.ping.rid), one.started_at)
        if not one.done.done():
            one.done.set_exception(RefusedPingError(NO_BUS))

    def _make_texts(self, one: _WaitingPing) -> list[str]:
        ping, to = one.ping, one.to
        svc, now = to.svc, time.monotonic()
        self._counts[svc] += 1  # failed ones count, because a beat whose answer was lost may have arrived
        is_life = ping.kind is PingKind.SUCCESS
        life_sec = compute_life_sec(to.timeout_sec) if is_life else None
        sent = Beat(
            svc,
            self._counts[svc],
            ping.ts,
            boot=self._boot,
            detail=find_reason(ping, one.body),
            exit_code=ping.exit_code,
            run=_REPORTS[ping.kind],
            rid=ping.rid,
            via=ping.form,
            life=life_sec,
        )
        life = str(round(1000 * compute_kept_sec(to.timeout_sec)))
        is_new = now - self._expiring.get(svc, float("-inf")) >= EXPIRE_SEC
        if is_new:
            self._expiring[svc] = now
        beat_life = "" if life_sec is None else str(max(1, round(1000 * life_sec)))
        fields = [text for field in ping.encode().items() for text in field]
        run = self._encode_run(one)
        beat = encode_beat(sent).decode()
        return [to.channel, beat, life if is_new else "", beat_life, run.decode(), life, *fields]

    def _encode_run(self, one: _WaitingPing) -> bytes:
        """Return the run that a ping ends, or empty bytes; note the start of a run that it begins."""
        svc, ping = one.to.svc, one.ping
        if ping.kind in (PingKind.SUCCESS, PingKind.FAIL):
            one.started_at = self._started.pop((svc, ping.rid), None)
            return encode_run(svc, ping, one.body, one.started_at)
        if ping.kind is PingKind.START:
            self._started[svc, ping.rid] = ping.ts
            if len(self._started) > MAX_STARTS:
                self._started.popitem(last=False)
        return b""


def find_reason(ping: JobPing, kept: bytes) -> str | None:
    """Return why a failing ping says that its job failed: the detail of its beat, and of `run:<svc>`.

    With an exit code the ping's body is the output of a command, whose last line says it: that of `kept`,
    the end of the body without secrets. Otherwise it is a message, which begins with it.
    """
    if ping.kind is not PingKind.FAIL:
        return None
    if ping.exit_code is not None:
        return find_last_line(kept)
    return extract_line(decode_text(ping.head or ping.body))


def encode_run(svc: str, ping: JobPing, kept: bytes, started_at: float | None) -> bytes:
    """Return the end of a run as the JSON object for `run:<svc>`, which `marketswarm exec` writes, too.

    `kept` is the end of the ping's body without secrets.
    """
    ok = ping.kind is PingKind.SUCCESS
    code = 0 if ok and ping.exit_code is None else ping.exit_code
    said = "ended" if ok else "failed" if code is None else f"exit {code}"
    found: dict[str, Any] = {"svc": svc, "ok": ok, "via": ping.form}
    if code is not None:
        found["code"] = code
    if (reason := find_reason(ping, kept)) is not None:
        found["detail"] = reason
    if started_at is not None and ping.ts >= started_at:
        found["took_sec"] = round(ping.ts - started_at, 3)
        said += f" after {format_duration(ping.ts - started_at)}"
    return orjson.dumps(found | {"ts": round(ping.ts, 3), "said": said})
