"""Draw how long the probes of a target took, which failed, and how its certificate grew old. Pure.

A time that was not probed is a gap in the line, with a dotted line at the bottom: never a zero.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from markupsafe import Markup

from marketswarm.status.probe_past import RINGS, ProbeBin, ProbeReading, format_response
from services.board.fleet.words import draw_svg, format_age, format_iso

WIDTH: Final = 720
HEIGHT: Final = 80
_EDGE: Final = 4
_LEAST_FAILED: Final = 0.25  # the height of a failure among many successes
_LEAST_WIDTH: Final = 3.0  # of what stands alone in a long time
_SPIKE: Final = 3.0  # what is slower than so many times the slowest average is cut off
STEP_NAMES: Final = {
    "dns": "DNS",
    "tcp": "connect",
    "tls": "TLS",
    "http": "first byte",
    "rest": "REST",
    "ws": "WebSocket",
}


class _Frame:
    """Places the bins of one ring in a picture whose right end is `now` (epoch seconds)."""

    def __init__(self, ring: str, now: float) -> None:
        self.length_sec, self.count = RINGS[ring]
        self.first = int(now // self.length_sec) - self.count + 1
        self.width = WIDTH / self.count

    def number(self, one: ProbeBin) -> int:
        return round(one.at / self.length_sec) - self.first

    def place(self, number: int) -> float:
        return round(number * self.width, 2)


def draw_response(bins: Sequence[ProbeBin], ring: str, now: float) -> Markup:
    """Return the picture of a ring: a line for the average, a shade for the slowest, red for failures."""
    frame = _Frame(ring, now)
    top = find_top(bins)
    most = "".join(_draw_block(frame, one, _find_y(one.most_sec, top)) for one in bins if one.mean_sec)
    failed = "".join(_draw_failure(frame, one) for one in bins if one.failures)
    line = _draw_steps(frame, [(frame.number(one), one.mean_sec) for one in bins], top)
    paths = {"n": _draw_gaps(frame, bins), "a": most, "l": line, "d": failed}
    return draw_svg("probe", (WIDTH, HEIGHT), describe_response(bins, ring), paths)


def draw_certificate(bins: Sequence[ProbeBin], ring: str, now: float) -> Markup:
    """Return the picture of a ring in which the days that a certificate is good for go down from the left."""
    frame = _Frame(ring, now)
    days = [(frame.number(one), one.days_left) for one in bins]
    top = max((each for _, each in days if each is not None), default=0.0) or 1.0
    paths = {"n": _draw_gaps(frame, [one for one in bins if one.days_left is not None])}
    paths["l"] = _draw_steps(frame, days, top)
    return draw_svg("probe certificate", (WIDTH, HEIGHT), describe_certificate(bins), paths)


def find_top(bins: Sequence[ProbeBin]) -> float:
    """Return the seconds at the top of a picture."""
    slowest = max((one.most_sec or 0.0 for one in bins), default=0.0)
    usual = max((one.mean_sec or 0.0 for one in bins), default=0.0)
    return min(slowest, _SPIKE * usual) or 1.0


def _find_y(value: float | None, top: float) -> float:
    return round(HEIGHT - (HEIGHT - _EDGE) * min(1.0, (value or 0.0) / top), 1)


def _draw_steps(frame: _Frame, values: Sequence[tuple[int, float | None]], top: float) -> str:
    """Return a line with a level for each bin that has a value; it breaks where a bin is missing."""
    path, before = "", None
    for number, value in values:
        if value is None:
            continue
        y, end = _find_y(value, top), frame.place(number + 1)
        begin = min(frame.place(number), end - _LEAST_WIDTH)
        path += f"V{y:g}" if before == number - 1 else f"M{begin:g} {y:g}"
        path += f"H{end:g}"
        before = number
    return path


def _draw_block(frame: _Frame, one: ProbeBin, y: float) -> str:
    number = frame.number(one)
    return f"M{frame.place(number):g} {HEIGHT}V{y:g}H{frame.place(number + 1):g}V{HEIGHT}Z"


def _draw_failure(frame: _Frame, one: ProbeBin) -> str:
    number = frame.number(one)
    begin = min(frame.place(number), WIDTH - _LEAST_WIDTH)
    end = max(frame.place(number + 1), begin + _LEAST_WIDTH)
    height = round(HEIGHT * max(_LEAST_FAILED, one.failures / one.probes), 1)
    return f"M{begin:g} 0V{height:g}H{end:g}V0Z"


def _draw_gaps(frame: _Frame, bins: Sequence[ProbeBin]) -> str:
    path, free = "", 0
    for number in [*(frame.number(one) for one in bins), frame.count]:
        if number > free:
            path += f"M{frame.place(free):g} {HEIGHT - 1}H{frame.place(number):g}"
        free = number + 1
    return path


def describe_response(bins: Sequence[ProbeBin], ring: str) -> str:
    """Return a ring in words: `240 probes, 43 ms on average, 90 ms at most; 3 failed`."""
    length_sec, count = RINGS[ring]
    probes, failures = sum(one.probes for one in bins), sum(one.failures for one in bins)
    if not probes:
        return "not probed"
    words = f"{probes} probe{'s' if probes != 1 else ''}"
    timed = [(one.mean_sec, one.probes - one.failures) for one in bins if one.mean_sec is not None]
    if timed:
        mean = sum(mean * number for mean, number in timed) / sum(number for _, number in timed)
        most = max(one.most_sec or 0.0 for one in bins)
        words += f", {format_response(mean)} on average, {format_response(most)} at most"
    parts = [words, f"{failures} failed" if failures else "none failed"]
    # the bin of now has only just begun
    gap_sec = (count - 1 - len(bins)) * length_sec
    if gap_sec > 0:
        parts.append(f"not probed for {format_age(gap_sec)}")
    return "; ".join(parts)


def describe_certificate(bins: Sequence[ProbeBin]) -> str:
    """Return the first and the last number of days in words, and how often the certificate was replaced."""
    days = [one.days_left for one in bins if one.days_left is not None]
    if not days:
        return "no certificate was seen"
    renewed = sum(after > before + 1 for before, after in pairwise(days))
    again = "" if not renewed else f"; replaced {'once' if renewed == 1 else f'{renewed} times'}"
    return f"good for {days[0]:.1f} days at first, for {days[-1]:.1f} days now{again}"


def list_steps(reading: ProbeReading) -> list[tuple[str, float, float]]:
    """Return the name, the seconds and the share of each step of a probe, in their order."""
    whole = sum(reading.steps_sec.values()) or 1.0
    return [(STEP_NAMES.get(step, step), sec, sec / whole) for step, sec in reading.steps_sec.items()]


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "certificate_picture": draw_certificate,
    "certificate_words": describe_certificate,
    "date": lambda ts: format_iso(ts)[:10],
    "probe_steps": list_steps,
    "response": format_response,
    "response_picture": draw_response,
    "response_top": find_top,
    "response_words": describe_response,
}
