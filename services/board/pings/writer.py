"""Put pings on the buses of their services: a ping is acknowledged when its bus has taken all of it.

All pings that wait for a bus go into one pipeline, in the order in which they came; while it is on its way,
the next ones gather. Each ping is an entry of the stream `pings:<svc>` and a beat on the service's channel. A
ping that is a sign of life is kept in `beat:<svc>`, too, and one that ends a run in `run:<svc>`.
"""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import orjson

from marketswarm import log as logs
from marketswarm.beat import RunReport, encode_beat
from marketswarm.bus import Bus, BusError
from marketswarm.keys import last_beat_key, last_run_key, pings_key
from marketswarm.pings import PINGS_KEPT, PINGS_KEPT_SEC, JobPing, PingKind
from marketswarm.text import format_duration
from services.board.pings.answers import NO_BUS, TOO_MANY, RefusedPingError
from services.board.pings.directory import PingDestination

MAX_WAITING: Final = 5_000
"""How many pings may wait for one bus."""
MAX_WAITING_BYTES: Final = 16 * 1024 * 1024
"""How many bytes of bodies may wait for one bus."""
BATCH: Final = 500
"""How many pings go into one pipeline."""
BATCH_BYTES: Final = 2 * 1024 * 1024
EXPIRE_SEC: Final = 3600.0
"""How often the life of a stream is set anew."""
MAX_STARTS: Final = 10_000
"""How many runs that go on are remembered, for their duration."""
_REPORTS: Final[dict[PingKind, RunReport]] = {
    PingKind.SUCCESS: "ended",
    PingKind.START: "started",
    PingKind.FAIL: "failed",
    PingKind.LOG: "log",
}

log = logs.get("board")


@dataclass(slots=True)
class _WaitingPing:
    """A ping that waits for its bus, and what its client waits for."""

    ping: JobPing
    to: PingDestination
    done: asyncio.Future[None]
    commands: int = 0


class _BusQueue:
    """The pings that wait for one bus; `problem` is why the bus did not take the last ones."""

    def __init__(self) -> None:
        self.waiting: deque[_WaitingPing] = deque()
        self.waiting_bytes = 0
        self.is_busy = False
        self.problem: str | None = None

    def take_batch(self) -> list[_WaitingPing]:
        """Return the pings of the next pipeline, which wait no more."""
        batch: list[_WaitingPing] = []
        size = 0
        while self.waiting and len(batch) < BATCH and size < BATCH_BYTES:
            one = self.waiting.popleft()
            size += len(one.ping.body)
            if not one.done.done():  # its client may have given up
                batch.append(one)
        self.waiting_bytes -= size
        return batch


