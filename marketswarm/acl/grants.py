"""What is granted: commands on keys and channels, as Redis 7.0 selects them. Pure.

Each grant is a selector of its own: its commands may be used on its keys and channels and on nothing else, so
that who may subscribe to a channel need not be able to publish there.
"""

from dataclasses import dataclass
from typing import Final, Literal

Mode = Literal["", "R", "W"]

_SPECIAL: Final = "[]?\\^"
# a selector ends with the first word that ends with a bracket
_CLASSES: Final = {"(": "[(]", ")": "[)]"}


def escaped(name: str, *, many: bool = False) -> str:
    """A name as a pattern that matches it alone; with `many` a `*` in it stands for anything."""
    special = _SPECIAL if many else _SPECIAL + "*"
    return "".join(f"\\{char}" if char in special else _CLASSES.get(char, char) for char in name)


@dataclass(frozen=True, slots=True)
class Grant:
    """Commands (blanks between them, as ACLs name them) on keys and channels, which are patterns.

    `mode` is R for reading keys alone, W for writing alone, else both.
    """

    commands: str
    keys: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    mode: Mode = ""

    def words(self) -> str:
        """The words of the selector."""
        commands = (word if word.startswith("-") else f"+{word}" for word in self.commands.split())
        keys = (f"%{self.mode}~{key}" if self.mode else f"~{key}" for key in self.keys)
        return " ".join((*commands, *keys, *(f"&{channel}" for channel in self.channels)))


@dataclass(frozen=True, slots=True)
class User:
    """A user: what needs no key and no channel, then its grants. Without `password` it asks for none."""

    name: str
    root: Grant
    grants: tuple[Grant, ...] = ()
    password: bool = True
