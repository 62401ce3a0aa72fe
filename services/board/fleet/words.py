"""Format values for pages: the filters of the templates. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from math import ceil
from statistics import fmean
from typing import Any, Final, TypeVar

from markupsafe import Markup, escape

from marketswarm.history.rollup import HOUR_SEC, WINDOWS, Seconds
from marketswarm.operator.healing_text import describe_resolution
from marketswarm.status.channel_records import describe_state
from marketswarm.status.notifications import describe_hold
from marketswarm.status.service_rows import PAUSED, UNMONITORED, ServiceState, write_headline
from marketswarm.text import escape_lines, escape_text, format_duration
from services.board.fleet.beats import BeatTimes
from services.board.fleet.job_runs import JobView
from services.board.fleet.snapshot import (
    BarSpan,
    FleetSnapshot,
    HealerView,
    ServiceSnapshot,
    SilenceView,
    SpanState,
    Uptime,
)

NONE: Final = "\N{EN DASH}"  # what stands for a value that is not known
AGES: Final = ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"), (None, 86_400, "d"))
"""The units of ages: below so many seconds, an age counts so many of them as one. Scripts get this table."""
_BAR_WIDTH: Final = 3600
_BAR_STEPS: Final = 360  # in so many steps a bar moves on: one of an hour each ten seconds
_LEAST_OUTAGE: Final = 30  # the width of the shortest outage in a bar; a narrower one can't be seen
_LEAST_UNKNOWN: Final = 0.01  # the share of unknown time in a window from which on it is shown
_LEAST_KNOWN: Final = 10  # the hundredths of a window that must be known before its uptime is shown
DAY_WIDTH: Final = 10
_DAY_HEIGHT: Final = 30
_LEAST_DOWN: Final = 6  # the height of the shortest outage in the bar of a day
BEATS_WIDTH: Final = 600
BEATS_HEIGHT: Final = 60
LATE: Final = 1.5  # an interval that is longer than so many of those in the truth is drawn as late
_BEATS: Final = 60
_RUNS: Final = 20
_LEAST_RUN: Final = 2  # the height of the shortest run in the picture of the runs

R = TypeVar("R", bound=Any)


@dataclass(frozen=True, slots=True)
class Phrase:
    """Hold a piece of a sentence, and the moment behind it (epoch seconds) if it ends with one."""

    text: str
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Watcher:
    """Hold a part that is shown above the services: a bus, a healer, the sentinel or the notifier."""

    name: str
    state: ServiceState
    text: str = ""


def describe_service(one: ServiceSnapshot) -> list[Phrase]:
    found = _describe_outage(one)
    if one.paused and one.word != PAUSED:
        found.append(Phrase(UNMONITORED))
    detail = None if one.failure else one.detail  # while a failure lasts, `detail` is what `failure` says
    if one.last_run is not None and not one.last_run.ok and not one.failure and one.last_run.text != detail:
        found.append(Phrase(one.last_run.text))
    if one.status not in (None, "ok"):
        found.append(Phrase(f"{one.status}: {detail}" if detail else str(one.status)))
    elif detail:
        found.append(Phrase(detail))
    return found


def _describe_outage(one: ServiceSnapshot) -> list[Phrase]:
    if one.state is ServiceState.UNWATCHABLE:
        return [Phrase("the healer can't watch it")]
    if one.state is not ServiceState.DOWN:
        return []
    found = [Phrase(f"needs {one.cause}, which is down")] if one.cause else []
    if one.outage:
        found.append(Phrase(one.outage, one.outage_at))
    if one.failure:
        found.append(Phrase(one.failure))
    if one.acked_by:
        found.append(Phrase(f"acknowledged by {one.acked_by}"))
    if one.held:
        until = "" if one.held_until is None else " until"
        found.append(Phrase(f"{one.hold}{until}", one.held_until))
    return found


def find_silences(snapshot: FleetSnapshot, one: ServiceSnapshot) -> list[SilenceView]:
    return [
        each
        for each in snapshot.silences
        if any(fnmatchcase(one.svc, pattern) for pattern in each.services)
        or not set(each.tags).isdisjoint(one.tags)
    ]


def list_watchers(snapshot: FleetSnapshot) -> list[Watcher]:
    found = []
    for bus in snapshot.buses:
        words = {"away": "does not answer", "unheard": "not heard by the healer"}.get(bus.state, "")
        text = f"{words}: {bus.reason}" if words and bus.reason else words
        found.append(Watcher(bus.name, ServiceState.DOWN if words else ServiceState.UP, text))
    found += [_watch_healer(one) for one in snapshot.healers]
    if not snapshot.healers:
        found.append(Watcher("healer", ServiceState.UNKNOWN, "no healer leads"))
    for svc in ("sentinel", "notifier"):
        one = snapshot.find(svc)
        if one is not None:
            waiting = f"{len(snapshot.pending)} waiting" if snapshot.pending else ""
            dead = f"{snapshot.dead} undelivered" if snapshot.dead else ""
            text = ", ".join(filter(None, (waiting, dead))) if svc == "notifier" else ""
            found.append(Watcher(svc, one.state, text))
    return found


def _watch_healer(one: HealerView) -> Watcher:
    name = f"healer {one.boot}"
    if not one.is_leader:
        return Watcher(name, ServiceState.UP, "standby")
    if one.lapsed_at is not None:
        return Watcher(name, ServiceState.DOWN, "its lease ran out, so no healer leads")
    return Watcher(name, ServiceState.UP, "leads")


def format_instances(one: ServiceSnapshot) -> str:
    """Return `3`, or `3/4` if the truth asks for a number."""
    if one.instances is None:
        return NONE
    return str(one.instances) if one.replicas is None else f"{one.instances}/{one.replicas}"


def format_age(sec: float | None) -> str:
    """Return a duration in few characters: `4 s`, `12 min`, `5 h`, `3 d`; a dash for none."""
    if sec is None:
        return NONE
    whole = max(0, int(sec))
    size, unit = next((size, unit) for below, size, unit in AGES if below is None or whole < below)
    return f"{whole // size} {unit}"


def format_share(share: float | None) -> str:
    """Return a share as a percentage without its sign; anything below one stays below 100."""
    if share is None:
        return NONE
    if share >= 1:
        return "100"
    hundredths = int(share * 10000 + 1e-6)
    return f"{hundredths // 100}.{hundredths % 100:02}"


def find_known_part(uptime: Uptime | None, window: str, now: float) -> int | None:
    """Return how many hundredths of a window are known; None if all are, or nearly all."""
    if uptime is None or uptime.share is None:
        return None
    length_sec = WINDOWS[window] * HOUR_SEC
    before_sec = 0.0 if uptime.begins_at is None else max(0.0, uptime.begins_at - (now - length_sec))
    part = (uptime.unknown_sec + before_sec) / length_sec
    return None if part < _LEAST_UNKNOWN else max(0, min(99, int(100 * (1 - part))))


def format_window_share(uptime: Uptime | None, window: str, now: float) -> str:
    """Return the uptime in a window as `format_share` does; a dash until a tenth of the window is known.

    A hundred percent of the three minutes since a fleet began would read as that of a year.
    """
    part = find_known_part(uptime, window, now)
    return (
        NONE if uptime is None or (part is not None and part < _LEAST_KNOWN) else format_share(uptime.share)
    )


def draw_paths(spans: Iterable[BarSpan], now: float, length_sec: float = HOUR_SEC) -> dict[SpanState, str]:
    """Return the paths of a bar, by state, in a picture 3600 wide and 20 high whose right end is `now`.

    What no span covers is unknown. An outage is drawn wide enough to be seen.
    """
    paths: dict[SpanState, str] = {"unknown": "", "up": "", "down": ""}
    at = 0
    for span in spans:
        end = _BAR_WIDTH if span.ends_at is None else _place(span.ends_at, now, length_sec)
        start = max(at, _place(span.starts_at, now, length_sec))
        if start > at:
            paths["unknown"] += f"M{at} 10h{start - at}"
        if span.state == "down" and end - start < _LEAST_OUTAGE:
            paths["down"] += f"M{min(start, _BAR_WIDTH - _LEAST_OUTAGE)} 10h{_LEAST_OUTAGE}"
        elif end > start:
            paths[span.state] += f"M{start} 10h{end - start}"
        at = max(at, end)
    if at < _BAR_WIDTH:
        paths["unknown"] += f"M{at} 10h{_BAR_WIDTH - at}"
    return paths


def _place(ts: float, now: float, length_sec: float) -> int:
    return max(0, min(_BAR_WIDTH, int(_BAR_WIDTH - (now - ts) * _BAR_WIDTH / length_sec + 0.5)))


def describe_bar(spans: Iterable[BarSpan], now: float, length_sec: float = HOUR_SEC) -> str:
    """Return a bar in words: `up`, or `down 4 min, unknown 2 min, otherwise up`."""
    sums: dict[str, float] = {"up": 0.0, "down": 0.0, "unknown": 0.0}
    for span in spans:
        start = max(span.starts_at, now - length_sec)
        sums[span.state] += max(0.0, (now if span.ends_at is None else span.ends_at) - start)
    if sums["up"] + sums["down"] < 1:
        return "unknown"
    words = [f"{state} {format_age(sums[state])}" for state in ("down", "unknown") if sums[state] >= 1]
    return ", ".join([*words, "otherwise up"]) if words else "up"


def draw_bar(spans: Iterable[BarSpan], now: float, length_sec: float = HOUR_SEC) -> Markup:
    """Return a bar whose right end is `now`, or up to one of its steps later.

    So the row of a service to which nothing happened stays the same for a while, and an open page has nothing
    to draw anew.
    """
    spans, step_sec = tuple(spans), length_sec / _BAR_STEPS
    found = draw_paths(spans, step_sec * ceil(now / step_sec), length_sec)
    paths = {"n": found["unknown"], "u": found["up"], "d": found["down"]}
    return draw_svg("bar", (_BAR_WIDTH, 20), describe_bar(spans, now, length_sec), paths)


def draw_svg(kind: str, size: tuple[int, int], words: str, paths: Mapping[str, str]) -> Markup:
    """Return a picture made of paths, by their class, with words for those who don't see it."""
    drawn = "".join(f'<path class="{name}" d="{path}"/>' for name, path in paths.items() if path)
    return Markup(  # noqa: S704 - made of numbers and of our own words
        f'<svg class="{kind}" viewBox="0 0 {size[0]} {size[1]}" preserveAspectRatio="none" role="img"'
        f' aria-label="{words}">{drawn}</svg>'
    )