class PingWriter:
    """Writes pings to the buses, and counts those that were acknowledged, by kind.

    Args:
        find_bus: returns the bus of a name; raises BusError if it has no URL.
        boot: the id of this process, which all its beats carry.
        start: starts a task that runs to its end.
    """

    def __init__(
        self,
        find_bus: Callable[[str], Bus],
        boot: str,
        start: Callable[[Coroutine[Any, Any, None], str], Any],
    ) -> None:
        self.acknowledged: Counter[str] = Counter()
        self._find_bus, self._boot, self._start = find_bus, boot, start
        self._queues: dict[str, _BusQueue] = {}
        self._counts: Counter[str] = Counter()  # the last `i` of each service
        self._expiring: dict[str, float] = {}  # when the life of a service's stream was set
        self._started: OrderedDict[tuple[str, str | None], float] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many pings wait for a bus."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    async def write(self, ping: JobPing, to: PingDestination) -> None:
        """Return when the bus of a service has taken a ping. Raise RefusedPingError if it did not."""
        queue = self._queues.setdefault(to.bus, _BusQueue())
        if len(queue.waiting) >= MAX_WAITING or queue.waiting_bytes + len(ping.body) > MAX_WAITING_BYTES:
            raise RefusedPingError(TOO_MANY)
        done = asyncio.get_running_loop().create_future()
        queue.waiting.append(_WaitingPing(ping, to, done))
        queue.waiting_bytes += len(ping.body)
        if not queue.is_busy:
            queue.is_busy = True
            self._start(self._drain(to.bus, queue), f"pings to {to.bus}")
        await done
        self.acknowledged[ping.kind] += 1

    async def _drain(self, name: str, queue: _BusQueue) -> None:
        """Send what waits for a bus, pipeline by pipeline, until nothing does."""
        batch: list[_WaitingPing] = []
        try:
            while queue.waiting:
                await asyncio.sleep(0)  # the other requests of this turn of the loop come along
                batch = queue.take_batch()
                problem = await self._send_batch(name, batch)
                if problem and problem != queue.problem:
                    log.warning("board.pings_refused", bus=name, reason=problem)
                elif queue.problem and not problem:
                    log.info("board.pings_taken", bus=name)
                queue.problem = problem
        finally:
            queue.is_busy = False
            for one in (*batch, *queue.waiting):
                self._refuse(one)
            queue.waiting.clear()
            queue.waiting_bytes = 0

    async def _send_batch(self, name: str, batch: list[_WaitingPing]) -> str | None:
        """Send pings in one pipeline and answer each; return why the bus did not take one, if so."""
        try:
            bus = self._find_bus(name)
            pipe = bus.pipeline()
            for one in batch:
                before = len(pipe)
                self._add_commands(pipe, one.ping, one.to)
                one.commands = len(pipe) - before
            replies = await bus.ask(_execute(pipe)) if batch else []
        except BusError as error:
            for one in batch:
                self._refuse(one)
            return error.reason
        problem, place = None, 0
        for one in batch:
            failed = next(
                (each for each in replies[place : place + one.commands] if isinstance(each, Exception)), None
            )
            place += one.commands
            if failed is None:
                if not one.done.done():
                    one.done.set_result(None)
            else:
                problem = "error"
                self._refuse(one)
        return problem

    def _refuse(self, one: _WaitingPing) -> None:
        """Tell a client that its ping was not taken; the life of the stream may not have been set either."""
        self._expiring.pop(one.to.svc, None)
        if not one.done.done():
            one.done.set_exception(RefusedPingError(NO_BUS))

    def _add_commands(self, pipe: Any, ping: JobPing, to: PingDestination) -> None:
        """Add the commands of one ping to a pipeline."""
        self._counts[to.svc] += 1  # failed ones count: a beat whose answer was lost may have arrived
        payload = encode_beat(
            to.svc,
            self._counts[to.svc],
            ping.ts,
            boot=self._boot,
            detail=_find_reason(ping),
            exit_code=ping.exit_code,
            run=_REPORTS[ping.kind],
            rid=ping.rid,
        )
        stream, now = pings_key(to.svc), time.monotonic()
        pipe.xadd(stream, ping.encode(), maxlen=PINGS_KEPT, approximate=True)
        if now - self._expiring.get(to.svc, float("-inf")) >= EXPIRE_SEC:
            pipe.pexpire(stream, round(1000 * _life_sec(to)))
            self._expiring[to.svc] = now
        if ping.kind is PingKind.SUCCESS:
            pipe.set(last_beat_key(to.svc), payload, px=max(1, round(2000 * to.timeout_sec)))
        if ping.kind in (PingKind.SUCCESS, PingKind.FAIL):
            run = encode_run(to.svc, ping, self._started.pop((to.svc, ping.rid), None))
            pipe.set(last_run_key(to.svc), run, px=round(1000 * _life_sec(to)))
        elif ping.kind is PingKind.START:
            self._started[to.svc, ping.rid] = ping.ts
            if len(self._started) > MAX_STARTS:
                self._started.popitem(last=False)
        pipe.publish(to.channel, payload)


def encode_run(svc: str, ping: JobPing, started_at: float | None) -> bytes:
    """Return the end of a run as the JSON object for `run:<svc>`, which `marketswarm exec` writes, too."""
    ok = ping.kind is PingKind.SUCCESS
    code = 0 if ok and ping.exit_code is None else ping.exit_code
    said = "ended" if ok else "failed" if code is None else f"exit {code}"
    found: dict[str, Any] = {"svc": svc, "ok": ok}
    if code is not None:
        found["code"] = code
    if started_at is not None and ping.ts >= started_at:
        found["took_sec"] = round(ping.ts - started_at, 3)
        said += f" after {format_duration(ping.ts - started_at)}"
    return orjson.dumps(found | {"ts": round(ping.ts, 3), "said": said})


def _find_reason(ping: JobPing) -> str | None:
    """Return the first line of a failed ping's body that is not empty: why it failed."""
    if ping.kind is not PingKind.FAIL or not ping.body:
        return None
    return next((line for line in map(str.strip, ping.text.splitlines()) if line), None)


def _life_sec(to: PingDestination) -> float:
    """Return how long the pings of a service are kept."""
    return max(PINGS_KEPT_SEC, 2 * to.timeout_sec)


async def _execute(pipe: Any) -> list[Any]:
    """Return the reply to each command of a pipeline; raise the first error if every ping has one."""
    replies: list[Any] = await pipe.execute(raise_on_error=False)
    errors = [each for each in replies if isinstance(each, Exception)]
    # a server that is full or read-only still takes what is published
    if errors and all(isinstance(each, Exception | int) for each in replies):
        raise errors[0]
    return replies
