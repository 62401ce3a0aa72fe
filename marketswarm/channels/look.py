"""What a message looks like where there are colours and signs: good news, news, a warning, an alarm. Pure."""

from enum import Enum
from typing import Final

from marketswarm.channels.message import Message, Severity, What


class Look(Enum):
    """A colour as 0xRRGGBB, and a sign for those who can't see it."""

    GOOD = (0x2EB67D, "\N{LARGE GREEN CIRCLE}")
    NEWS = (0x36A3EB, "\N{LARGE BLUE CIRCLE}")
    WARNING = (0xECB22E, "\N{LARGE YELLOW CIRCLE}")
    ALARM = (0xE01E5A, "\N{LARGE RED CIRCLE}")

    def __init__(self, colour: int, sign: str) -> None:
        self.colour = colour
        self.sign = sign


_BY_SEVERITY: Final = {
    Severity.INFO: Look.NEWS,
    Severity.WARNING: Look.WARNING,
    Severity.CRITICAL: Look.ALARM,
}


def look_of(message: Message) -> Look:
    """Good where something is up again, else what the severity says."""
    good = message.what in (What.UP, What.SETTLED)
    return Look.GOOD if good else _BY_SEVERITY[message.severity]
