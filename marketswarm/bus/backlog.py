"""Read how a stream stands for a consumer group: what waits, for how long, and what was lost."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from marketswarm.bus.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.bus.stream import find_entry_time

_BACKLOG: Final = Script.beside("marketswarm.bus", "backlog.lua")


@dataclass(frozen=True, slots=True)
class Backlog:
    """Say how a stream stands for a group.

    Attributes:
        unread: entries that no consumer has read yet; None for 200 or more whose number the server has lost.
        oldest_sec: how long the oldest unread entry has waited.
        hold_sec: for how long the stream still holds what is not acknowledged, at the pace of late; None
            while nothing was ever trimmed off it.
        passed_over: entries that were gone before the group came to them, since it was made, as the server
            counts them; None while that can't be known, with some entries on the stream read and some not.
        acknowledged_at: the time before which every entry is acknowledged, in epoch seconds by the server's
            clock; 0 before the first.
        lost: entries that were trimmed off unread, by `count_lost`, and those that a reader adds.
    """

    unread: int | None = 0
    pending: int = 0
    oldest_sec: float = 0.0
    hold_sec: float | None = None
    is_caught_up: bool = False
    passed_over: int | None = None
    lost: int = 0
    acknowledged_at: float = 0.0

    def count_lost(self, before: "Backlog") -> "Backlog":
        """Return this backlog with the entries that were lost up to it.

        `before` is the one before it, with its count; `Backlog()` for the first one. A loss before that is
        counted if it is still to be seen: nothing of what followed it is read.
        """
        if self.passed_over is None:
            return replace(self, passed_over=before.passed_over, lost=before.lost)
        if before.passed_over is None:
            more = 0 if self.is_caught_up else self.passed_over
        else:  # some servers later count what was passed over as read
            more = max(0, self.passed_over - before.passed_over)
        return replace(self, lost=before.lost + more)


async def read_backlog(bus: Bus, stream: str, group: str, position: bytes | None = None) -> Backlog:
    """Return how a stream stands for a group, with `lost` 0. Raises BusError, also if there is no group.

    With `position`, it is that of a reader without a group, which has read up to that id.
    """
    args: list[str | bytes | float] = [group] if position is None else [group, position]
    now_ms, pending, unread, first_unread, is_caught_up, passed_over, acknowledged, oldest = await bus.script(
        _BACKLOG, [stream], args
    )
    return Backlog(
        unread=unread,
        pending=pending,
        oldest_sec=max(0.0, now_ms / 1000 - find_entry_time(first_unread)) if first_unread else 0.0,
        hold_sec=max(0.0, find_entry_time(acknowledged) - find_entry_time(oldest)) if oldest else None,
        is_caught_up=bool(is_caught_up),
        passed_over=passed_over,
        acknowledged_at=find_entry_time(acknowledged),
    )


def sum_unread(backlogs: Iterable[Backlog]) -> int | None:
    """Return the sum, or None if the number of one stream is not known."""
    total = 0
    for each in backlogs:
        if each.unread is None:
            return None
        total += each.unread
    return total


def format_unread(unread: int | None) -> str:
    return "200 or more" if unread is None else f"{unread:,}"