def draw_days(days: Sequence[Seconds]) -> Markup:
    """Return the picture of some days, a bar each.

    A bar is red from above as far as its day was down, at least so that it is seen. An unknown
    day is a thin and short line.
    """
    paths = {"n": "", "u": "", "d": ""}
    for number, day in enumerate(days):
        x, share = number * DAY_WIDTH + DAY_WIDTH // 2, day.share
        if share is None:
            paths["n"] += f"M{x} {_DAY_HEIGHT}v-8"
            continue
        height = max(_LEAST_DOWN, round(_DAY_HEIGHT * (1 - share))) if day.down else 0
        if height < _DAY_HEIGHT:
            paths["u"] += f"M{x} {_DAY_HEIGHT}V{height}"
        if height:
            paths["d"] += f"M{x} 0v{height}"
    return draw_svg("days", (len(days) * DAY_WIDTH, _DAY_HEIGHT), describe_days(days), paths)


def describe_days(days: Sequence[Seconds]) -> str:
    """Return some days in words: `90 days: 3 with an outage, 20 unknown`."""
    down = sum(day.down > 0 for day in days)
    unknown = sum(day.share is None for day in days)
    words = [f"{down} with an outage" if down else "none with an outage"]
    if unknown:
        words.append(f"{unknown} unknown")
    return f"{len(days)} days: {', '.join(words)}"


