"""What those may do who are no service: bootstrap, the operator's commands, and who has no password. Pure."""

from typing import Final

from marketswarm.acl.grants import Grant, escaped
from marketswarm.acl.monitors import seeing
from marketswarm.acl.places import BEATS, CHANGED, HISTORY, LOG, META, TOPOLOGY, Place

LOADING: Final = "function|list function|load function|delete script|load"
"""Loading code, which is for those alone who seed."""
CHECKING: Final = "acl|dryrun"
"""Asking what the healer may do, before a truth is published to it."""
OPERATING: Final = f"info pubsub|numsub acl|load script|kill function|kill {LOADING} {CHECKING}"


def bootstrap(place: Place) -> tuple[Grant, ...]:
    """Seeds: looks, writes, and puts back what was there."""
    keys = (place.document, META, HISTORY)
    return (
        Grant(
            "type get hget hmget hgetall pttl xrange xrevrange dump"
            " set del hset pexpire xadd xdel xtrim restore",
            keys,
        ),
        Grant("fcall evalsha", keys),
        Grant("publish", channels=(CHANGED,)),
    )


def operator(place: Place) -> tuple[Grant, ...]:
    """What the commands of `marketswarm` do: see all, seed, silence, ask the notifier, beat for anyone."""
    return (
        *place.reading_truth(),
        *bootstrap(place),
        *seeing(place),
        Grant("fcall", (LOG,)),
        Grant("hset hdel", ("notifier:silences",), mode="W"),
        Grant("xadd", ("notifier:asks",), mode="W"),
        Grant("lrange", ("notifier:answers:*",), mode="R"),
        Grant("publish", channels=place.all_beats()),
        Grant("set", ("beat:*", "run:*"), mode="W"),
    )


def looking(place: Place) -> Grant:
    """What needs no password: the operator's document as it is written, and nothing that changes anything.

    KEYS takes any pattern, and no ACL looks at it; so three patterns are named.
    """
    keys = ("health:*", place.document, TOPOLOGY)
    asked = ("health:*", place.truth_key, TOPOLOGY)
    return Grant(
        "ping pubsub get getrange subscribe psubscribe unsubscribe punsubscribe "
        + " ".join(f"keys|{pattern}" for pattern in asked),
        keys,
        (escaped(place.alerts), BEATS),
        mode="R",
    )
