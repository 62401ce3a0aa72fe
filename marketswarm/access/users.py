"""Build all ACL users of a bus from a truth. Pure."""

import re
from collections.abc import Collection
from typing import Final

from marketswarm.access.grant import Grant, User
from marketswarm.access.rights import ANY, JOINED, ROLES, WORKER, grant_default_user, list_grants
from marketswarm.access.services import BusView
from marketswarm.keys import ALERTS, TRUTH_DOC
from marketswarm.truth import RESERVED_USERS, Truth

DEFAULT, BOOTSTRAP, OPERATOR, JOIN = RESERVED_USERS
"""The users that belong to no service; by `join` other machines beat for theirs (`marketswarm join`)."""
_FORBIDDEN_CHARS: Final = re.compile(r"[\s|()]")


class AclError(ValueError):
    """No ACL users can be built for this truth; the message says what to change."""


def user_names(truth: Truth) -> tuple[str, ...]:
    """Return the names of the users that every fleet has but `default`: the services, bootstrap, operator."""
    return (*truth.services, BOOTSTRAP, OPERATOR)


def build_users(
    truth: Truth,
    bus: str,
    *,
    truth_key: str = TRUTH_DOC,
    alert_channel: str = ALERTS,
    closed: bool = False,
    joining: Collection[str] | None = None,
) -> tuple[User, ...]:
    """Return all users of a bus. Every service has a user on every bus, since each bus holds the truth.

    Args:
        bus: the name of the bus in the truth.
        alert_channel: the channel of alerts if the truth names none (ALERT_CHANNEL).
        closed: whether `default` needs a password too, so that no client reads without one.
        joining: the services for which the user `join` may beat; None if there is no such user.

    Raises:
        AclError: `truth_key` or `alert_channel` has a character that can't be written in an ACL.
    """
    for name in (truth_key, alert_channel):
        if not name.isprintable() or _FORBIDDEN_CHARS.search(name):
            raise AclError(
                f"{name!r}: a key or channel with a blank, a bracket or | can't be named in an ACL"
            )
    view = BusView(truth, bus, truth_key, alert_channel)
    joined = [svc for svc in truth.services if joining is not None and svc in joining and svc not in ROLES]
    beats = (grant for svc in joined for grant in list_grants({JOINED}, svc, view))
    join = () if joining is None else (_make_user(JOIN, (*list_grants({JOIN}, "", view), *beats)),)
    return (
        User(DEFAULT, grant_default_user(view), needs_password=closed),
        *(_make_user(name, tuple(list_grants({name}, "", view))) for name in (OPERATOR, BOOTSTRAP)),
        *join,
        *(_make_service_user(svc, view) for svc in truth.services),
    )


def _make_service_user(svc: str, view: BusView) -> User:
    """Return the user of a service, which may also call functions on the keys of its own rights."""
    own = tuple(list_grants({svc} if svc in ROLES else {svc, WORKER}, svc, view))
    # a function takes keys of several grants; Redis checks its commands against the other grants
    called = tuple(dict.fromkeys(key for grant in own for key in grant.keys))
    calls = (Grant("fcall", called),) if called else ()
    return _make_user(svc, (*list_grants({ANY}, svc, view), *own, *calls))


def _make_user(name: str, grants: Collection[Grant]) -> User:
    """Return a user with these grants; the commands of those without keys and channels are its `root`."""
    bare = [grant for grant in grants if not (grant.keys or grant.channels)]
    root = Grant(" ".join(grant.commands for grant in bare))
    return User(name, root, tuple(grant for grant in grants if grant not in bare))
