"""Refuse a request whose bus does not answer, and say when to try again."""

import contextlib
from collections.abc import Iterator
from typing import Final

from marketswarm.bus import BusError
from marketswarm.web.limits import RefusedError

RETRY_SEC: Final = 5.0
"""In how many seconds a client may try again."""


@contextlib.contextmanager
def refuse_without_bus(role: str = "") -> Iterator[None]:
    """Raise RefusedError (503) if a bus does not answer in the block.

    `role` says for people what the bus is needed for, as in `keeps the tokens`.
    """
    try:
        yield
    except BusError as error:
        which = f", which {role}," if role else ""
        reason = f"bus {error.bus}{which} does not answer: {error.reason}"
        raise RefusedError(503, reason, RETRY_SEC) from None
