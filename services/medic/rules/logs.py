"""Count lines in the logs of the embedded fleet: those that match a pattern, and those of a kind never seen.

The folder is the one that `marketswarm up` names in the environment. What was in a file at the first look is
learned from and not counted. Lines are data from others: they are bounded, matched and masked, and only
templates of them are kept or shown.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from marketswarm import log as logs
from marketswarm.log_follower import LogFollower, find_log_files
from services.medic.rules.line_pattern import MAX_LINE_CHARS, compile_pattern
from services.medic.rules.measurement import BlockingMeasurement
from services.medic.rules.metric import LOG_METRICS, Metric, Readings, name_reading
from services.medic.rules.rule import MonitorRule
from services.medic.rules.template import TemplateMemory, make_template, show_template

MAX_BYTES: Final = 65_536
"""How much of a file is read in one look: its end."""
LOOK_SEC: Final = 0.5
"""How long one look goes on. Lines that it did not come to are left out; logs that it did not come to are not
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
    """What is known of the log of one service; `svc` may have several processes, each with its own file."""

    svc: str
    templates: TemplateMemory
    learns_until: float
    followers: dict[str, LogFollower] = field(default_factory=dict)
    counts: Counter[_Reading] = field(default_factory=Counter)
    notes: dict[_Reading, str] = field(default_factory=dict)
    looked_at: float = float("-inf")
    is_skipping: bool = False
    has_new: bool = False

    def read_lines(self, files: Mapping[str, Path]) -> tuple[list[bytes], int]:
        """Return the new lines of all files, and how many bytes were left out. Raises OSError."""
        self.followers = {name: self.followers.get(name) or LogFollower(path) for name, path in files.items()}
        before = self._sum_skipped()
        lines = [line for each in self.followers.values() for line in each.read_new(MAX_BYTES)]
        return lines, self._sum_skipped() - before

    def _sum_skipped(self) -> int:
        return sum(each.skipped_bytes for each in self.followers.values())

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
    """Count lines in the logs of a folder."""

    def __init__(self) -> None:
        self._logs: dict[str, _ServiceLog] = {}
        self._measurement = BlockingMeasurement()

    async def read(self, folder: Path | None, orders: Mapping[str, LogOrder], now: float) -> Readings:
        """Return the counts at `now`, in seconds of a clock that is never set; without a folder, nothing."""
        if folder is None or not orders:
            return {}
        return await self._measurement.run(partial(self.measure, folder, dict(orders), now), WITHIN_SEC)

    def find_note(self, svc: str, metric: Metric, detail: str) -> str:
        """Return the template of the line that was counted last, made safe for people; empty without one."""
        own = self._logs.get(svc)
        return "" if own is None else show_template(own.notes.get((metric, name_reading(svc, detail)), ""))

    def measure(
        self,
        folder: Path,
        orders: Mapping[str, LogOrder],
        now: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Readings:
        """Read what is new in the logs of these services; this blocks."""
        most = min(MOST_TEMPLATES, max(LEAST_TEMPLATES, MAX_TEMPLATES // max(1, len(orders))))
        self._logs = {
            svc: self._logs.get(svc) or _ServiceLog(svc, TemplateMemory(most), float("inf")) for svc in orders
        }
        files = dict[str, dict[str, Path]]()
        try:
            for name, path in find_log_files(folder).items():
                files.setdefault(name.partition("/")[0], {})[name] = path
        except OSError:
            return {}
        until, readings = clock() + LOOK_SEC, Readings({metric: {} for metric in LOG_METRICS})
        for own in sorted(self._logs.values(), key=lambda each: each.looked_at):
            if clock() >= until:
                break
            found = self._look(own, orders[own.svc], files.get(own.svc, {}), now, lambda: clock() >= until)
            for (metric, name), value in found.items():
                readings[metric][name] = value
        return readings

    def _look(
        self,
        own: _ServiceLog,
        order: LogOrder,
        files: Mapping[str, Path],
        now: float,
        is_late: Callable[[], bool],
    ) -> dict[_Reading, float | None]:
        """Read one log, and return its counts. One whose files can't be read is not known."""
        is_first, own.looked_at = own.looked_at == float("-inf"), now
        if order.has_new and not own.has_new:  # a rule that was not there before
            own.forget_templates(now + WARM_UP_SEC)
        own.has_new = order.has_new
        try:
            lines, skipped_bytes = own.read_lines(files)
        except OSError:
            return {}
        if not files:
            return {}
        before, is_learning = own.counts.copy(), is_first or now < own.learns_until
        for at, line in enumerate(lines):
            if is_late():
                skipped_bytes += sum(map(len, lines[at:]))
                break
            if order.has_new:
                own.learn(line, is_learning=is_learning)
            if not is_first:  # what was there before is not counted
                own.count_matches(line, order.patterns)
        if skipped_bytes and not is_first and not own.is_skipping:
            log.warning("medic.log_skipped", svc=own.svc, bytes=skipped_bytes)
        own.is_skipping = skipped_bytes > 0
        if own.templates.is_full:
            log.warning("medic.log_too_varied", svc=own.svc)
            own.forget_templates(now + WARM_UP_SEC)
            is_learning = True
        hidden = {Metric.LOG_NEW, Metric.LOG_NEW_ERRORS} if is_learning else set[Metric]()
        counts = {each: float(own.counts[each]) for each in list_readings(own.svc, order)}
        # a count that did not grow says nothing where lines were left out
        return {
            each: None if each[0] in hidden or (own.is_skipping and count == before[each]) else count
            for each, count in counts.items()
        }


def list_readings(svc: str, order: LogOrder) -> list[_Reading]:
    """Return the readings that an order asks for."""
    matches = [(Metric.LOG_MATCHES, name_reading(svc, pattern)) for pattern in order.patterns]
    return [*matches, *([(Metric.LOG_NEW, svc), (Metric.LOG_NEW_ERRORS, svc)] if order.has_new else [])]
