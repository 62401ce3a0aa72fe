"""What those may do who watch and tell: healer, sentinel, notifier, mesh, board. Pure.

Their keys are the contract's, and each command here is one that their code uses on these keys.
"""

from collections.abc import Callable, Mapping
from typing import Final

from marketswarm.acl.grants import Grant, escaped
from marketswarm.acl.places import LOG, PROBE_ALERTS, Place
from marketswarm.acl.services import WRITTEN, own_points, written
from marketswarm.truth import HEALER, AccessPoint
from marketswarm.truth.flows import flows_of

SENTINEL: Final = "sentinel"
NOTIFIER: Final = "notifier"
MESH: Final = "mesh"
BOARD: Final = "board"
MESH_KEYS: Final = tuple(AccessPoint(bus=bus, key=key) for bus, key in WRITTEN[MESH])
"""Looked for whether there is a mesh or not: a key that is missing is an answer, a refusal would be none."""


def healer(place: Place) -> tuple[Grant, ...]:
    """Hears all beats, reads the last ones, tells; copies what massive tells."""
    return (
        *_vigil(HEALER, place, ("health:*",), ("beat:*",), place.all_beats()),
        Grant("hget hset", ("healer:relayed",)),
        Grant("xrange xrevrange xread", (PROBE_ALERTS,), mode="R"),
    )


def sentinel(place: Place) -> tuple[Grant, ...]:
    """Hears the healer, compares the truths, tells of both; follows the log, and tells people itself."""
    buses = tuple(f"health:{escaped(name)}" for name in place.truth.bus_names())
    channels = (place.beats(HEALER),) if HEALER in place.truth.services else ()
    heard = tuple(channel for channel in channels if channel is not None)
    return (
        *_vigil(
            SENTINEL, place, (f"health:{HEALER}", *buses), (f"beat:{HEALER}",), (*heard, "healer:heartbeat")
        ),
        Grant("xrange xrevrange xread", (LOG,), mode="R"),
        Grant("hmget", (f"{HEALER}:roster",), mode="R"),
        Grant("exists", ("notifier:told:*",), mode="R"),
        Grant("set", ("notifier:told:*",), mode="W"),
        Grant("hgetall hset type del", ("sentinel:direct",)),
    )


def notifier(_place: Place) -> tuple[Grant, ...]:
    """Takes the log as one of a group, and keeps what it must not forget."""
    return (
        Grant("get set del pttl pexpire", ("notifier:lease",)),
        Grant("hgetall hget hset hdel del", ("notifier:state",)),
        Grant("hgetall hset hdel", ("notifier:silences",)),
        Grant("mget exists set", ("notifier:told:*",)),
        Grant("rpush expire", ("notifier:answers:*",)),
        Grant("xadd xdel xrange xlen del", ("notifier:dead",)),
        Grant(
            "xreadgroup xack xautoclaim xpending xrange xrevrange xinfo|consumers"
            " xgroup|create xgroup|createconsumer xgroup|delconsumer",
            (LOG, "notifier:asks"),
        ),
    )


def mesh(place: Place) -> tuple[Grant, ...]:
    """Hears all beats, and measures each stream that the truth names."""
    streams = [key.name for key in flows_of(place.truth).keys if key.bus == place.bus and not key.many]
    measured = Grant(
        "type memory|usage xlen xinfo|stream xinfo|groups xpending xrange",
        tuple(map(escaped, streams)),
        mode="R",
    )
    return (
        *own_points(MESH, place),
        Grant("subscribe psubscribe", channels=place.all_beats()),
        *((measured,) if streams else ()),
    )


def board(place: Place) -> tuple[Grant, ...]:
    """Shows what there is to see."""
    return (*own_points(BOARD, place), *seeing(place))


def seeing(place: Place) -> tuple[Grant, ...]:
    """What `status`, `health`, `topology` and `alerts` read."""
    of_mesh = written(MESH, place) if MESH in place.truth.services else MESH_KEYS
    shown = tuple(escaped(point.key) for point in of_mesh if point.bus == place.bus)
    return (
        Grant("get getrange mget pttl", ("health:*", "beat:*", "run:*", *shown), mode="R"),
        Grant("hgetall", ("healer:roster", "healer:lease", "notifier:silences"), mode="R"),
        Grant("xrange xrevrange xread xlen", (LOG, "notifier:dead", *shown), mode="R"),
        Grant("subscribe psubscribe", channels=(escaped(place.alerts), *place.all_beats())),
    )


def _vigil(
    listener: str,
    place: Place,
    health: tuple[str, ...],
    beats: tuple[str, ...],
    heard: tuple[str, ...],
) -> tuple[Grant, ...]:
    """What healer and sentinel have in common: a memory, a canary, the log."""
    own = tuple(f"{listener}:{word}" for word in ("lease", "roster", "silence", "heard", "canary"))
    canary = f"{listener}:canary:*"
    return (
        Grant("hmget hget hset hdel hscan incr set type del", own),
        Grant("set del", health, mode="W"),
        Grant("getrange type pttl", beats, mode="R"),
        # TYPE and DEL: it replaces a log that is no stream. Who may XADD may empty the log by MAXLEN as well.
        Grant("xadd xdel type del", (LOG,), mode="W"),
        Grant("xinfo|groups", (LOG,), mode="R"),
        Grant("publish", channels=(escaped(place.alerts), canary)),
        Grant("subscribe", channels=tuple(dict.fromkeys((canary, *heard)))),
    )


ROLES: Final[Mapping[str, Callable[[Place], tuple[Grant, ...]]]] = {
    HEALER: healer,
    SENTINEL: sentinel,
    NOTIFIER: notifier,
    MESH: mesh,
    BOARD: board,
}
