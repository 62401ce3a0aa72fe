"""Check the rules between the sections of a truth: shared channels, circular dependencies, short timeouts.

Each rule is a function over the whole document. A value that is already known to be wrong is skipped. Not
here: the rules of single fields (`model.py`).
"""

from collections.abc import Collection, Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import Final

from marketswarm.keys import HEARTBEAT_SUFFIX
from marketswarm.truth.errors import Findings, Place, found, hint, path, show
from marketswarm.truth.model import HEALER, SERVICE_NAME, AccessPoint, Truth

MAX_CIRCLES: Final = 20  # circular dependencies to report at most
FEW_INTERVALS: Final = 3  # with a timeout of fewer intervals, one lost beat is an alarm


def check_sections(truth: Truth, findings: Findings) -> None:
    """Check all rules between sections, and note each conflict in `findings`."""
    _channels(truth, findings)
    _subscriptions(truth, findings)
    _buses(truth, findings)
    _timeouts(truth, findings)
    _dependencies(truth, findings)


def _channels(truth: Truth, findings: Findings) -> None:
    """Note an error for each service whose heartbeat channel an earlier service has on the same bus."""
    taken: dict[tuple[str, str], str] = {}
    for svc, service in truth.services.items():
        if findings.at(_beat(svc, "channel"), _beat(svc, "redis_url")):
            continue
        channel = service.heartbeat.channel
        first = taken.setdefault((truth.bus_of(svc), channel), svc)
        if first != svc:
            findings.error(
                _beat(svc, "channel"),
                f"{show(channel)} is already the channel of {path(('services', first))}: one each",
            )


def _subscriptions(truth: Truth, findings: Findings) -> None:
    """Check the healer's `subscribe_to` against the heartbeats of the services, and against itself.

    Note an error for a heartbeat channel with another bus than that of its service, and for a channel that
    two entries name on different buses.
    """
    beats: dict[str, list[str]] = {}
    for svc, service in truth.services.items():
        if not findings.at(_beat(svc, "channel"), _beat(svc, "redis_url")):
            beats.setdefault(service.heartbeat.channel, []).append(svc)
    alone: dict[str, str] = {}
    for place, point in _points(truth, HEALER, "subscribe_to"):
        if point.key in beats:
            buses = {truth.bus_of(svc): svc for svc in beats[point.key]}
            if point.bus not in buses:
                bus, svc = next(iter(buses.items()))
                findings.error(
                    (*place, "bus"),
                    f"{show(point.bus)}, but {path(_beat(svc))} puts {show(point.key)} on {show(bus)}",
                )
        elif alone.setdefault(point.key, point.bus) != point.bus:
            findings.error(
                (*place, "bus"),
                f"{show(point.bus)}, but {show(point.key)} is on {show(alone[point.key])} above",
            )
        else:
            _alone(truth, findings, place, point.key, beats)


def _alone(truth: Truth, findings: Findings, place: Place, channel: str, channels: Collection[str]) -> None:
    """Check a channel in `subscribe_to` that no section has as its heartbeat channel.

    Note a warning if the healer does not monitor it, and an error if the text before `:heartbeat` is no name
    of a service.

    Args:
        truth: the document.
        findings: takes the warning or error.
        place: the place of the access point.
        channel: the channel.
        channels: all heartbeat channels, among which a similar one is suggested.
    """
    svc = channel.removesuffix(HEARTBEAT_SUFFIX)
    if svc == channel:
        findings.warn(
            (*place, "key"),
            f'{show(channel)} is no service\'s channel and does not end in "{HEARTBEAT_SUFFIX}": not watched'
            + hint(channel, channels),
        )
    elif svc in truth.services:
        if not findings.at(_beat(svc, "channel"), _beat(svc, "redis_url")):
            own = truth.services[svc].heartbeat.channel
            findings.warn((*place, "key"), f"{show(channel)} is not watched: {svc} beats on {show(own)}")
    elif svc != HEALER and not SERVICE_NAME.fullmatch(svc):
        said = f"{show(svc)}, before {show(HEARTBEAT_SUFFIX)}, is not a service's name"
        findings.error((*place, "key"), said)


def _buses(truth: Truth, findings: Findings) -> None:
    """Note an error for each access point whose bus the truth does not name."""
    known = truth.bus_names()
    for svc in truth.services:
        for kind in ("subscribe_to", "publish_to"):
            for place, point in _points(truth, svc, kind):
                if point.bus not in known and not findings.at(("buses", point.bus)):
                    where = (*place, "bus")
                    findings.error(
                        where, f"{found(where, point.bus)} is not a known bus" + hint(point.bus, known)
                    )


