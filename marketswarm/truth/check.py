"""Check the rules between the sections of a truth: shared channels, circular dependencies, short timeouts.

Each rule is a function over the whole document. A value that is already known to be wrong is skipped. Not
here: the rules of single fields (`model.py`).
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Final

from marketswarm.keys import HEARTBEAT_SUFFIX
from marketswarm.truth.cycles import find_cycles, format_cycle
from marketswarm.truth.errors import Findings, Place, format_found, format_hint, format_path, format_value
from marketswarm.truth.model import HEALER, RESERVED_USERS, SERVICE_NAME, AccessPoint, Service, Truth
from marketswarm.truth.schedule import Schedule

MAX_CYCLES: Final = 20  # circular dependencies to report at most
SAFE_INTERVALS: Final = 3  # with a timeout of fewer intervals, one lost beat is an alarm
JOB_INTERVAL_SEC: Final = 300.0
"""A service that beats no more often is a job: each run is to be reported, so its timeout is one interval
and a grace."""


def check_sections(truth: Truth, findings: Findings) -> None:
    _check_names(truth, findings)
    _check_channels(truth, findings)
    _check_subscriptions(truth, findings)
    _check_buses(truth, findings)
    _check_timeouts(truth, findings)
    _check_schedules(truth, findings)
    _check_dependencies(truth, findings)


def _iterate_different(truth: Truth, findings: Findings) -> Iterator[tuple[str, Service]]:
    """Yield each service and section; a shared one only until something is found, but the healer's always."""
    right: set[int] = set()  # the `id` of each section in which nothing was found
    for svc, service in truth.services.items():
        if id(service) in right and svc != HEALER:
            continue
        known = len(findings)
        yield svc, service
        is_skipped = findings.has_error_at(("services", svc))  # a wrong name: its rules were not looked at
        if len(findings) == known and svc != HEALER and not is_skipped:
            right.add(id(service))


def _may_share_channels(truth: Truth) -> bool:
    """Return False if each service surely has a channel of its own; the default ones differ by the names."""
    known: set[tuple[str, str]] = set()
    for svc, service in truth.services.items():
        channel = service.heartbeat.channel
        if channel is None:
            continue
        place = (truth.bus_of(svc), channel)
        named = truth.services.get(channel.removesuffix(HEARTBEAT_SUFFIX))
        if place in known or (named is not None and named.heartbeat.channel is None):
            return True
        known.add(place)
    return False


def _check_names(truth: Truth, findings: Findings) -> None:
    """Check that no service is called like a bus or like a user that belongs to no service.

    Who restarts a service by its name would restart a server; and no user could be made for the service.
    """
    for user in RESERVED_USERS:
        if user in truth.services:
            found = f"{format_value(user)} is the name of a Redis user of another kind"
            findings.add_error(("services", user), f"{found}: give the service another one")
    for bus in truth.bus_names():
        if bus in truth.services:
            findings.add_error(
                ("services", bus), f"{format_value(bus)} is the name of a bus: give the service another one"
            )


def _check_channels(truth: Truth, findings: Findings) -> None:
    """Each service needs a heartbeat channel that no other service has on the same bus."""
    if not findings.has_errors and not _may_share_channels(truth):
        return
    owners: dict[tuple[str, str], str] = {}
    for svc in truth.services:
        if findings.has_error_at(_heartbeat_place(svc, "channel"), _heartbeat_place(svc, "redis_url")):
            continue
        channel = truth.channel_of(svc)
        owner = owners.setdefault((truth.bus_of(svc), channel), svc)
        if owner != svc:
            findings.add_error(
                _heartbeat_place(svc, "channel"),
                f"{format_value(channel)} is already the channel of"
                f" {format_path(('services', owner))}: one each",
            )


