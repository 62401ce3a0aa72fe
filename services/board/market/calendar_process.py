"""Compute the trading days of an exchange in a process that ends afterwards.

The library for it brings pandas and numpy: 50 MB, which the board would keep for as long as it runs.
`request_days` is the side of the board, `answer_request` that of the process, which is run as
`python -m services.board.market.calendar_process`. It answers with the name of the time zone, a line feed and
the columns of the days, as they are in memory; with nothing if it can't compute them.
"""

from array import array
from contextlib import aclosing
from typing import Final

from marketswarm.agent.worker_process import WorkerLimits, WorkerProcess, serve_requests
from services.market.sessions import DayTable, ExchangeDays, UnknownSessionError, compute_exchange_days

LIMITS: Final = WorkerLimits(request_sec=60.0, start_sec=60.0, answer_bytes=16 * 1024 * 1024, cpu_sec=60)


async def request_days(code: str) -> ExchangeDays:
    """Return the days of an exchange, computed in another process. It does not outlive this one.

    Raises UnknownSessionError if the process can't compute them, WorkerError if it fails.
    """
    async with aclosing(WorkerProcess("services.board.market.calendar_process", LIMITS)) as worker:
        days = await worker.ask(code.encode(), _parse_days)
    if days is None:
        raise UnknownSessionError(f"session {code}: its days can't be computed here")
    return days


def _parse_days(answer: bytes) -> ExchangeDays | None:
    """Return the days in an answer; None if it is empty. Raises ValueError if it is something else."""
    if not answer:
        return None
    zone, _, cells = answer.partition(b"\n")
    size = len(cells) // len(DayTable._fields)
    columns = (array("q", cells[place * size : (place + 1) * size]) for place in range(len(DayTable._fields)))
    return ExchangeDays(zone.decode(), DayTable(*columns))


# -- the process


def answer_request(request: bytes) -> bytes:
    """Return the days of an exchange; nothing if they can't be computed. Runs in the process."""
    try:
        found = compute_exchange_days(request.decode())
    except (UnknownSessionError, ImportError):
        return b""
    return b"".join((found.zone.encode(), b"\n", *(column.tobytes() for column in found.days)))


if __name__ == "__main__":
    serve_requests(answer_request, LIMITS)
