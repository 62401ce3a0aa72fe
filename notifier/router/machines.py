"""Find the machines that died with all their services, and those that are back, among due notices. Pure.

The healer's misses say how many other services of their machine are up (`host_up`). Once the latest miss of a
machine says that none is, and none came back since, the machine is gone. That miss must be of the last
FRESH_SEC: an outage that is told later, since a silence ended, says nothing of how the machine is now. A
single miss is none of a machine: its service died. Nothing waits for this: what is due is looked at as it is.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketswarm.event import Kind
from notifier.router.incident import Incident, Notice, NoticeKind, parse_known_event

LEAST_SERVICES: Final = 2
"""The fewest services in one message by which a machine is called gone."""


FRESH_SEC: Final = 600.0
"""How old the latest miss of a machine may be, in seconds, by which it is called gone."""


class MachineState(StrEnum):
    """What a message says of a machine, in the order of its title."""

    GONE = "gone"  # all its services are down
    STILL_GONE = "still gone"  # a message said that it is gone, and no service of it came back since
    BACK = "back"  # a service that went down with it came back on it


@dataclass(frozen=True, slots=True)
class Machine:
    """What notices of one message show of a machine: `ids` are those of the notices about its services.

    `still_down` are the services of one that is back which were told to be gone with it over the same
    channels, and are down still. One that is still gone is so `since` epoch seconds.
    """

    host: str
    state: MachineState
    ids: frozenset[str]
    still_down: tuple[str, ...] = ()
    since: float = 0.0


def find_machines(
    notices: Sequence[Notice],
    channels: Collection[str],
    incidents: Mapping[str, Incident],
    dead_hosts: Collection[str],
) -> tuple[Machine, ...]:
    """Return the machines that these notices of one message to `channels` show to be gone, still or back.

    `dead_hosts` is what `find_dead_hosts` returned for all notices that are due.
    """
    ids = _list_by_host(notices, incidents) if dead_hosts else {}
    gone = (
        Machine(host, MachineState.GONE, frozenset(some))
        for host, some in ids.items()
        if len(some) >= LEAST_SERVICES and host in dead_hosts
    )
    return (*gone, *_find_still_gone(notices, incidents), *_find_back(notices, channels, incidents))


def _find_still_gone(notices: Iterable[Notice], incidents: Mapping[str, Incident]) -> list[Machine]:
    """Return the machines of reminders, unless a service that fell silent there came back since."""
    found: dict[str, dict[str, Incident]] = {}  # by host, the incidents by the id of their notice
    for notice in notices:
        incident = incidents.get(notice.key) if notice.say is NoticeKind.REMINDER else None
        if incident is not None and incident.down and incident.machine:
            found.setdefault(incident.machine, {})[notice.id] = incident
    last_miss = {host: max(each.ts for each in some.values()) for host, some in found.items()}
    returned = {
        each.host
        for each in (incidents.values() if found else ())
        if each.host in found and not each.down and not each.is_gone and each.last_ts >= last_miss[each.host]
    }
    return [
        Machine(
            host,
            MachineState.STILL_GONE,
            frozenset(some),
            since=min(each.since for each in some.values()),
        )
        for host, some in found.items()
        if len(some) >= LEAST_SERVICES and host not in returned
    ]


def _list_by_host(notices: Iterable[Notice], incidents: Mapping[str, Incident]) -> dict[str, set[str]]:
    """Return the ids of the notices of outages that last, by the host of a miss that says what it left."""
    ids: dict[str, set[str]] = {}
    for notice in notices:
        incident = incidents.get(notice.key) if notice.say is NoticeKind.DOWN else None
        if incident is not None and incident.down and incident.host:
            ids.setdefault(incident.host, set()).add(notice.id)
    return ids


def find_dead_hosts(notices: Sequence[Notice], incidents: Mapping[str, Incident], now: float) -> set[str]:
    """Return the hosts whose latest miss left no service up, and none of whose services came back since.

    That miss is of the last FRESH_SEC before `now`, by the clock of the healer that wrote it. Only hosts of
    which two of these notices tell an outage are looked for, in the incidents of which something was read
    since the first of these outages. Misses that were concluded together have one time; the least that one of
    them says is the last.
    """
    begun = _list_by_host(notices, incidents)
    if not any(len(some) >= LEAST_SERVICES for some in begun.values()):
        return set()
    ids = set().union(*begun.values())
    since = min(incidents[notice.key].ts for notice in notices if notice.id in ids)
    return _find_hosts_without_services(incidents.values(), since, now - FRESH_SEC)


def _find_hosts_without_services(incidents: Iterable[Incident], since: float, fresh_since: float) -> set[str]:
    left: dict[str, tuple[float, int]] = {}  # by host, when its latest miss was, negated, and what it left
    back_at: dict[str, float] = {}
    for incident in incidents:
        host = incident.host
        if not host or incident.host_up is None or incident.last_ts < since:
            continue
        if incident.down:
            found = -incident.ts, incident.host_up
            left[host] = min(left.get(host, found), found)
        else:
            back_at[host] = max(back_at.get(host, incident.last_ts), incident.last_ts)
    return {
        host
        for host, (negated, count) in left.items()
        if not count and max(back_at.get(host, float("-inf")), fresh_since) < -negated
    }


def _find_back(
    notices: Iterable[Notice], channels: Collection[str], incidents: Mapping[str, Incident]
) -> list[Machine]:
    found: dict[str, set[str]] = {}
    for notice in notices:
        incident = incidents.get(notice.key) if notice.say is NoticeKind.UP else None
        if incident is None or not incident.machine or not notice.events:
            continue
        event = parse_known_event(notice.events[-1].encode())
        if event is not None and event.type is Kind.HEARTBEAT_OK and event.host == incident.machine:
            found.setdefault(incident.machine, set()).add(notice.id)
    if not found:
        return []
    still_down = _list_still_down(found, channels, incidents)
    return [
        Machine(host, MachineState.BACK, frozenset(ids), tuple(still_down.get(host, ())))
        for host, ids in found.items()
    ]


def _list_still_down(
    hosts: Collection[str], channels: Collection[str], incidents: Mapping[str, Incident]
) -> dict[str, list[str]]:
    """Return by host the services that were told to be gone with it, in any message to these channels."""
    wanted, found = frozenset(channels), dict[str, list[str]]()
    for each in incidents.values():
        if each.down and each.machine in hosts and not wanted.isdisjoint(each.channels):
            found.setdefault(each.machine, []).append(each.name)
    return found
