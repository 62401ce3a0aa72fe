"""Compute the calendars of sessions beside the event loop, one at a time."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from services.market.sessions import Session, get_session

_thread: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="calendars")
"""The one thread for it: `get_session` is not made for several, and two would compute the same calendar."""


async def compute_session(code: str) -> Session:
    """Return the session of a code; an exchange's takes up to a second. Raises UnknownSessionError."""
    return await asyncio.get_running_loop().run_in_executor(_thread, get_session, code)
