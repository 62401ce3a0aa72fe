"""Answer a request with one Arrow stream, as its rows come from the database, in bounded memory.

The rows that wait for the client are those of one piece: while it is encoded or sent, nothing more is read
from the database.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Protocol

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from marketswarm import log as logs
from marketswarm.tasks import run_beside
from marketswarm.web.limits import RETRY_SEC, RefusedError
from services.board.market.archive_reader import STREAM_SEC, STREAMS, TOO_BUSY, DatabaseAwayError
from services.board.market.arrow_batches import END, STREAM_TYPE, ArrowEncoder
from services.tables.rows import ColumnType

if TYPE_CHECKING:
    import polars as pl

FIRST_SEC: Final = 8.0
"""How long the first row may take: less than the ten seconds of the guard, which does not know the reason."""
PIECE_BYTES: Final = 4 * 1024 * 1024  # of CSV; with its columns and their encoding it takes a few times that
PIECE_SEC: Final = 1.0  # rows that come slowly wait no longer for the rest of their piece
PER_ADDRESS: Final = 2

log = logs.get("board")

TakeRows = Callable[[bytes], Awaitable[None]]
"""Takes whole lines of CSV."""
CopyRows = Callable[[TakeRows], Awaitable[None]]
"""Passes all rows of an answer on. Raises DatabaseAwayError."""


class FrameAdjuster(Protocol):
    """Makes of the rows of a piece those that are sent."""

    async def adjust_frame(self, frame: "pl.DataFrame") -> "pl.DataFrame":
        """Return as many rows with the same columns. Raises DatabaseAwayError."""


class StreamPlaces:
    """Counts the Arrow streams that are open: at most STREAMS, and PER_ADDRESS of one address."""

    def __init__(self) -> None:
        self._open = Counter[str]()

    def __len__(self) -> int:
        return self._open.total()

    @contextlib.contextmanager
    def take(self, address: str) -> Iterator[None]:
        """Count a stream while the block runs. Raises RefusedError if there are too many."""
        if self._open[address] >= PER_ADDRESS:
            raise RefusedError(429, f"an address has {PER_ADDRESS} Arrow streams at once", RETRY_SEC)
        if len(self) >= STREAMS:
            raise RefusedError(503, f"the board sends {STREAMS} Arrow streams at once", RETRY_SEC)
        self._open[address] += 1
        try:
            yield
        finally:
            self._open -= Counter([address])


class ArrowResponse(Response):
    """Sends the rows that `copy_rows` passes on, whose cells have these `columns`, while it has its `place`.

    `adjuster` makes of the rows of each piece those that are sent.
    What fails before the first row is raised by the call, for an answer that says it. After that the
    connection is closed without the end of the stream, so that no client takes what it has for all. When the
    client is gone, `copy_rows` is cancelled.
    """

    def __init__(
        self,
        copy_rows: CopyRows,
        columns: Mapping[str, ColumnType],
        place: AbstractContextManager[None],
        headers: Mapping[str, str],
        adjuster: FrameAdjuster | None = None,
    ) -> None:
        # the pieces are compressed already: `identity` keeps the board from packing them once more
        own = {"Cache-Control": "no-store", "Content-Encoding": "identity", "Content-Type": STREAM_TYPE}
        self.status_code, self.background = 200, None
        self.init_headers({**headers, **own})
        self._copy_rows, self._columns, self._place, self._adjuster = copy_rows, columns, place, adjuster

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("is_head"):  # as `answer_head` says it: without a body nothing is read
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send(_make_body(b"", is_last=True))
            return
        loop, is_gone = asyncio.get_running_loop(), asyncio.Event()

        async def watch_client(limit: asyncio.Timeout) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            is_gone.set()
            limit.reschedule(loop.time())

        with self._place:
            try:
                async with asyncio.timeout(FIRST_SEC) as limit, run_beside(watch_client(limit)):

                    async def begin() -> None:
                        limit.reschedule(loop.time() + STREAM_SEC)
                        await send(
                            {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                        )

                    sender = _PieceSender(ArrowEncoder(self._columns), self._adjuster, begin, send)
                    await self._copy_rows(sender.add)
                    await sender.finish()
            except (TimeoutError, DatabaseAwayError) as error:
                if is_gone.is_set():
                    return
                reason = TOO_BUSY if isinstance(error, TimeoutError) else str(error)
                if not sender.has_begun:
                    raise DatabaseAwayError(reason) from None
                log.warning("market.stream_failed", reason=reason)


class _PieceSender:
    """Gathers rows, and sends them piece by piece; awaits `begin` before the first one."""

    def __init__(
        self,
        encoder: ArrowEncoder,
        adjuster: FrameAdjuster | None,
        begin: Callable[[], Awaitable[None]],
        send: Send,
    ) -> None:
        self._encoder, self._adjuster, self._begin, self._send = encoder, adjuster, begin, send
        self.has_begun = False
        self._rows: list[bytes] = []
        self._size, self._due = 0, time.monotonic() + PIECE_SEC

    async def add(self, rows: bytes) -> None:
        self._rows.append(rows)
        self._size += len(rows)
        if self._size >= PIECE_BYTES or time.monotonic() >= self._due:
            await self._send_piece()

    async def finish(self) -> None:
        """Send the rest, and the end of the stream; a stream without rows has its schema."""
        await self._send_piece()
        await self._send(_make_body(END, is_last=True))

    async def _send_piece(self) -> None:
        rows = b"".join(self._rows)
        self._rows.clear()
        frame = await asyncio.to_thread(self._encoder.parse, rows)
        if self._adjuster is not None:
            frame = await self._adjuster.adjust_frame(frame)
        piece = await asyncio.to_thread(self._encoder.encode, frame)
        if not self.has_begun:
            await self._begin()
            self.has_begun = True
        await self._send(_make_body(piece))
        self._size, self._due = 0, time.monotonic() + PIECE_SEC


def _make_body(body: bytes, *, is_last: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": not is_last}
