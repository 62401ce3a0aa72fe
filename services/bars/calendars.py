"""Compute the calendars of sessions beside the event loop, one at a time."""

import asyncio

from services.market.sessions import Session, get_session


class Calendars:
    """Give the tasks of an agent the sessions that they name.

    The calendar of an exchange takes up to a second to compute, in a thread. There is one such thread at a
    time: `get_session` is not made for several, and two tasks would compute the same calendar.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def find(self, code: str) -> Session:
        """Compute the session of a code in a thread. Raises UnknownSessionError."""
        async with self._lock:
            return await asyncio.to_thread(get_session, code)
