"""Compute the trading days of an exchange in a process that ends afterwards.

The library for it brings pandas and numpy: 50 MB, which the board would keep for as long as it runs.
`request_days` is the side of the board, `main` that of the process:

    python -m services.board.market.calendar_process XNYS

It writes the name of the time zone, a line feed and the columns of the days, as they are in memory.
"""

import sys
from array import array
from typing import Final

from marketswarm.agent.child_program import inherit_environ, run_to_end
from services.market.sessions import DayTable, ExchangeDays, UnknownSessionError, compute_exchange_days

COMPUTE_SEC: Final = 60.0
UNKNOWN: Final = 3
"""The exit code if the exchange is unknown, or the library is not installed."""


class CalendarProcessError(Exception):
    """The process did not answer; the message says why."""


async def request_days(code: str) -> ExchangeDays:
    """Return the days of an exchange, computed in another process. It does not outlive this one.

    Raises UnknownSessionError if the process can't compute them, CalendarProcessError if it fails.
    """
    command = [sys.executable, "-m", "services.board.market.calendar_process", code]
    try:
        ended_with, answer, _ = await run_to_end(command, inherit_environ(), COMPUTE_SEC)
    except TimeoutError:
        raise CalendarProcessError(f"it took more than {COMPUTE_SEC:.0f} s") from None
    except OSError as error:
        raise CalendarProcessError(f"it can't be started: {error.strerror}") from None
    if ended_with == UNKNOWN:
        raise UnknownSessionError(f"session {code}: its days can't be computed here")
    if ended_with:
        raise CalendarProcessError(f"it ended with code {ended_with}")
    zone, _, cells = answer.partition(b"\n")
    size = len(cells) // len(DayTable._fields)
    columns = (array("q", cells[place * size : (place + 1) * size]) for place in range(len(DayTable._fields)))
    return ExchangeDays(zone.decode(), DayTable(*columns))


# -- the process


def main(code: str) -> None:
    """Write the days of an exchange to stdout. Runs in the process."""
    output = sys.stdout.buffer
    sys.stdout = sys.stderr  # what a library prints must not mix with the answer
    try:
        found = compute_exchange_days(code)
    except (UnknownSessionError, ImportError):
        sys.exit(UNKNOWN)
    output.write(b"".join((found.zone.encode(), b"\n", *(column.tobytes() for column in found.days))))
    output.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
