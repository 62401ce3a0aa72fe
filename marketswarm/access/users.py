"""Build all ACL users of a bus from a truth. Pure."""

import re
from collections.abc import Collection
from typing import Final

from marketswarm.access import roles
from marketswarm.access.bus_view import BusView
from marketswarm.access.grant import Grant, User
from marketswarm.access.services import grant_beats, grant_work
from marketswarm.keys import ALERTS, TRUTH_DOC
from marketswarm.truth import Truth

DEFAULT: Final = "default"
BOOTSTRAP: Final = "bootstrap"
OPERATOR: Final = "operator"
JOIN: Final = "join"
"""The user by which other machines beat for their services: `marketswarm join`."""
_FORBIDDEN_CHARS: Final = re.compile(r"[\s|()]")
_RESERVED_NAMES: Final = (DEFAULT, BOOTSTRAP, OPERATOR, JOIN)
_COMMON_COMMANDS: Final = Grant("ping time select multi exec unsubscribe punsubscribe")


class AclError(ValueError):
    """No ACL users can be built for this truth; the message says what to change."""


def user_names(truth: Truth) -> tuple[str, ...]:
    """Return the names of the users that every fleet has but `default`: the services, bootstrap, operator.

    Raises AclError if a service is called like one of the reserved users.
    """
    for svc in truth.services:
        if svc in _RESERVED_NAMES:
            raise AclError(f"services.{svc}: with ACLs {svc} is a user of another kind; name it otherwise")
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
        AclError: a service is called like one of the reserved users, or `truth_key` or `alert_channel` has a
            character that can't be written in an ACL.
    """
    for name in (truth_key, alert_channel):
        if not name.isprintable() or _FORBIDDEN_CHARS.search(name):
            raise AclError(
                f"{name!r}: a key or channel with a blank, a bracket or | can't be named in an ACL"
            )
    services = user_names(truth)[: len(truth.services)]
    view = BusView(truth, bus, truth_key, alert_channel)
    joined = () if joining is None else (User(JOIN, _COMMON_COMMANDS, roles.grant_join(joining, view)),)
    return (
        User(DEFAULT, roles.grant_default_user(view), needs_password=closed),
        User(OPERATOR, _add_commands(_COMMON_COMMANDS, roles.OPERATOR_COMMANDS), roles.grant_operator(view)),
        User(
            BOOTSTRAP,
            Grant(f"ping time select {roles.LOAD_COMMANDS} {roles.CHECK_COMMANDS}"),
            roles.grant_bootstrap(view),
        ),
        *joined,
        *(_build_service_user(svc, view) for svc in services),
    )


def _build_service_user(svc: str, view: BusView) -> User:
    """Return the user of a service: what its role or its declarations grant, the truth, and its beats."""
    role = roles.ROLES.get(svc)
    grants = tuple(role(view) if role else grant_work(svc, view))
    root = _COMMON_COMMANDS
    if svc == roles.MESH:
        root = _add_commands(root, "pubsub|numsub")
    elif svc == roles.MEDIC:
        root = _add_commands(root, "info")
    elif svc == roles.BOARD and roles.may_board_seed(view.truth):
        root = _add_commands(root, roles.CHECK_COMMANDS)
    # a function takes keys of several grants; Redis checks its commands against the other grants
    called = tuple(dict.fromkeys(key for grant in grants for key in grant.keys))
    calls = (Grant("fcall", called),) if called else ()
    return User(svc, root, (*view.grant_truth_reads(), *grant_beats(svc, view), *grants, *calls))


def _add_commands(root: Grant, more: str) -> Grant:
    """Return a grant of further commands, besides those of `root`, without any key."""
    return Grant(f"{root.commands} {more}")