def _check_subscriptions(truth: Truth, findings: Findings) -> None:
    """Check the healer's `subscribe_to` against the heartbeats of the services, and against itself.

    Note an error for a heartbeat channel with another bus than that of its service, and for a channel that
    two entries name on different buses.
    """
    points = list(_find_access_points(truth, HEALER, "subscribe_to"))
    services_by_channel: dict[str, list[str]] = {}
    for svc in truth.services if points else ():
        if not findings.has_error_at(_heartbeat_place(svc, "channel"), _heartbeat_place(svc, "redis_url")):
            services_by_channel.setdefault(truth.channel_of(svc), []).append(svc)
    bus_by_channel: dict[str, str] = {}
    for place, point in points:
        if point.key in services_by_channel:
            buses = {truth.bus_of(svc): svc for svc in services_by_channel[point.key]}
            if point.bus not in buses:
                bus, svc = next(iter(buses.items()))
                findings.add_error(
                    (*place, "bus"),
                    f"{format_value(point.bus)}, but {format_path(_heartbeat_place(svc))} puts"
                    f" {format_value(point.key)} on {format_value(bus)}",
                )
        elif bus_by_channel.setdefault(point.key, point.bus) != point.bus:
            findings.add_error(
                (*place, "bus"),
                f"{format_value(point.bus)}, but {format_value(point.key)} is on"
                f" {format_value(bus_by_channel[point.key])} above",
            )
        else:
            _check_unowned_channel(truth, findings, place, point.key, services_by_channel)


def _check_unowned_channel(
    truth: Truth, findings: Findings, place: Place, channel: str, channels: Collection[str]
) -> None:
    """Check a channel in `subscribe_to` that no section has as its heartbeat channel.

    It is a warning that the healer does not monitor it, and an error that the text before `:heartbeat` is not
    the name of a service. `channels` are all heartbeat channels, among which a similar one is suggested.
    """
    svc = channel.removesuffix(HEARTBEAT_SUFFIX)
    if svc == channel:
        findings.add_warning(
            (*place, "key"),
            f"{format_value(channel)} is no service's channel and does not end in"
            f' "{HEARTBEAT_SUFFIX}": not watched' + format_hint(channel, channels),
        )
    elif svc in truth.services:
        if not findings.has_error_at(_heartbeat_place(svc, "channel"), _heartbeat_place(svc, "redis_url")):
            findings.add_warning(
                (*place, "key"),
                f"{format_value(channel)} is not watched: {svc} beats on"
                f" {format_value(truth.channel_of(svc))}",
            )
    elif svc != HEALER and not SERVICE_NAME.fullmatch(svc):
        message = f"{format_value(svc)}, before {format_value(HEARTBEAT_SUFFIX)}, is not a service's name"
        findings.add_error((*place, "key"), message)


def _check_buses(truth: Truth, findings: Findings) -> None:
    known = truth.bus_names()
    for svc, _ in _iterate_different(truth, findings):
        for kind in ("subscribe_to", "publish_to"):
            for place, point in _find_access_points(truth, svc, kind):
                if point.bus not in known and not findings.has_error_at(("buses", point.bus)):
                    where = (*place, "bus")
                    findings.add_error(
                        where,
                        f"{format_found(where, point.bus)} is not a known bus"
                        + format_hint(point.bus, known),
                    )


