"""The monitor's metrics for Prometheus: about each service and bus, about beats, and about publication.

They are read from the monitor's state when Prometheus asks, in the thread of its request; only the delay of
verdicts is recorded as they are published. So a beat costs nothing more, and a dropped service is gone with
the next answer. The agent's own metrics are in `marketswarm.agent.metrics`.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from marketswarm.beat import Beat, parse_beat
from marketswarm.detector import Detector, State, Verdict, WatchedBus, WatchedService
from marketswarm.metrics.family import Family, Histogram, Value, counter, gauge
from marketswarm.monitor.bus_link import BusLink
from marketswarm.monitor.leadership import UNFENCED, Leadership
from marketswarm.monitor.publisher import Publisher

_UP_VALUES: Final = {State.UP: 1.0, State.DOWN: 0.0}
_SVC: Final = ("svc",)
_BUS: Final = ("bus",)


class MonitorMetrics:
    """The metrics of one monitor."""

    def __init__(
        self,
        detector: Detector,
        links: Mapping[str, BusLink],
        leadership: Leadership,
        failed_saves: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._failed_saves = failed_saves
        self._detector, self._links, self._leadership = detector, links, leadership
        self._heard = 0
        self._delay = Histogram(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)

    def observe_delay(self, verdict: Verdict) -> None:
        """Record how long after the service's deadline a bus took its miss."""
        if verdict.overdue_sec is not None:
            self._delay.observe(verdict.overdue_sec + max(0.0, time.time() - verdict.ts))

    def collect(self) -> Iterator[Family]:
        yield from self._collect_counts()
        yield from self._collect_buses()
        yield from self._collect_publication()
        yield from self._collect_leadership()
        yield from self._collect_services()

    def _collect_counts(self) -> Iterator[Family]:
        counts = self._detector.counts
        # a payload that proves to be no beat is subtracted later, but a Prometheus counter must not fall
        self._heard = max(self._heard, counts.heard)
        yield counter("marketswarm_beats_heard_total", "Beats heard, of all services.", self._heard)
        yield counter(
            "marketswarm_beats_malformed_total", "Payloads heard that are not beats.", counts.malformed
        )
        yield counter(
            "marketswarm_beats_replayed_total", "Beats heard that had been heard before.", counts.replayed
        )
        yield counter(
            "marketswarm_beats_unheard_total",
            "Beats that only the key beat:<svc> knew of, though someone listened.",
            counts.unheard,
        )
        yield counter(
            "marketswarm_last_beats_unreadable_total",
            "Values of beat:<svc>, read before a miss, that are not beats.",
            counts.unreadable,
        )
        yield counter(
            "marketswarm_stalls_total",
            "Times that the listener itself did not run for more than a second.",
            counts.stalls,
        )
        yield Family(
            "marketswarm_failed_saves_total",
            "counter",
            "Saves that a bus refused, by what was to be saved: silences, notes, health.",
            [((what,), count) for what, count in dict(self._failed_saves).items()],
            ("what",),
        )
        yield gauge(
            "marketswarm_judging",
            "1 once the memory of earlier runs was read and services are judged.",
            float(not self._detector.is_restoring),
        )

    def _collect_buses(self) -> Iterator[Family]:
        buses = list(self._detector.buses.values())

        def collect_per_bus(read: Callable[[WatchedBus], float]) -> list[Value]:
            return [((bus.name,), read(bus)) for bus in buses]

        yield Family(
            "marketswarm_bus_up",
            "gauge",
            "1 while a bus is heard, 0 once it was missed; none until either is known.",
            [((bus.name,), _UP_VALUES[bus.state]) for bus in buses if bus.state in _UP_VALUES],
            _BUS,
        )
        yield Family(
            "marketswarm_bus_listening",
            "gauge",
            "1 while the listening clock of a bus runs, 0 in a gap.",
            collect_per_bus(lambda bus: float(bus.clock.is_listening)),
            _BUS,
        )
        yield Family(
            "marketswarm_bus_listened_seconds_total",
            "counter",
            "Time that provably was listened to on a bus.",
            collect_per_bus(lambda bus: bus.clock.proven),
            _BUS,
        )
        yield Family(
            "marketswarm_bus_canary_round_trip_seconds",
            "gauge",
            "How long the last canary that came back was on its way.",
            collect_per_bus(lambda bus: bus.clock.round_trip_sec),
            _BUS,
        )
        yield Family(
            "marketswarm_bus_gaps_total",
            "counter",
            "Gaps in the listening on a bus.",
            collect_per_bus(lambda bus: bus.clock.gaps),
            _BUS,
        )
        yield Family(
            "marketswarm_bus_session_restarts_total",
            "counter",
            "Sessions on a bus after the first.",
            collect_per_bus(lambda bus: max(0, bus.clock.sessions - 1)),
            _BUS,
        )

    def _collect_publication(self) -> Iterator[Family]:
        yield Family(
            "marketswarm_verdict_delay_seconds",
            "histogram",
            "From a service's deadline until a bus had its miss on the log.",
            histogram=self._delay,
        )
        publishers = self._publishers()
        yield Family(
            "marketswarm_publish_retries_total",
            "counter",
            "Attempts to tell verdicts that a bus did not take.",
            [((name,), publisher.retries) for name, publisher in publishers],
            _BUS,
        )
        yield Family(
            "marketswarm_unpublished_verdicts",
            "gauge",
            "Verdicts that wait to be published on a bus; of a standby, that the leader has to publish.",
            [((name,), len(publisher)) for name, publisher in publishers],
            _BUS,
        )
        yield Family(
            "marketswarm_superseded_verdicts_total",
            "counter",
            "Verdicts dropped while too many waited for a bus, since later ones made up for them.",
            [((name,), publisher.superseded) for name, publisher in publishers],
            _BUS,
        )
        yield Family(
            "marketswarm_forgotten_verdicts_total",
            "counter",
            "Verdicts that can't be published again, should the bus have lost them: there were too many.",
            [((name,), publisher.forgotten) for name, publisher in publishers],
            _BUS,
        )
        yield Family(
            "marketswarm_log_unread_events",
            "gauge",
            "Events on the log of alerts that the notifier has not acknowledged, when it was asked last.",
            [
                ((name,), unread)
                for name, publisher in publishers
                if (unread := publisher.log_length.unread) is not None
            ],
            _BUS,
        )

    def _publishers(self) -> list[tuple[str, Publisher]]:
        links = list(self._links.items())
        return [(name, link.publisher) for name, link in links if link.publisher is not None]

    def _collect_leadership(self) -> Iterator[Family]:
        """Yield on which buses this process leads, and the epochs of its leases.

        Yield nothing for a sole leader.
        """
        fences = [(name, self._leadership.fence(name)) for name, _ in self._publishers()]
        if all(fence == UNFENCED for _, fence in fences):
            return  # a sole listener has no lease
        yield Family(
            "marketswarm_leader",
            "gauge",
            "1 where this one speaks, 0 where it stands by.",
            [((name,), float(fence is not None)) for name, fence in fences],
            _BUS,
        )
        yield Family(
            "marketswarm_lease_epoch",
            "gauge",
            "The epoch of the lease that it holds on a bus; none while it holds none.",
            [((name,), fence.epoch) for name, fence in fences if fence is not None],
            _BUS,
        )

    def _collect_services(self) -> Iterator[Family]:
        services = list(self._detector.services.values())
        yield Family(
            "marketswarm_services",
            "gauge",
            "Services watched, by verdict.",
            _count_by_state(services),
            ("verdict",),
        )
        yield gauge(
            "marketswarm_services_unwatchable",
            "Services whose channel their bus does not let us hear.",
            len(self._detector.refused),
        )
        yield Family(
            "marketswarm_service_up",
            "gauge",
            "1 up, 0 down; none until either is known.",
            (
                ((service.watch.svc,), up)
                for service in services
                if (up := _UP_VALUES.get(service.state)) is not None
            ),
            _SVC,
        )
        yield Family(
            "marketswarm_service_last_beat_timestamp_seconds",
            "gauge",
            "When the last beat was heard, in epoch seconds; none when never.",
            (
                ((service.watch.svc,), last.wall)
                for service in services
                if (last := service.last_beat) is not None
            ),
            _SVC,
        )
        yield Family(
            "marketswarm_service_beats_total",
            "counter",
            "Beats sent, by the counts that came along with those heard, of all instances together.",
            (((service.watch.svc,), count_beats(service)) for service in services),
            _SVC,
        )
        yield Family(
            "marketswarm_service_misses_total",
            "counter",
            "Times declared down.",
            (((service.watch.svc,), service.miss_count) for service in services),
            _SVC,
        )


def count_beats(service: WatchedService) -> int:
    """Return how many beats all instances of a service have sent, by their own counts.

    That is the sum of each instance's highest `i`. Senders without a `boot` can't be told apart: for them the
    `i` of the last beat counts. A payload that was stored unparsed is parsed here, but not recorded: this is
    not the event loop's thread.
    """
    boots, count = service.instances.to_dict(), service.instances.dropped_beats
    boot, i = service.instances.last, service.parsed_i
    if service.is_unparsed:
        beat = parse_beat(service.payload, service.watch.svc)
        boot, i = (beat.boot, beat.i) if isinstance(beat, Beat) else (boot, i)
    if boot is None:
        count += i
    elif i > boots.get(boot, 0):
        boots[boot] = i
    return count + sum(boots.values())


def _count_by_state(services: Collection[WatchedService]) -> list[Value]:
    """Include `up`, `down` and `unknown` even if no service has that state."""
    counts = dict.fromkeys((State.UP, State.DOWN, State.UNKNOWN), 0)
    for service in services:
        counts[service.state] = counts.get(service.state, 0) + 1
    return [((state,), count) for state, count in counts.items()]
