"""Measure one monitor, whichever it is: a thousand deaths, single deaths, and pings over HTTP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.notify import Receiver
from bench.programs import Usage, find_tree, pss_mb, read_result, wait_until

TIMEOUT_SEC: Final = 3.0
SLOW_TIMEOUT_SEC: Final = 30.0
"""For a monitor that can't take a ping of every service within 3 s."""
SERVICES: Final = 1000
SINGLE_DEATHS: Final = 5
CONNECTIONS: Final = 50
MAX_REFUSED: Final = 0.01
"""A share of the pings. Uptime Kuma refuses a few by a race of its own."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A monitor that runs.

    Attributes:
        port: where it takes pings over HTTP.
        paths: those of all services, in order, with the method before them if it is not GET.
        names: the services, as its webhook calls them.
        pids: its processes.
        timeout_sec: for how long a service may be silent.
        load: the module that sends the pings, and is called like `bench.load`.
    """

    port: int
    paths: Sequence[str]
    names: Sequence[str]
    pids: Sequence[int]
    timeout_sec: float = TIMEOUT_SEC
    load: str = "bench.load"


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of pings.

    Attributes:
        rate: how many were answered a second.
        last_at: when the last one was, in monotonic seconds.
        refused: how many of them the monitor did not take.
    """

    rate: float
    last_at: float
    refused: int


def send_pings(peer: Peer, seconds: float, users: int, paths: Sequence[str]) -> Sent:
    """Send pings as fast as they are answered.

    Raises:
        RuntimeError: more than `MAX_REFUSED` of them were refused.
    """
    found = read_result(peer.load, "users", peer.port, seconds, users, 0, *paths)
    statuses: Mapping[str, int] = found["statuses"]
    refused = {status: count for status, count in statuses.items() if not status.startswith("2")}
    if sum(refused.values()) > MAX_REFUSED * sum(statuses.values()):
        raise RuntimeError(f"not every ping was taken: {refused}")
    return Sent(found["rate"], found["last_at"], sum(refused.values()))


def measure_peer(peer: Peer, receiver: Receiver, seconds: float) -> dict[str, str]:
    """Return the cells of a column, by what was measured.

    Raises:
        RuntimeError: services died while they were pinged, because pings are too slow for the timeout.
    """
    names = set(peer.names)
    receiver.arrivals.clear()  # services that were not pinged before they were expected
    first = send_pings(peer, seconds, CONNECTIONS, peer.paths)  # of every service
    if receiver.arrivals:
        raise RuntimeError(f"{len(receiver.arrivals)} died while they were pinged: use a quieter machine")
    wait_until(lambda: names <= receiver.arrivals.keys(), "a message about each")
    last = max(receiver.arrivals.values()) - first.last_at - peer.timeout_sec
    memory, singles = sum(map(pss_mb, peer.pids)), []
    processes = sum(len(find_tree(pid)) for pid in peer.pids)
    for n in range(SINGLE_DEATHS):
        receiver.arrivals.clear()
        single = send_pings(peer, 0.02, 1, [peer.paths[n]])
        wait_until(lambda: peer.names[n] in receiver.arrivals, "a message")  # noqa: B023 - called here
        singles.append(receiver.arrivals[peer.names[n]] - single.last_at - peer.timeout_sec)
    send_pings(peer, seconds, CONNECTIONS, peer.paths)  # they live again: a recovery costs more
    usages = [Usage(pid) for pid in peer.pids]
    last_sent = send_pings(peer, seconds, CONNECTIONS, peer.paths)
    cpu_sec = sum(usage.cpu_sec() for usage in usages)
    return {
        "timeout": f"{peer.timeout_sec:g} s",
        "pings a second": f"{last_sent.rate:,.0f}",
        "of these refused": f"{last_sent.refused:,}",
        "seconds of a core for a million pings": f"{1e6 * cpu_sec / (last_sent.rate * seconds):,.0f}",
        f"memory with {SERVICES:,} services": f"{memory:.0f} MB PSS, {processes} processes",
        "one dies: deadline to webhook": f"median {median(singles):.2f} s, worst {max(singles):.2f} s",
        f"{SERVICES:,} die: last message after the last deadline": f"{last:.2f} s",
    }