def _check_timeouts(truth: Truth, findings: Findings) -> None:
    """A timeout must be above the interval of its service, and should be `SAFE_INTERVALS` times as long.

    A timeout that a job has set for itself may be shorter than that.
    """
    for svc, service in _iterate_different(truth, findings):
        beat = service.heartbeat
        if beat.schedule is not None:
            continue
        has_own_timeout = beat.timeout_sec is not None
        cadence = ("services", HEALER, "threshold", "heartbeat_cadence")
        places = [_heartbeat_place(svc, key) for key in ("interval_sec", "timeout_sec")]
        if findings.has_error_at(*places, *(() if has_own_timeout else (cadence,))):
            continue
        if not has_own_timeout and (svc == HEALER or not beat.monitored):
            continue  # the sentinel has a timeout of its own for the healer; unmonitored services have none
        timeout_sec = truth.timeout_of(svc)
        interval = f"interval_sec ({beat.interval_sec:g})"
        if has_own_timeout:
            where, template = _heartbeat_place(svc, "timeout_sec"), f"{timeout_sec:g} is %s {interval}: "
            remedy = f"write {SAFE_INTERVALS * beat.interval_sec:g} or more"
        else:
            source = format_path(cadence) if truth.cadence_sec() else "the default"
            where = _heartbeat_place(svc, "interval_sec")
            template = f"the timeout of {timeout_sec:g}, from {source}, is %s {interval}: "
            remedy = f"write {timeout_sec / SAFE_INTERVALS:g} or less, or a timeout_sec beside it"
        if timeout_sec <= beat.interval_sec:
            findings.add_error(where, template % "not above" + remedy)
        elif has_own_timeout and beat.interval_sec >= JOB_INTERVAL_SEC:
            continue
        elif timeout_sec < SAFE_INTERVALS * beat.interval_sec:
            findings.add_warning(
                where, template % f"below {SAFE_INTERVALS} times" + "one late beat is an alarm; " + remedy
            )


def _check_schedules(truth: Truth, findings: Findings) -> None:
    """Check what a heartbeat sets beside its schedule, and measure the schedule.

    An interval or a timeout beside one is an error, and so is a key that is read with a schedule only, and a
    schedule of the healer, which must beat all the time. The longest pause of a right schedule is measured
    here, and not later on an event loop: it is kept.
    """
    for svc, service in _iterate_different(truth, findings):
        beat = service.heartbeat
        place = _heartbeat_place(svc, "schedule")
        if findings.has_error_at(place):
            continue
        wrong_keys = ("time_zone", "grace_sec") if beat.schedule is None else ("interval_sec", "timeout_sec")
        for key in wrong_keys:
            where = _heartbeat_place(svc, key)
            if key not in beat.said or findings.has_error_at(where):
                continue
            if beat.schedule is None:
                message = "is read with a schedule only: write one, or leave this out"
            else:
                message = f"{getattr(beat, key):g} beside a schedule, which says when: leave it out"
            findings.add_error(where, message)
        if beat.schedule is None:
            continue
        if svc == HEALER:
            findings.add_error(place, f"{format_value(beat.schedule)}: the healer is no job, it beats")
        elif not findings.has_error_at(_heartbeat_place(svc, "time_zone")):
            Schedule(beat.schedule, beat.time_zone).longest_pause_sec()


def _check_dependencies(truth: Truth, findings: Findings) -> None:
    """Check that each entry of `depends_on` names another known service, and that they form no circle."""
    if not any(service.depends_on for service in truth.services.values()):
        return
    known = dict.fromkeys([*truth.services, *(watch.svc for watch in truth.subscribed())])
    for svc, service in truth.services.items():
        for index, name in enumerate(service.depends_on):
            place = ("services", svc, "depends_on", index)
            if findings.has_error_at(place, ("services", name)):
                continue
            if name == svc:
                findings.add_error(place, f"{format_value(name)} depends on itself")
            elif name not in known:
                findings.add_error(
                    place, f"{format_found(place, name)} is not a known service" + format_hint(name, known)
                )
    needs = {svc: service.depends_on for svc, service in truth.services.items()}
    for cycle in islice(find_cycles(needs), MAX_CYCLES):
        findings.add_error(("services", cycle[0], "depends_on"), f"circular: {format_cycle(cycle)}")


def _find_access_points(truth: Truth, svc: str, kind: str) -> Iterator[tuple[Place, AccessPoint]]:
    """Yield place and access point; none if the service has no section. `kind` is the name of a list."""
    service = truth.services.get(svc)
    points: Sequence[AccessPoint] = getattr(service.access_points, kind) if service else ()
    for index, point in enumerate(points):
        yield ("services", svc, "access_points", kind, index), point


def _heartbeat_place(svc: str, *key: str) -> Place:
    return ("services", svc, "heartbeat", *key)
