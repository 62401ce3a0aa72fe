"""Run a service of the gym: it beats, writes a key, reads a cache, and does to itself what the gym orders.

The gym orders by files in the folder GYM_FOLDER: `<svc>.start` says what goes wrong at each start, and
`<svc>.do` what goes wrong now.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from redis.exceptions import RedisError

from bench.faultgym.requests import GOOD, find_socket
from marketswarm.agent import Agent, agent, run
from marketswarm.agent.requests import RequestDesk, RequestOutcome
from marketswarm.bus import BusError
from marketswarm.bus.stored_values import parse_epoch, parse_object
from marketswarm.keys import source_breaker_key
from marketswarm.operator.remedies import BOARD, SOURCES, Remedy
from marketswarm.truth import MARKET

FOLDER: Final = "GYM_FOLDER"
CACHED_KEYS: Final = {"quotes": "quotes:SPY", "charts": "chart:SPY:1d"}
STALE: Final = b'{"ts":0}'
CORRUPT: Final = b"\x80\x05\x95\x00\xff\x00{"
"""What is no value of a cache, though a string: the beginning of a pickle."""
MAX_AGE_SEC: Final = 3600.0
"""The age from which an entry of a cache is stale."""
SOURCE: Final = "gym"
LOOK_EVERY_SEC: Final = 0.1
ASK_EVERY_SEC: Final = 0.4
"""The time from one look for an order to the next, and from one request to the bus to the next."""
ROWS: Final = 1000
FOR_EVER_SEC: Final = 1e6
_KEPT: Final[list[object]] = []
"""What faults take and never give back."""


def run_target(svc: str) -> None:
    """Run the service `svc` of the gym until it ends, and exit."""
    folder, parent = Path(os.environ[FOLDER]), os.getppid()
    _follow_start_order(folder / f"{svc}.start")
    if (port := folder / f"{svc}.port").exists():
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", int(port.read_text())))
        listener.listen()
        _KEPT.append(listener)

    async def main() -> int:
        async with agent(svc) as me:
            target = Target(me, folder / f"{svc}.do")
            if svc == BOARD:
                desk = RequestDesk(Remedy.RECONNECT, me, target.reconnect)
                me.task(desk.run(), name="reconnect")
            await asyncio.start_unix_server(target.take_request, find_socket(folder, svc))
            while os.getppid() == parent:  # a service outside of the fleet ends with the gym
                await target.follow_order()
                target.work_off()
                await target.look()
                target.answer_requests()
                me.progress()
                await me.rest(LOOK_EVERY_SEC)
        return me.exit_code

    run(main)


def _follow_start_order(path: Path) -> None:
    """Do what is ordered for this start, as often as `times` says; null means each time."""
    try:
        order = json.loads(path.read_text())
    except OSError:
        return
    if order["times"] is not None:
        order["times"] -= 1
        if order["times"] > 0:
            path.write_text(json.dumps(order))
        else:
            path.unlink()
    del order["times"]
    if order["do"] == "exit":
        print("this start fails", flush=True)
        sys.exit(order["code"])
    elif order["do"] == "sleep":
        time.sleep(order["sec"])
    else:  # for when it is up
        path.with_suffix(".do").write_text(json.dumps(order))


class Target:
    """The work of one service of the gym."""

    def __init__(self, me: Agent[Any], orders: Path) -> None:
        self._me, self._orders = me, orders
        self._degraded_until = self._stalled_until = 0.0
        self._is_out_of_files = self._waits_for_ever = self._is_cut_off = False
        self._asked_at = self._backlog_sec = self._piece_sec = 0.0
        self._bus_problem: str | None = None
        self._problem: str | None = None
        self._spool: Path | None = None
        self._asked: list[asyncio.StreamWriter] = []

    async def look(self) -> None:
        """Say in the beats what is wrong."""
        now = time.monotonic()
        if now - self._asked_at >= ASK_EVERY_SEC:
            self._asked_at = now
            with contextlib.suppress(BusError, RedisError, OSError):
                self._bus_problem = await self._use_bus(now)
        problem = "it was ordered" if now < self._degraded_until else self._bus_problem
        if self._is_out_of_files:
            _take_files()  # also what a request gave back
            problem = "no file descriptor is left"
        if self._spool is not None:
            problem = _append_to(self._spool) or problem
        if self._is_cut_off:
            problem = "its connections do not answer"
        self._problem = problem
        self._me.set_degraded(problem)

    def work_off(self) -> None:
        """Do the next piece of the backlog in the event loop: hashes of short texts keep the interpreter."""
        if self._backlog_sec <= 0:
            return
        until = time.monotonic() + self._piece_sec
        while time.monotonic() < until:
            hashlib.sha256(b"a request")
        self._backlog_sec -= self._piece_sec

    async def take_request(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep a request until the work comes to it."""
        self._asked.append(writer)

    def answer_requests(self) -> None:
        """Answer what was asked since the last look: well only if the service does its work."""
        is_well = self._problem is None and time.monotonic() >= self._stalled_until
        while self._asked:
            writer = self._asked.pop()
            writer.write(GOOD if is_well else b"error")
            writer.close()

    async def _use_bus(self, now: float) -> str | None:
        """Write the key of the service, read its cache, and return what is wrong with it.

        A truth with a batch of no rows is one with which it can't work.
        """
        settings, market = self._me.section.settings, self._me.bus(MARKET)
        if "batch" in settings:
            self._me.set_detail(f"{ROWS // settings['batch']} writes")
        if (key := settings.get("writes")) and now >= self._stalled_until:
            await market.ask(market.client.set(key, json.dumps({"ts": time.time()})))
        cached = CACHED_KEYS.get(settings.get("reads", ""))
        if cached is not None and (raw := await market.ask(market.client.get(cached))) is not None:
            written_at = parse_epoch(parse_object(raw).get("ts"))
            if written_at is None:
                return "the cache can't be read"
            if time.time() - written_at > MAX_AGE_SEC:
                return "the cache is stale"
        if self._me.name == SOURCES:
            breaker = source_breaker_key(SOURCE)
            if await market.ask(market.client.hexists(breaker, "open_ms")):
                return "the source is not asked"
        return None

    async def follow_order(self) -> None:
        """Do what the gym ordered, once."""
        try:
            order = json.loads(self._orders.read_text())
        except OSError:
            return
        self._orders.unlink()
        getattr(self, f"_{order.pop('do')}")(**order)
        if self._waits_for_ever:
            await asyncio.Event().wait()

    async def reconnect(self) -> RequestOutcome:
        """Open the connections anew, as a service with a pool does on request."""
        self._is_cut_off = False
        return RequestOutcome()

    def _cut_off(self) -> None:
        self._is_cut_off = True

    def _connect(self) -> None:
        self._is_cut_off = False

    def _hang(self, sec: float = FOR_EVER_SEC) -> None:
        time.sleep(sec)

    def _hang_stubbornly(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(FOR_EVER_SEC)

    def _hang_in_c(self) -> None:
        re.match(r"(a+)+$", "a" * 60 + "b")  # holds the interpreter's lock: no thread and no handler runs

    def _spin(self) -> None:
        while True:
            pass

    def _wait_for_ever(self) -> None:
        self._waits_for_ever = True

    def _degrade(self, sec: float = FOR_EVER_SEC) -> None:
        self._degraded_until = time.monotonic() + sec

    def _stall_writer(self, sec: float = FOR_EVER_SEC) -> None:
        self._stalled_until = time.monotonic() + sec

    def _exit(self, code: int = 1) -> None:
        os._exit(code)

    def _leak(self, mb: int) -> None:
        _KEPT.append(b"x" * (mb << 20))

    def _burn(self, sec: float = FOR_EVER_SEC) -> None:
        """Use a processor beside the event loop, which goes on: hashing gives the interpreter's lock away."""

        def burn() -> None:
            text, until = b"x" * (8 << 20), time.monotonic() + sec
            while time.monotonic() < until:
                hashlib.sha256(text)

        threading.Thread(target=burn, daemon=True).start()

    def _overload(self, sec: float, piece_sec: float) -> None:
        """Get at once the work of so many seconds, in pieces between which beats go out."""
        self._backlog_sec, self._piece_sec = self._backlog_sec + sec, piece_sec

    def _flap(self, silent_sec: float, beats_sec: float) -> None:
        loop = asyncio.get_running_loop()

        def stall() -> None:
            time.sleep(silent_sec)
            loop.call_later(beats_sec, stall)

        loop.call_soon(stall)

    def _leave_zombies(self, count: int) -> None:
        _KEPT.extend(subprocess.Popen(["true"]) for _ in range(count))

    def _use_files(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        self._is_out_of_files = True

    def _leave_child(self) -> None:
        """End, and leave a child that holds the output open."""
        subprocess.Popen(["sleep", "60"])
        os._exit(1)

    def _log_lines(self, count: int) -> None:
        for number in range(count):
            print(f"noise {number}: ERROR nothing is wrong, connection refused by the peer", flush=True)

    def _spool_in(self, folder: str) -> None:
        """Work in a folder, and write a file there."""
        os.chdir(folder)
        self._spool = Path("spool")

    def _stop_spooling(self) -> None:
        os.chdir("/")
        self._spool = None

    def _set_clock(self, sec: float) -> None:
        """Set the clock of this process: what it says of the time is wrong by so much."""
        real = time.time
        time.time = lambda: real() + sec


def _append_to(path: Path) -> str | None:
    """Write a page to the end of a file; return why that is not possible, or None."""
    try:
        with path.open("ab") as file:
            file.write(bytes(4096))
    except OSError as error:
        return f"can't write: {error.strerror}"
    return None


def _take_files() -> None:
    with contextlib.suppress(OSError):
        while True:
            _KEPT.append(os.open(os.devnull, os.O_RDONLY))


if __name__ == "__main__":
    run_target(sys.argv[1])
