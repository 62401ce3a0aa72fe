"""The text of an ACL file. Pure; of a password it holds the SHA-256 alone."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from marketswarm.acl.grants import User

HASHED: Final = re.compile(r"[0-9a-f]{64}")


def text(users: Iterable[User], hashes: Mapping[str, str]) -> str:
    """A line a user. `hashes` has the SHA-256 of each password, in hexadecimal, by user.

    Raises KeyError for a user without one, ValueError for what is no such digest.
    """
    return "".join(f"{_line(user, hashes)}\n" for user in users)


def _line(user: User, hashes: Mapping[str, str]) -> str:
    if user.password and not HASHED.fullmatch(hashes[user.name]):
        raise ValueError(f"the hash of {user.name} is no SHA-256 in hexadecimal")
    password = f"#{hashes[user.name]}" if user.password else "nopass"
    grants = "".join(f" ({grant.words()})" for grant in user.grants)
    # `reset`, since the server begins `default` with everything
    return f"user {user.name} reset on {password} resetchannels -@all {user.root.words()}{grants}"
