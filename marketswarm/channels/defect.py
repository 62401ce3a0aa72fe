"""An exception that a channel should not have raised: logged with where it came from, and nothing it says.

Its text may hold an address or a token, so of the exception itself only the type is shown.
"""

import traceback
from collections.abc import Iterator
from typing import Final

from structlog.typing import FilteringBoundLogger

from marketswarm.channels.message import Channel, Failure, Message, SendError

CAUSES_AT_MOST: Final = 8


def refusal_of_defect(
    log: FilteringBoundLogger, channel: Channel, message: Message, defect: Exception
) -> SendError:
    """Log the traceback of a channel's defect; return it as a refusal of this one message."""
    kind = type(defect).__name__
    log.error("channel.defect", channel=channel.name, id=message.id, error=kind, trace=list(_trace(defect)))
    return SendError(kind, Failure.REJECTED)


def _trace(defect: BaseException, causes: int = CAUSES_AT_MOST) -> Iterator[str]:
    """Yield a line for each frame, outermost first, then for those of what caused it."""
    for frame in traceback.extract_tb(defect.__traceback__):
        yield f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    cause = defect.__cause__ or (None if defect.__suppress_context__ else defect.__context__)
    if cause is not None and causes:
        yield f"from {type(cause).__name__}:"
        yield from _trace(cause, causes - 1)
