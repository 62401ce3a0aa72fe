"""A message that takes several requests: what of it was accepted, so that a repeat does not begin anew.

The receiver drops repeats all the same; but a message of a hundred parts, of which each attempt gets through
fifty, would never come to its end. Kept in the process only, for the messages that were tried last: others
are sent between two attempts at one.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

MESSAGES_KEPT: Final = 100


class Parts:
    """Remembers the parts accepted of each message."""

    def __init__(self) -> None:
        self._accepted: OrderedDict[str, set[str]] = OrderedDict()

    def left(self, ident: str, parts: Iterable[str]) -> list[str]:
        """Return the parts of the message of that id that are still to be sent."""
        accepted = self._accepted.setdefault(ident, set())
        self._accepted.move_to_end(ident)
        if len(self._accepted) > MESSAGES_KEPT:
            self._accepted.popitem(last=False)
        return [part for part in parts if part not in accepted]

    def accepted(self, ident: str, part: str) -> None:
        """Record that a part was accepted, maybe later than anyone waited for it."""
        if ident in self._accepted:
            self._accepted[ident].add(part)

    def whole(self, ident: str) -> None:
        """Record that all of a message was accepted: whoever sends it again means it."""
        self._accepted.pop(ident, None)