def format_day_share(days: Sequence[Seconds]) -> str:
    """Return the uptime of some days: `99.95 % up`; `unknown` if all of them are."""
    total = Seconds()
    for day in days:
        total = total.plus(day)
    return "unknown" if total.share is None else f"{format_share(total.share)} % up"


def draw_beats(times: BeatTimes) -> Markup:
    """Return a picture with a bar for each interval, the newest on the right, and a line for the truth's.

    Bars of late beats are wider, and of another colour.
    """
    most_sec = max(2 * times.every_sec, *(one.sec for one in times.intervals))
    late_sec = LATE * times.every_sec
    bars = [("w" if one.sec > late_sec else "u", one.sec / most_sec) for one in times.intervals[-_BEATS:]]
    return _draw_bars("beats", bars, _BEATS, times.every_sec / most_sec, describe_beats(times))


def draw_runs(job: JobView) -> Markup:
    """Return a picture with a bar for each run that has a duration, the newest on the right.

    Bars of runs that failed are wider, and of another colour; a line shows how long a run takes usually.
    """
    runs = job.timed[-_RUNS:]
    most_sec = max((run.took_sec or 0.0 for run in runs), default=0.0) or 1.0
    least = _LEAST_RUN / BEATS_HEIGHT
    bars = [("u" if run.ok else "d", max(least, (run.took_sec or 0.0) / most_sec)) for run in runs]
    usual = None if job.usual_sec is None else min(1.0, job.usual_sec / most_sec)
    return _draw_bars("beats runs", bars, _RUNS, usual, describe_runs(job))


