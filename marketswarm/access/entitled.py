"""Find which users of a fleet may send a command, by the grants that a truth gives them. Pure."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from typing import Final

from marketswarm.access.grant import Grant, User

_ESCAPED: Final = re.compile(r"\\(.)")


def find_entitled(users: Iterable[User], words: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the users who may send a command, as `build_users` made them.

    Only the server knows which words of a command are keys or channels, what it does with them, and in which
    categories it is. So a grant counts if a word is a key or a channel of it; one of a category (`@stream`)
    that only reads, if no other grant does. The server may still refuse one of these users.
    """
    names = {words[0].lower(), "|".join(words[:2]).lower()} if words else set()
    sure = dict[str, bool]()
    for user in users:
        if not names.isdisjoint(user.root.commands.split()):
            sure[user.name] = True
        for grant in user.grants:
            if _takes(grant, names, words[1:]):
                is_sure = grant.mode != "R" or not names.isdisjoint(grant.commands.split())
                sure[user.name] = sure.get(user.name, False) or is_sure
    return tuple(name for name, is_sure in sure.items() if is_sure or not any(sure.values()))


def _takes(grant: Grant, names: set[str], words: Sequence[str]) -> bool:
    commands = grant.commands.split()
    is_left_out = any(f"-{name}" in commands for name in names)
    is_named = not names.isdisjoint(commands)
    if is_left_out or not (is_named or any(each.startswith("@") for each in commands)):
        return False
    # a pattern of Redis escapes by a backslash, which fnmatch does not know
    patterns = [_ESCAPED.sub(r"[\1]", each) for each in chain(grant.keys, grant.channels)]
    return any(fnmatchcase(word, pattern) for word in words for pattern in patterns)
