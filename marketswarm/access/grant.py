"""Grants, users, and the text of an ACL file, for Redis 7.0 selectors. Pure.

Each grant is a selector of its own: its commands work on its keys and channels and on nothing else, so that
a user who may subscribe to a channel need not be able to publish there. Of a password, only its SHA-256
appears.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Mode = Literal["", "R", "W"]

_SPECIAL_CHARS: Final = "[]?\\^"
# a selector ends at the first word that ends with a bracket, so brackets in names become character classes
_CHARACTER_CLASSES: Final = {"(": "[(]", ")": "[)]"}
PASSWORD_HASH: Final = re.compile(r"[0-9a-f]{64}")
"""The form of a password's SHA-256 in an ACL file."""


def escape_pattern(name: str, *, keep_wildcards: bool = False) -> str:
    """Return the ACL pattern that matches exactly this key or channel name.

    With `keep_wildcards`, a `*` in the name stays a wildcard; without it, the `*` is escaped.
    """
    special = _SPECIAL_CHARS if keep_wildcards else _SPECIAL_CHARS + "*"
    return "".join(f"\\{char}" if char in special else _CHARACTER_CLASSES.get(char, char) for char in name)


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission to use commands on the keys and channels that match these patterns.

    `commands` has ACL names (`get`, `@stream`, `-@dangerous`) with blanks between them. `mode` is `R` if the
    commands may only read the keys, `W` if they may only write them, and empty for both.
    """

    commands: str
    keys: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    mode: Mode = ""

    def format_selector(self) -> str:
        """Return the grant as an ACL selector without its brackets: `+get %R~rss:items &rss:*`."""
        commands = (word if word.startswith("-") else f"+{word}" for word in self.commands.split())
        keys = (f"%{self.mode}~{key}" if self.mode else f"~{key}" for key in self.keys)
        return " ".join((*commands, *keys, *(f"&{channel}" for channel in self.channels)))


@dataclass(frozen=True, slots=True)
class User:
    """An ACL user. `root` holds the commands that need no key and no channel."""

    name: str
    root: Grant
    grants: tuple[Grant, ...] = ()
    needs_password: bool = True


def format_acl_file(users: Iterable[User], hashes: Mapping[str, str]) -> str:
    """Return an ACL file with one line for each user. `hashes` has the hex SHA-256 of the passwords, by user.

    Raises:
        KeyError: a user needs a password and has no hash.
        ValueError: a hash is not a SHA-256 in hex.
    """
    lines = []
    for user in users:
        if user.needs_password and not PASSWORD_HASH.fullmatch(hashes[user.name]):
            raise ValueError(f"the hash of {user.name} is not a SHA-256 in hexadecimal")
        password = f"#{hashes[user.name]}" if user.needs_password else "nopass"
        grants = "".join(f" ({grant.format_selector()})" for grant in user.grants)
        # `reset`, since `default` has all permissions when the server starts
        head = f"user {user.name} reset on {password} resetchannels -@all"
        lines.append(f"{head} {user.root.format_selector()}{grants}\n")
    return "".join(lines)
