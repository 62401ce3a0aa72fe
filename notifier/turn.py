"""What one turn of the notifier leaves behind, as the script of one bus takes it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import Any, Final

from marketswarm.attention.keys import ASKS_KEPT

TOLD_AT_MOST: Final = 20_000
DEAD_LENGTH: Final = 1000
"""About how many dead messages are kept; what waits for a bus that is away is cut in the same way."""
TOLD_SEC: Final = 86_400


@dataclass(frozen=True, slots=True)
class Dead:
    """A message, as `storing` writes it, that a channel will not have, and why; `ts` in epoch seconds."""

    message: bytes
    channel: str
    reason: str
    ts: float


@dataclass(slots=True)
class Turn:
    """Everything to be written; what concerns entries of one bus's own streams stands under its name.

    `fields` are those of the state that changed, None for those that are gone; `told` is by event, `answers`
    by ask; `log_acks`, `ask_acks` and `undead` are ids of entries that are done with.
    """

    fields: dict[str, bytes | None] = field(default_factory=dict)
    told: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, list[bytes]] = field(default_factory=dict)
    dead: list[Dead] = field(default_factory=list)
    log_acks: dict[str, list[bytes]] = field(default_factory=dict)
    ask_acks: dict[str, list[bytes]] = field(default_factory=dict)
    undead: dict[str, list[bytes]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))

    def add(self, later: "Turn") -> None:
        """Takes in a later turn."""
        self.fields.update(later.fields)
        self.told.update(later.told)
        self.dead = [*self.dead, *later.dead][-DEAD_LENGTH:]
        for mine, its in (
            (self.answers, later.answers),
            (self.log_acks, later.log_acks),
            (self.ask_acks, later.ask_acks),
            (self.undead, later.undead),
        ):
            for key, values in its.items():
                mine.setdefault(key, []).extend(values)

    def shorten(self) -> dict[str, int]:
        """Drop what a bus that did not take this turn can do without; count what is lost by that.

        Such a bus gets the whole state with the next attempt, so changes of the state are superseded. Of
        answers only those to the latest asks are kept, as many as the stream of asks is trimmed to. An entry
        that was resent twice is deleted once.
        """
        self.fields.clear()
        kept: tuple[tuple[str, dict[str, Any], int], ...] = (
            ("answers", self.answers, ASKS_KEPT),
            ("told", self.told, TOLD_AT_MOST),
        )
        dropped: dict[str, int] = {}
        for name, values, at_most in kept:
            if old := list(values)[:-at_most]:
                dropped[name] = len(old)
            for key in old:
                del values[key]
        for bus, entries in self.undead.items():
            self.undead[bus] = list(dict.fromkeys(entries))[-2 * DEAD_LENGTH :]
        return dropped

    def acks(self, bus: str) -> tuple[list[bytes], list[bytes]]:
        """Return the entries of a bus's log, and those of its asks, that this turn acknowledges."""
        return self.log_acks.get(bus, []), self.ask_acks.get(bus, [])

    def acks_count(self, bus: str) -> int:
        """Return how many entries of a bus's streams this turn acknowledges."""
        return sum(map(len, self.acks(bus)))

    def of(self, bus: str) -> "Turn":
        """Copy the turn for one bus, without the entries of other buses' streams that it settles."""
        return Turn(
            dict(self.fields),
            dict(self.told),
            {ask: list(lines) for ask, lines in self.answers.items()},
            list(self.dead),
            **{
                name: {bus: list(getattr(self, name)[bus])} if bus in getattr(self, name) else {}
                for name in ("log_acks", "ask_acks", "undead")
            },
        )

    def args(self, bus: str, changed: dict[str, bytes | None]) -> list[str | bytes | float]:
        """The lists of the script, in its order, with these fields of the state."""
        kept = [(name, value) for name, value in changed.items() if value is not None]
        gone = [name for name, value in changed.items() if value is None]
        dead = [(each.message, each.channel, each.reason, f"{each.ts:.3f}") for each in self.dead]
        lists: list[Iterable[str | bytes | float]] = [
            _counted(self.told.values()),
            [len(self.answers)],
            *(_counted(lines) for lines in self.answers.values()),
            [len(kept)],
            *kept,
            _counted(gone),
            [len(dead)],
            *dead,
            _counted(self.undead.get(bus, ())),
            _counted(self.log_acks.get(bus, ())),
            _counted(self.ask_acks.get(bus, ())),
        ]
        return list(chain.from_iterable(lists))


def _counted(values: Iterable[str | bytes]) -> list[str | bytes | float]:
    found = list(values)
    return [len(found), *found]
