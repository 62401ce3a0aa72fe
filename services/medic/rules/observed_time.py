"""Keep the times in which a medic saw the fleet, and nothing stopped it as a whole. Pure.

An age of a write says that its writer did not write, and not that it could have: on a machine that was
suspended, each stream is old. So only observed time counts of an age. It outlasts the medic: each one stores
these times, and the next one continues with them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MAX_SPANS: Final = 20
"""The most spans that are kept, the latest ones: what is older counts as not observed."""

Span = tuple[float, float]
"""The begin and the end of a time, in epoch seconds."""


@dataclass(frozen=True, slots=True)
class ObservedSpans:
    """In which times medics observed the fleet, by a clock that says `at` now."""

    at: float
    spans: tuple[Span, ...]


class ObservedTime:
    """Note what each look shows, and measure how much of a time was observed.

    A standstill of the fleet shows only after `unnoticed_sec`, when its services are late. So much of the end
    of each span is taken off when it ends.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._is_open = False

    @property
    def since(self) -> float | None:
        """When the present span began; None while something stops the medic."""
        return self.spans[-1][0] if self._is_open else None

    def resume(self, spans: Iterable[Span], unnoticed_sec: float) -> None:
        """Go on with the spans of an earlier medic, by the clock of this one. The last one has ended."""
        self.spans = list(spans)
        self._end_span(unnoticed_sec)

    def note(self, now: float, *, is_clear: bool, longest_gap_sec: float, unnoticed_sec: float) -> None:
        """Note a look at `now`; `is_clear` says that nothing stops the medic.

        After more than `longest_gap_sec` without a look, what was in between was not observed.
        """
        is_near = self._is_open and 0 <= now - self.spans[-1][1] <= longest_gap_sec
        if self._is_open and not (is_clear and is_near):
            self._end_span(unnoticed_sec)
        if self._is_open:
            self.spans[-1] = self.spans[-1][0], now
        elif is_clear:
            self.spans = [*self.spans, (now, now)][-MAX_SPANS:]
            self._is_open = True

    def _end_span(self, unnoticed_sec: float) -> None:
        self._is_open = False
        if self.spans:
            begin, end = self.spans.pop()
            self.spans += [(begin, end - unnoticed_sec)] if end - unnoticed_sec > begin else []

    def measure(self, begin: float, end: float) -> float:
        """Return how many seconds of a time were observed."""
        return sum(max(0.0, min(end, last) - max(begin, first)) for first, last in self.spans)
