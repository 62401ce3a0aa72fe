"""The monitor's metrics for Prometheus: about each service and bus, about beats, and about publication.

They are read from the monitor's state when Prometheus asks, in the thread of its request; only the delay of
verdicts is recorded as they are published. So a beat costs nothing more, and a dropped service is gone with
the next answer. The agent's own metrics are in `marketswarm.agent.metrics`.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from marketswarm.beat import Beat, parse_beat
from marketswarm.detector import Detector, State, Verdict, WatchedService
from marketswarm.metrics import Family, Histogram, MetricTable
from marketswarm.monitor.bus_link import BusLink
from marketswarm.monitor.leadership import UNFENCED, Leadership
from marketswarm.monitor.publisher import Publisher

_UP_VALUES: Final = {State.UP: 1.0, State.DOWN: 0.0}
_HELP: Final = {
    "beats_heard_total": "Beats heard, of all services.",
    "beats_malformed_total": "Payloads heard that are not beats.",
    "beats_replayed_total": "Beats heard that had been heard before.",
    "beats_dropped_total": "Payloads heard that were not parsed: too many of a service in a second.",
    "beats_unheard_total": "Beats that only the key beat:<svc> knew of, though someone listened.",
    "last_beats_unreadable_total": "Values of beat:<svc>, read before a miss, that are not beats.",
    "stalls_total": "Times that the listener itself did not run for more than a second.",
    "failed_saves_total{what}": "Saves that a bus refused, by what was to be saved: silences, notes, health.",
    "judging": "1 once the memory of earlier runs was read and services are judged.",
    "bus_up{bus}": "1 while a bus is heard, 0 once it was missed; none until either is known.",
    "bus_listening{bus}": "1 while the listening clock of a bus runs, 0 in a gap.",
    "bus_listened_seconds_total{bus}": "Time that provably was listened to on a bus.",
    "bus_canary_round_trip_seconds{bus}": "How long the last canary that came back was on its way.",
    "bus_gaps_total{bus}": "Gaps in the listening on a bus.",
    "bus_session_restarts_total{bus}": "Sessions on a bus after the first.",
    "verdict_delay_seconds": "From a service's deadline until a bus had its miss on the log.",
    "publish_retries_total{bus}": "Attempts to publish verdicts that a bus did not take.",
    "unpublished_verdicts{bus}": (
        "Verdicts that wait to be published on a bus; of a standby, that the leader has to publish."
    ),
    "superseded_verdicts_total{bus}": (
        "Verdicts dropped while too many waited for a bus, since later ones made up for them."
    ),
    "forgotten_verdicts_total{bus}": (
        "Verdicts that can't be published again, should the bus have lost them: there were too many."
    ),
    "log_unread_events{bus}": (
        "Events on the log of alerts that the notifier has not acknowledged, when it was asked last."
    ),
    "leader{bus}": "1 where this one speaks, 0 where it stands by.",
    "lease_epoch{bus}": "The epoch of the lease that it holds on a bus; none while it holds none.",
    "services{verdict}": "Services watched, by verdict.",
    "services_unwatchable": "Services whose channel their bus does not let us hear.",
    "service_up{svc}": "1 up, 0 down; none until either is known.",
    "service_last_beat_timestamp_seconds{svc}": (
        "When the last beat was heard, in epoch seconds; none when never."
    ),
    "service_beats_total{svc}": (
        "Beats sent, by the counts that came along with those heard, of all instances together."
    ),
    "service_misses_total{svc}": "Times declared down.",
}
_METRICS: Final = MetricTable("marketswarm_", _HELP)
_DELAYS_SEC: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


@dataclass(eq=False)
class MonitorMetrics:
    """The metrics of one monitor."""

    detector: Detector
    links: Mapping[str, BusLink]
    leadership: Leadership
    failed_saves: Mapping[str, int] = field(default_factory=dict)
    _heard: int = 0
    _delay: Histogram = field(default_factory=lambda: Histogram(*_DELAYS_SEC))

    def observe_delay(self, verdict: Verdict, overdue_sec: float) -> float:
        """Record how long after its deadline a bus took a miss, and return that, in seconds.

        The verdict was made `overdue_sec` after the deadline.
        """
        late_sec = overdue_sec + max(0.0, time.time() - verdict.ts)
        self._delay.observe(late_sec)
        return late_sec

    def collect(self) -> Iterator[Family]:
        yield from self._collect_detection()
        yield from self._collect_leadership()
        yield from self._collect_services()

    def _collect_detection(self) -> Iterator[Family]:
        counts, publishers = self.detector.counts, self._publishers()
        buses = list(self.detector.buses.values())
        # a payload that proves to be no beat is subtracted later, but a Prometheus counter must not fall
        self._heard = max(self._heard, counts.heard)
        return _METRICS.collect(
            beats_heard_total=self._heard,
            beats_malformed_total=counts.malformed,
            beats_replayed_total=counts.replayed,
            beats_dropped_total=counts.dropped,
            beats_unheard_total=counts.unheard,
            last_beats_unreadable_total=counts.unreadable,
            stalls_total=counts.stalls,
            failed_saves_total=self.failed_saves,
            judging=not self.detector.is_restoring,
            bus_up={bus.name: _UP_VALUES.get(bus.state) for bus in buses},
            bus_listening={bus.name: bus.clock.is_listening for bus in buses},
            bus_listened_seconds_total={bus.name: bus.clock.proven for bus in buses},
            bus_canary_round_trip_seconds={bus.name: bus.clock.round_trip_sec for bus in buses},
            bus_gaps_total={bus.name: bus.clock.gaps for bus in buses},
            bus_session_restarts_total={bus.name: max(0, bus.clock.sessions - 1) for bus in buses},
            verdict_delay_seconds=self._delay,
            publish_retries_total={name: publisher.retries for name, publisher in publishers},
            unpublished_verdicts={name: len(publisher) for name, publisher in publishers},
            superseded_verdicts_total={name: publisher.queue.superseded for name, publisher in publishers},
            forgotten_verdicts_total={name: publisher.recent.dropped for name, publisher in publishers},
            log_unread_events={name: publisher.log_length.unread for name, publisher in publishers},
        )

    def _publishers(self) -> list[tuple[str, Publisher]]:
        links = list(self.links.items())
        return [(name, link.publisher) for name, link in links if link.publisher is not None]

    def _collect_leadership(self) -> Iterator[Family]:
        """Return on which buses this process leads, and the epochs of its leases.

        Return nothing for a sole leader.
        """
        fences = {name: self.leadership.fence(name) for name, _ in self._publishers()}
        if all(fence == UNFENCED for fence in fences.values()):
            return iter(())  # a sole listener has no lease
        return _METRICS.collect(
            leader={name: fence is not None for name, fence in fences.items()},
            lease_epoch={name: fence.epoch for name, fence in fences.items() if fence is not None},
        )

    def _collect_services(self) -> Iterator[Family]:
        services = list(self.detector.services.values())
        counts = Counter(each.state for each in services)
        return _METRICS.collect(
            services={State.UP: 0, State.DOWN: 0, State.UNKNOWN: 0, **counts},
            services_unwatchable=len(self.detector.refused),
            service_up=((each.svc, _UP_VALUES.get(each.state)) for each in services),
            service_last_beat_timestamp_seconds=(
                (each.svc, last.wall) for each in services if (last := each.last_beat) is not None
            ),
            service_beats_total=((each.svc, count_beats(each)) for each in services),
            service_misses_total=((each.svc, each.trouble.miss_count) for each in services),
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
        beat = parse_beat(service.payload, service.svc)
        boot, i = (beat.boot, beat.i) if isinstance(beat, Beat) else (boot, i)
    if boot is None:
        count += i
    elif i > boots.get(boot, 0):
        boots[boot] = i
    return count + sum(boots.values())