def _timeouts(truth: Truth, findings: Findings) -> None:
    """Compare each service's timeout with its interval.

    Note an error if the timeout is not above the interval, and a warning if it is below `FEW_INTERVALS`
    intervals.
    """
    for svc, service in truth.services.items():
        beat = service.heartbeat
        own = beat.timeout_sec is not None
        cadence = ("services", HEALER, "threshold", "heartbeat_cadence")
        if findings.at(_beat(svc, "interval_sec"), _beat(svc, "timeout_sec"), *(() if own else (cadence,))):
            continue
        if not own and (svc == HEALER or not beat.monitored):
            continue  # the sentinel has a timeout of its own for the healer; unmonitored services have none
        timeout_sec = truth.timeout_of(svc)
        interval = f"interval_sec ({beat.interval_sec:g})"
        if own:
            where, what = _beat(svc, "timeout_sec"), f"{timeout_sec:g} is %s {interval}: "
            remedy = f"write {FEW_INTERVALS * beat.interval_sec:g} or more"
        else:
            source = path(cadence) if truth.cadence_sec() else "the default"
            where = _beat(svc, "interval_sec")
            what = f"the timeout of {timeout_sec:g}, from {source}, is %s {interval}: "
            remedy = f"write {timeout_sec / FEW_INTERVALS:g} or less, or a timeout_sec beside it"
        if timeout_sec <= beat.interval_sec:
            findings.error(where, what % "not above" + remedy)
        elif timeout_sec < FEW_INTERVALS * beat.interval_sec:
            findings.warn(
                where, what % f"below {FEW_INTERVALS} times" + "one late beat is an alarm; " + remedy
            )


def _dependencies(truth: Truth, findings: Findings) -> None:
    """Check every `depends_on`.

    Note an error for each entry that names its own service or an unknown one, and for each of the first
    `MAX_CIRCLES` circular dependencies.
    """
    if not any(service.depends_on for service in truth.services.values()):
        return
    known = dict.fromkeys([*truth.services, *(watch.svc for watch in truth.watched())])
    for svc, service in truth.services.items():
        for index, name in enumerate(service.depends_on):
            place = ("services", svc, "depends_on", index)
            if findings.at(place, ("services", name)):
                continue
            if name == svc:
                findings.error(place, f"{show(name)} depends on itself")
            elif name not in known:
                findings.error(place, f"{found(place, name)} is not a known service" + hint(name, known))
    for circle in islice(_circles(truth), MAX_CIRCLES):
        names = [show(svc) for svc in (*circle, circle[0])]
        arrows = " → ".join(names if len(names) <= 10 else [*names[:5], "…", *names[-4:]])
        findings.error(("services", circle[0], "depends_on"), f"circular: {arrows}")


def _circles(truth: Truth) -> Iterator[tuple[str, ...]]:
    """Yield each circle of dependencies as the names of its services, each service before one that it needs.

    A circle begins with its first service in the document's order. The sorter reports one circle at a time:
    its last dependency is then taken out of the graph.
    """
    rank = {svc: at for at, svc in enumerate(truth.services)}
    graph = {
        svc: dict.fromkeys(name for name in service.depends_on if name in rank and name != svc)
        for svc, service in truth.services.items()
    }
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle = error.args[1][:0:-1]  # the sorter lists a service before the ones that need it
        else:
            return
        first = min(range(len(circle)), key=lambda at: rank[circle[at]])
        circle = [*circle[first:], *circle[:first]]
        yield tuple(circle)
        del graph[circle[-1]][circle[0]]


def _points(truth: Truth, svc: str, kind: str) -> Iterator[tuple[Place, AccessPoint]]:
    """Yield the place in the document and the access point, for each access point of a service.

    Yield nothing if the service has no section.

    Args:
        truth: the document.
        svc: the service.
        kind: `subscribe_to` or `publish_to`.
    """
    service = truth.services.get(svc)
    if service is None:
        return
    points = (
        service.access_points.subscribe_to if kind == "subscribe_to" else service.access_points.publish_to
    )
    place: Place = ("services", svc, "access_points", kind)
    for index, point in enumerate(points):
        yield (*place, index), point


def _beat(svc: str, *key: str) -> Place:
    """Return the place of a service's heartbeat, or of a key in it."""
    return ("services", svc, "heartbeat", *key)
