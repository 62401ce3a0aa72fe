"""Count lines in the logs of services: those that match a pattern, and those of a kind never seen.

Where they are read is in `owners/log_source.py`. What was in a log at the first look is learned from and not
counted. Lines are data from others: they are bounded, matched and masked, and only templates of them are kept
or shown.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from marketswarm import log as logs
from marketswarm.tasks import gather_all
from services.medic.metric import LOG_METRICS, Metric, Readings, name_reading
from services.medic.owners.log_source import LogSource, ReadLines
from services.medic.rule import MAX_LINE_CHARS, MonitorRule, compile_pattern
from services.medic.rules.measurement import BlockingMeasurement
from services.medic.rules.template import TemplateMemory, make_template, show_template

LOOK_SEC: Final = 0.5
"""How long one look lasts. Lines that it did not come to are left out; logs that it did not come to are not
known, and come first in the next."""
WITHIN_SEC: Final = 5.0
"""How long a look may take with a disk that does not answer."""
WARM_UP_SEC: Final = 600.0
"""How long every line of a log may be one of a new kind, and is only learned."""
MAX_TEMPLATES: Final = 20_000
"""The most templates of all logs together; LEAST_TEMPLATES and MOST_TEMPLATES are the bounds for one log."""
LEAST_TEMPLATES: Final = 100
MOST_TEMPLATES: Final = 500

log = logs.get("rules")

_Reading = tuple[Metric, str]
"""A metric, and what its reading is called."""


@dataclass(frozen=True, slots=True)
class LogOrder:
    """What to count in the log of a service: lines with each pattern, and perhaps new kinds of lines."""

    patterns: tuple[str, ...] = ()
    has_new: bool = False


def make_orders(pairs: Iterable[tuple[str, MonitorRule]]) -> dict[str, LogOrder]:
    """Return what these rules want to know, by service."""
    patterns, new = dict[str, dict[str, None]](), set[str]()
    for svc, rule in pairs:
        if rule.metric in LOG_METRICS:
            wanted = patterns.setdefault(svc, {})
            if rule.pattern is not None:
                wanted[rule.pattern] = None
            else:
                new.add(svc)
    return {svc: LogOrder(tuple(wanted), svc in new) for svc, wanted in patterns.items()}


@dataclass(slots=True)
class _ServiceLog:
    """What is known of the log of one service."""

    svc: str
    templates: TemplateMemory
    learns_until: float
    counts: Counter[_Reading] = field(default_factory=Counter)
    notes: dict[_Reading, str] = field(default_factory=dict)
    looked_at: float = float("-inf")
    is_first: bool = True
    is_skipping: bool = False
    has_new: bool = False

    def learn(self, line: bytes, *, is_learning: bool) -> None:
        """Learn the kind of a line; count it if it is new, unless all are."""
        template, is_error = make_template(line)
        if self.templates.add(template) and not is_learning:
            for metric in (Metric.LOG_NEW, Metric.LOG_NEW_ERRORS) if is_error else (Metric.LOG_NEW,):
                self._add((metric, self.svc), template)

    def count_matches(self, line: bytes, patterns: Iterable[str]) -> None:
        text = line[: 4 * MAX_LINE_CHARS].decode("utf-8", "replace")[:MAX_LINE_CHARS]
        for pattern in patterns:
            if compile_pattern(pattern)(text):
                self._add((Metric.LOG_MATCHES, name_reading(self.svc, pattern)), make_template(line)[0])

    def forget_templates(self, learns_until: float) -> None:
        self.templates, self.learns_until = TemplateMemory(self.templates.most), learns_until

    def _add(self, reading: _Reading, template: str) -> None:
        self.counts[reading] += 1
        self.notes[reading] = template


class LogObserver:
    """Count lines in the logs of these sources."""

    def __init__(self, sources: Sequence[LogSource]) -> None:
        self._sources = sources
        self._logs: dict[str, _ServiceLog] = {}
        self._measurement = BlockingMeasurement()

    async def read(self, orders: Mapping[str, LogOrder], now: float) -> Readings:
        """Return the counts at `now`, in seconds of a clock that is never set; without a source, nothing."""
        if not self._sources or not orders or self._measurement.is_running:  # it still takes what was fetched
            return {}
        await gather_all(source.fetch(orders) for source in self._sources)
        return await self._measurement.run(partial(self.measure, dict(orders), now), WITHIN_SEC)

    def find_note(self, svc: str, metric: Metric, detail: str) -> str:
        """Return the template of the line that was counted last, made safe for people; empty without one."""
        own = self._logs.get(svc)
        return "" if own is None else show_template(own.notes.get((metric, name_reading(svc, detail)), ""))

    def measure(
        self,
        orders: Mapping[str, LogOrder],
        now: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Readings:
        """Read what is new in the logs of these services; this blocks."""
        most = min(MOST_TEMPLATES, max(LEAST_TEMPLATES, MAX_TEMPLATES // max(1, len(orders))))
        self._logs = {
            svc: self._logs.get(svc) or _ServiceLog(svc, TemplateMemory(most), float("inf")) for svc in orders
        }
        found = dict[str, list[ReadLines]]()
        try:
            for source in self._sources:
                for svc, read in source.list_logs(orders).items():
                    found.setdefault(svc, []).append(read)
        except OSError:
            return {}
        until, readings = clock() + LOOK_SEC, Readings({metric: {} for metric in LOG_METRICS})
        for own in sorted(self._logs.values(), key=lambda each: each.looked_at):
            if clock() >= until:
                break
            counts = self._look(own, orders[own.svc], found.get(own.svc, ()), now, lambda: clock() >= until)
            for (metric, name), value in counts.items():
                readings[metric][name] = value
        return readings

    def _look(
        self,
        own: _ServiceLog,
        order: LogOrder,
        reads: Sequence[ReadLines],
        now: float,
        is_late: Callable[[], bool],
    ) -> dict[_Reading, float | None]:
        """Read one log, and return its counts. One that can't be read is not known."""
        own.looked_at = now
        if order.has_new and not own.has_new:  # a rule that was not there before
            own.forget_templates(now + WARM_UP_SEC)
        own.has_new = order.has_new
        try:
            new = [read() for read in reads]
        except OSError:
            return {}
        is_first, own.is_first = own.is_first, False
        if not new:
            return {}
        lines = [line for each in new for line in each.lines]
        has_gap, skipped_bytes = any(each.has_gap for each in new), sum(each.skipped_bytes for each in new)
        before, is_learning = own.counts.copy(), is_first or now < own.learns_until
        for at, line in enumerate(lines):
            if is_late():
                has_gap, skipped_bytes = True, skipped_bytes + sum(map(len, lines[at:]))
                break
            if order.has_new:
                own.learn(line, is_learning=is_learning)
            if not is_first:  # what was there before is not counted
                own.count_matches(line, order.patterns)
        if has_gap and not is_first and not own.is_skipping:
            log.warning("medic.log_skipped", svc=own.svc, bytes=skipped_bytes)
        own.is_skipping = has_gap
        if own.templates.is_full:
            log.warning("medic.log_too_varied", svc=own.svc)
            own.forget_templates(now + WARM_UP_SEC)
            is_learning = True
        hidden = {Metric.LOG_NEW, Metric.LOG_NEW_ERRORS} if is_learning else set[Metric]()
        asked = [(Metric.LOG_MATCHES, name_reading(own.svc, pattern)) for pattern in order.patterns]
        asked += [(Metric.LOG_NEW, own.svc), (Metric.LOG_NEW_ERRORS, own.svc)] if order.has_new else []
        counts = {each: float(own.counts[each]) for each in asked}
        # a count that did not grow says nothing where lines were left out
        return {
            each: None if each[0] in hidden or (own.is_skipping and count == before[each]) else count
            for each, count in counts.items()
        }
