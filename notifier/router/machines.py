"""Find the machines that died with all their services, and those that are back, among due notices. Pure.

The healer's misses say how many other services of their machine are up (`host_up`). Once the latest miss of a
machine says that none is, and none came back since, the machine is gone. A single miss is none of a machine:
its service died. Nothing waits for this: what is due is looked at as it is.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from marketswarm.event import Kind
from notifier.router.incident import Incident, Notice, NoticeKind, parse_known_event

LEAST_SERVICES: Final = 2
"""The fewest services in one message by which a machine is called gone."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that is gone, or back: `ids` are those of the notices about its services.

    `still_down` are the services of one that is back which were told to be gone with it, and are down still.
    """

    host: str
    is_back: bool
    ids: frozenset[str]
    still_down: tuple[str, ...] = ()


def find_machines(
    notices: Sequence[Notice],
    incidents: Mapping[str, Incident],
    open_in: Mapping[str, Sequence[Incident]],
    dead_hosts: Collection[str],
) -> tuple[Machine, ...]:
    """Return the machines that these notices of one message show to be gone or back.

    `open_in` has the incidents that are open in each thread that the notices continue, `dead_hosts` is what
    `find_dead_hosts` returned for all notices that are due.
    """
    ids = _list_by_host(notices, incidents) if dead_hosts else {}
    gone = (
        Machine(host, False, frozenset(some))
        for host, some in ids.items()
        if len(some) >= LEAST_SERVICES and host in dead_hosts
    )
    return (*gone, *_find_back(notices, incidents, open_in))


def _list_by_host(notices: Iterable[Notice], incidents: Mapping[str, Incident]) -> dict[str, set[str]]:
    """Return the ids of the notices of outages that last, by the host of a miss that says what it left."""
    ids: dict[str, set[str]] = {}
    for notice in notices:
        incident = incidents.get(notice.key) if notice.say is NoticeKind.DOWN else None
        if incident is not None and incident.down and incident.host:
            ids.setdefault(incident.host, set()).add(notice.id)
    return ids


def find_dead_hosts(notices: Sequence[Notice], incidents: Mapping[str, Incident]) -> set[str]:
    """Return the hosts whose latest miss left no service up, and none of whose services came back since.

    Only hosts of which two of these notices tell an outage are looked for, in the incidents of which
    something was read since the first of these outages. Misses that were concluded together have one time;
    the least that one of them says is the last.
    """
    begun = _list_by_host(notices, incidents)
    if not any(len(some) >= LEAST_SERVICES for some in begun.values()):
        return set()
    ids = set().union(*begun.values())
    since = min(incidents[notice.key].ts for notice in notices if notice.id in ids)
    return _find_hosts_without_services(incidents.values(), since)


def _find_hosts_without_services(incidents: Iterable[Incident], since: float) -> set[str]:
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
        if not count and back_at.get(host, float("-inf")) < -negated
    }


def _find_back(
    notices: Iterable[Notice], incidents: Mapping[str, Incident], open_in: Mapping[str, Sequence[Incident]]
) -> list[Machine]:
    found: dict[str, list[Notice]] = {}
    for notice in notices:
        incident = incidents.get(notice.key) if notice.say is NoticeKind.UP else None
        if incident is None or not incident.machine or not notice.events:
            continue
        event = parse_known_event(notice.events[-1].encode())
        if event is not None and event.type is Kind.HEARTBEAT_OK and event.host == incident.machine:
            found.setdefault(incident.machine, []).append(notice)
    return [
        Machine(host, True, frozenset(each.id for each in some), _list_still_down(host, some, open_in))
        for host, some in found.items()
    ]


def _list_still_down(
    host: str, notices: Iterable[Notice], open_in: Mapping[str, Sequence[Incident]]
) -> tuple[str, ...]:
    threads = dict.fromkeys(notice.thread for notice in notices)
    others = (each for thread in threads for each in open_in.get(thread, ()) if each.machine == host)
    return tuple(dict.fromkeys(each.name for each in others if each.down))
