"""Count events, attempts and delays, and yield them as metrics for METRICS_PORT.

The counters are read in another thread than the one that writes them.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from marketswarm.channels.worker import ChannelWorker, Outcome
from marketswarm.metrics import Family, Histogram, MetricTable
from notifier.router.defect import DefectKind
from notifier.router.incident import Decision

OUTCOMES: Final = ("sent", "failed", "dead")
"""The values of the label `outcome` of `marketswarm_notifier_attempts_total`."""
_ALL_DECISIONS: Final[dict[str, int]] = dict.fromkeys(Decision, 0)
_NO_DEFECTS: Final[dict[str, int]] = dict.fromkeys(DefectKind, 0)
_HELP: Final = {
    "leads": "1 while this notifier sends messages, 0 while it stands by.",
    "events_total{decision}": "Events taken from the log, by what was decided about them.",
    "defects_total{defect}": "Defects inside the notifier that were found and mended, by what failed.",
    "malformed_total": "Log entries that can't be parsed.",
    "attempts_total{channel,outcome}": (
        "Attempts to send, by channel and outcome: sent, failed (and tried again), dead."
    ),
    "waiting{channel}": "Messages that wait for a channel.",
    "channel_broken{channel}": "1 while a channel refuses messages for good.",
    "incidents": "Services, buses and targets that are down, whether a message was sent or not.",
    "delay_seconds": "From an event to its acceptance by a channel.",
}
_METRICS: Final = MetricTable("marketswarm_notifier_", _HELP)


class NotifierMetrics:
    """The counters of events and attempts, and callables that return the present value of each gauge."""

    def __init__(self) -> None:
        self.delay = Histogram(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
        self.events: Counter[str] = Counter()
        self.defects: Counter[str] = Counter()
        self.malformed: Counter[str] = Counter()
        self.workers: Callable[[], Mapping[str, ChannelWorker]] = dict
        self.incidents: Callable[[], int] = lambda: 0
        self.leads: Callable[[], bool] = lambda: False
        self._attempts: Counter[tuple[str, str]] = Counter()

    def attempt(self, outcome: Outcome) -> None:
        kind = "sent" if outcome.error is None else "dead" if outcome.final else "failed"
        self._attempts[outcome.channel, kind] += 1

    def collect(self) -> Iterator[Family]:
        workers = dict(self.workers())
        # a count of 0 for each outcome, because `increase` does not see a counter's first value
        no_attempts = dict.fromkeys(itertools.product(workers, OUTCOMES), 0)
        return _METRICS.collect(
            leads=self.leads(),
            events_total=_ALL_DECISIONS | self.events,
            defects_total=_NO_DEFECTS | self.defects,
            malformed_total=self.malformed.total(),
            attempts_total=no_attempts | self._attempts,
            waiting={name: len(each) for name, each in workers.items()},
            channel_broken={name: each.broken for name, each in workers.items()},
            incidents=self.incidents(),
            delay_seconds=self.delay,
        )
