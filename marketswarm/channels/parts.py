"""A message that takes several requests: what of it was accepted, so that a repeat does not begin anew.

The receiver drops repeats all the same; but a message of a hundred parts, of which each attempt gets through
fifty, would never come to its end. Kept in the process only, for the message that was sent last.
"""

from collections.abc import Iterable


class Parts:
    """Remembers the parts accepted of one message."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._accepted: set[str] = set()

    def left(self, ident: str, parts: Iterable[str]) -> list[str]:
        """The parts of the message of that id that are still to be sent."""
        if ident != self._id:
            self._id, self._accepted = ident, set()
        return [part for part in parts if part not in self._accepted]

    def accepted(self, ident: str, part: str) -> None:
        """One was accepted, maybe later than anyone waited for it."""
        if ident == self._id:
            self._accepted.add(part)

    def whole(self) -> None:
        """All of it was accepted: whoever sends it again means it."""
        self._id = None