def _draw_bars(
    kind: str, bars: Sequence[tuple[str, float]], places: int, due: float | None, words: str
) -> Markup:
    """Return a picture with a bar of a class and a height (a share) each, and a line at the height `due`."""
    paths, step = {"u": "", "w": "", "d": "", "due": ""}, BEATS_WIDTH // places
    for number, (name, share) in enumerate(bars):
        x = BEATS_WIDTH - (len(bars) - number) * step + step // 2
        paths[name] += f"M{x} {BEATS_HEIGHT}v-{max(1, round(BEATS_HEIGHT * share))}"
    if due is not None:
        paths["due"] = f"M0 {BEATS_HEIGHT - round(BEATS_HEIGHT * due)}H{BEATS_WIDTH}"
    return draw_svg(kind, (BEATS_WIDTH, BEATS_HEIGHT), words, paths)


def describe_runs(job: JobView) -> str:
    """Return how long runs took in words: `12 runs of 1 s to 4 min, usually 2 min; 1 failed`."""
    runs = job.timed
    took = [run.took_sec or 0.0 for run in runs]
    usually = "" if job.usual_sec is None else f", usually {format_duration(job.usual_sec)}"
    failed = sum(run.ok is False for run in runs)
    spread = f"{format_duration(min(took))} to {format_duration(max(took))}"
    return f"{len(runs)} runs of {spread}{usually}{f'; {failed} failed' if failed else ''}"


def describe_beats(times: BeatTimes) -> str:
    """Return the intervals in words: `60 intervals of 9.9 s to 10.2 s, 10.0 s on average`."""
    found = [one.sec for one in times.intervals]
    return (
        f"{len(found)} interval{'s' if len(found) != 1 else ''} of {min(found):.1f} s to {max(found):.1f} s, "
        f"{fmean(found):.1f} s on average; the truth says {times.every_sec:g} s"
    )


def escape_fields(record: R, *names: str) -> R:
    """Return a frozen record with the texts in these fields, or in tuples there, escaped; None stays."""
    values = {name: value for name in names if (value := getattr(record, name)) is not None}
    escaped = {
        name: escape_text(value) if isinstance(value, str) else tuple(map(escape_text, value))
        for name, value in values.items()
    }
    return replace(record, **escaped)


def format_iso(ts: float | None) -> str:
    """Return epoch seconds as an ISO time in UTC; an empty text for a value that is not a time."""
    try:
        return "" if ts is None else datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return ""


def format_clock(ts: float | None, now: float) -> str:
    """Return epoch seconds as a time of day in UTC, with the date in front unless it is that of `now`."""
    iso = format_iso(ts)
    if not iso:
        return NONE
    day, clock = iso[:10], iso[11:19]
    return clock if day == format_iso(now)[:10] else f"{day} {clock}"


def write_moment(ts: float | None, now: float) -> Markup:
    iso, words = format_iso(ts), format_clock(ts, now)
    return Markup(f'<time datetime="{iso}">{words}</time>' if iso else words)  # noqa: S704 - made of numbers


def mark_commands(text: str) -> Markup:
    """Return a text in which what stands in backticks is code; nothing else of it is markup."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "age": format_age,
    "bar": draw_bar,
    "beat_bars": draw_beats,
    "beats_text": describe_beats,
    "channel_state": describe_state,
    "day_bars": draw_days,
    "day_share": format_day_share,
    "duration": format_duration,
    "headline": write_headline,
    "hold": describe_hold,
    "instances": format_instances,
    "known_part": find_known_part,
    "window_share": format_window_share,
    "marked": mark_commands,
    "moment": write_moment,
    "phrases": describe_service,
    "printable": escape_text,
    "printable_lines": escape_lines,
    "resolution": describe_resolution,
    "silences": find_silences,
    "run_bars": draw_runs,
    "share": format_share,
    "since": lambda ts, now: format_age(None if ts is None else now - ts),
    "watchers": list_watchers,
}
