"""Who does what: keys shared out over the live members of a service, by rendezvous hashing. Pure.

Each key has a number for each member, and belongs to the member whose number is the highest. So all who know
the same members agree without a word, in every process and every version of Python; when a member leaves, its
keys alone find others; when one comes, it takes its part from the others, and nobody else gains any.
Not here: who the members are (`marketswarm.agent.share`).
"""

from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

DIGEST_BYTES: Final = 8
_REMEMBERED: Final = 1_024


def owners(keys: Iterable[str], members: Collection[str]) -> dict[str, str]:
    """Whose each key is, in the order of `keys`. Empty when there are no members.

    The order of `members` does not matter, and neither do repeats.
    """
    rated = [(member, _of_member(member)) for member in sorted(set(members))]
    return {key: max(rated, key=_by_weight(key))[0] for key in keys} if rated else {}


def owned(keys: Iterable[str], member: str, members: Collection[str]) -> list[str]:
    """Those of `keys` that are `member`'s, in their order; none when it is not among `members`."""
    keys = list(keys)
    owner = owners(keys, members)
    return [key for key in keys if owner.get(key) == member]


def _by_weight(key: str) -> Callable[[tuple[str, Any]], bytes]:
    text = _bytes(key)

    def weight(rated: tuple[str, Any]) -> bytes:
        whole = rated[1].copy()
        whole.update(text)
        return bytes(whole.digest())

    return weight


@lru_cache(maxsize=_REMEMBERED)
def _of_member(member: str) -> Any:
    """What has taken in a member's name, at a fixed length, and waits for a key; copied, never changed."""
    name = blake2b(_bytes(member), digest_size=DIGEST_BYTES).digest()
    return blake2b(name, digest_size=DIGEST_BYTES)


def _bytes(text: str) -> bytes:
    # a key may come from JSON, which knows halves of surrogate pairs
    return text.encode("utf-8", "surrogatepass")
