"""A wire that can break, between a client and a server."""

import asyncio
import contextlib
import socket
import struct
import threading
from typing import Any

from marketswarm.tasks import end_tasks
from support.rig.closes import Closes
from support.rig.process import HOST, free_port

ACCEPT_TURNS = 5
"""After so many turns of its loop an accepted connection has begun, and some more."""


class TcpProxy(Closes):
    """A wire to `target_port` that can break, in a thread: `.url` instead of the server's.

    `only` picks connections by bytes their client has sent so far (`only=b"SUBSCRIBE"`, any case).
    """

    def __init__(self, target_port: int) -> None:
        self.target_port, self.port = target_port, free_port()
        self._wires: set[_Wire] = set()
        self._faults: list[tuple[bytes, str]] = []
        self._delay_sec = 0.0
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self._listen())

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def count(self, only: bytes = b"") -> int:
        """Return the number of open connections that have sent `only`."""
        return sum(wire.said(only) for wire in list(self._wires))

    def cut(self, only: bytes = b"") -> int:
        """Resets connections; new ones pass. How many it were."""
        count: int = self._do(self._cut(only))
        return count

    def swallow(self, only: bytes = b"", direction: str = "both") -> None:
        """Half-open: connections, new ones too, stay and bytes vanish (`up` the client's, `down` replies)."""
        self._do(self._set(faults=[*self._faults, (only.upper(), direction)]))

    def mute(self, only: bytes = b"", direction: str = "both") -> int:
        """Half-open, but new connections pass: bytes vanish on those that there are. How many it were."""
        count: int = self._do(self._mute(only, direction))
        return count

    def delay(self, sec: float) -> None:
        """Each piece of bytes arrives that much later, in order."""
        self._do(self._set(delay_sec=sec))

    def refuse(self) -> None:
        """Resets all, and refuses new connections."""
        self._do(self._refuse())

    def heal(self) -> None:
        """All as new; a connection that lost bytes is reset, since its stream is broken for ever."""
        self._do(self._heal())

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._do(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def swallows(self, wire: "_Wire", direction: str) -> bool:
        said = [which for only, which in self._faults if wire.said(only)]
        return any(which in ("both", direction) for which in (*said, wire.muted))

    @property
    def delay_sec(self) -> float:
        return self._delay_sec

    def _do(self, what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = _Wire(self, writer)
        self._wires.add(wire)
        try:
            await wire.carry(reader, self.target_port)
        finally:
            self._wires.discard(wire)

    async def _cut(self, only: bytes) -> int:
        chosen = [wire for wire in self._wires if wire.said(only)]
        await asyncio.gather(*(wire.reset() for wire in chosen))
        return len(chosen)

    async def _mute(self, only: bytes, direction: str) -> int:
        chosen = [wire for wire in self._wires if wire.said(only)]
        for wire in chosen:
            wire.muted = direction
        return len(chosen)

    async def _set(
        self, faults: list[tuple[bytes, str]] | None = None, delay_sec: float | None = None
    ) -> None:
        self._faults = self._faults if faults is None else faults
        self._delay_sec = self._delay_sec if delay_sec is None else delay_sec

    async def _refuse(self) -> None:
        if self._server is not None:
            # asyncio leaves a socket open that it accepted in the very turn in which its server is closed: so
            # first nothing more is accepted, and what was becomes a wire
            for listening in self._server.sockets:
                self._loop.remove_reader(listening.fileno())
            for _ in range(ACCEPT_TURNS):
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
        await self._cut(b"")

    async def _heal(self) -> None:
        self._faults, self._delay_sec = [], 0.0
        for wire in self._wires:
            wire.muted = ""  # also where nothing was said meanwhile, and so nothing was lost
        await asyncio.gather(*(wire.reset() for wire in list(self._wires) if wire.lossy))
        if self._server is None:
            await self._listen()


class _Wire:
    """A connection through the proxy."""

    def __init__(self, proxy: TcpProxy, client: asyncio.StreamWriter) -> None:
        self.lossy = False
        self.muted = ""
        self._proxy, self._client = proxy, client
        self._server: asyncio.StreamWriter | None = None
        self._begun = b""
        self._task = asyncio.current_task()
        self._torn = False

    def said(self, only: bytes) -> bool:
        return only.upper() in self._begun

    async def carry(self, from_client: asyncio.StreamReader, port: int) -> None:
        try:
            from_server, self._server = await asyncio.open_connection(HOST, port)
            ways = [
                asyncio.ensure_future(self._pump(from_client, self._server, "up")),
                asyncio.ensure_future(self._pump(from_server, self._client, "down")),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await end_tasks(*ways)
        except (OSError, asyncio.CancelledError):
            pass  # no server behind it, or reset
        finally:
            for side in (self._client, self._server):
                if side is not None and self._torn:
                    _abort(side)
                elif side is not None:
                    side.close()

    async def reset(self) -> None:
        assert self._task is not None
        self._torn = True
        self._task.cancel()
        await asyncio.wait([self._task], timeout=5)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: str) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sender = asyncio.ensure_future(self._send(queue, sink))
        loop = asyncio.get_running_loop()
        try:
            while piece := await source.read(65_536):
                if direction == "up":  # AUTH and HELLO come first, so keep enough to see SUBSCRIBE
                    self._begun = (self._begun + piece.upper())[-65_536:]
                if self._proxy.swallows(self, direction):
                    self.lossy = True
                else:
                    queue.put_nowait((loop.time() + self._proxy.delay_sec, piece))
            await queue.join()
        except OSError:
            pass  # an end was reset
        finally:
            await end_tasks(sender)

    @staticmethod
    async def _send(queue: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        while True:
            due, piece = await queue.get()
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            try:
                sink.write(piece)
                await sink.drain()
            finally:
                queue.task_done()


def _abort(side: asyncio.StreamWriter) -> None:
    """Ends a connection by RST, as a broken network or a dead process does."""
    raw = side.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    side.transport.abort()
