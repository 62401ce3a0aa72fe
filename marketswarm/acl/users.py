"""All users of a bus, from a truth. Pure."""

import re
from typing import Final

from marketswarm.acl import monitors, programs
from marketswarm.acl.grants import Grant, User
from marketswarm.acl.places import ALERTS, DOCUMENT, Place
from marketswarm.acl.services import beating, work
from marketswarm.truth import Truth

DEFAULT: Final = "default"
BOOTSTRAP: Final = "bootstrap"
OPERATOR: Final = "operator"
_UNFIT: Final = re.compile(r"[\s|()]")
_TAKEN: Final = (DEFAULT, BOOTSTRAP, OPERATOR)
_ROOT: Final = Grant("ping time select multi exec unsubscribe punsubscribe")


class AclError(ValueError):
    """A truth for which there can be no users; the message says what to change."""


def names(truth: Truth) -> tuple[str, ...]:
    """Everyone who has a password.

    Raises:
        AclError: a service has the name of a user that is not a service's.
    """
    for svc in truth.services:
        if svc in _TAKEN:
            raise AclError(f"services.{svc}: with ACLs {svc} is a user of another kind; name it otherwise")
    return (*truth.services, BOOTSTRAP, OPERATOR)


def users(
    truth: Truth,
    bus: str,
    *,
    truth_key: str = DOCUMENT,
    alert_channel: str = ALERTS,
    closed: bool = False,
) -> tuple[User, ...]:
    """Everyone on a bus: all services are on each, since any of them may have the truth.

    Args:
        truth: the document.
        bus: its name there.
        truth_key: where the truth is (TRUTH_REDIS_KEY).
        alert_channel: of alerts, where the truth names none (ALERT_CHANNEL).
        closed: whether `default` has a password too, so that nobody looks without one.

    Raises:
        AclError: see `names`; or a name from the environment can't stand in an ACL.
    """
    for name in (truth_key, alert_channel):
        if not name.isprintable() or _UNFIT.search(name):
            raise AclError(
                f"{name!r}: a key or channel with a blank, a bracket or | can't be named in an ACL"
            )
    services = names(truth)[: len(truth.services)]
    place = Place(truth, bus, truth_key, alert_channel)
    return (
        User(DEFAULT, programs.looking(place), password=closed),
        User(
            OPERATOR,
            _with(_ROOT, programs.OPERATING),
            programs.operator(place),
        ),
        User(
            BOOTSTRAP,
            Grant(f"ping time select {programs.LOADING} {programs.CHECKING}"),
            programs.bootstrap(place),
        ),
        *(_of_service(svc, place) for svc in services),
    )


def _of_service(svc: str, place: Place) -> User:
    role = monitors.ROLES.get(svc)
    grants = role(place) if role else work(svc, place)
    root = _with(_ROOT, "pubsub|numsub") if svc == monitors.MESH else _ROOT
    return User(svc, root, (*place.reading_truth(), *beating(svc, place), *_with_scripts(grants)))


def _with(root: Grant, more: str) -> Grant:
    return Grant(f"{root.commands} {more}")


def _with_scripts(grants: tuple[Grant, ...]) -> tuple[Grant, ...]:
    """One grant for all keys that functions are given: a function takes keys of several grants at once.

    What it does to them is held against the grants themselves, command by command. Only who seeds loads code.
    """
    keys = dict.fromkeys(key for grant in grants for key in grant.keys)
    return (*grants, *((Grant("fcall", tuple(keys)),) if keys else ()))
