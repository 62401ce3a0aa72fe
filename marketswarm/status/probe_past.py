"""Read how the targets of massive's probes are now, and how they were: results, response times, failures.

massive writes this; `services/massive/probes/publish.lua` says in which form. Anybody with its password, or a
program of another release, may have written something else: what can't be parsed is left out. Of a time that
was not probed there is no record, and nothing here makes one up.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from marketswarm.bus import Bus
from marketswarm.bus.errors import BusError, ReplyTooLongError
from marketswarm.bus.stored_values import (
    MAX_STRING_BYTES,
    is_wrong_type,
    parse_epoch,
    parse_number,
    parse_object,
    parse_text,
    read_strings,
    report_unusable,
)
from marketswarm.keys import MASSIVE_PROBES, probe_failures_key, probe_key, probe_past_key
from marketswarm.truth import MARKET, AccessPoint, Truth, find_probe_targets, point_like
from marketswarm.truth.document_edit import MASSIVE

MINUTE_SEC: Final = 60
HOUR_SEC: Final = 3600
DAY_SEC: Final = 86_400
RINGS: Final = {"hour": (MINUTE_SEC, 60), "day": (300, 288), "month": (HOUR_SEC, 720)}
"""By the length of time that it covers: the seconds of each of a ring's records, and how many there are."""
KEPT_SEC: Final = 31 * DAY_SEC
KEPT_FAILURES: Final = 20
RECORD_BYTES: Final = 41
PAST_BYTES: Final = RECORD_BYTES * sum(count for _, count in RINGS.values())
MOST_MS: Final = 86_400_000.0
MOST_DAYS: Final = 9999.0
STEPS: Final = ("dns", "tcp", "tls", "http", "rest", "ws")
"""The steps of a probe that are measured, in their order; each kind of target has some of them."""
_ITEM_BYTES: Final = 1024
_NONE: Final = "\N{EN DASH}"
_WORD_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class ProbeBin:
    """The probes of a target that began within a minute, five minutes or an hour from `at` (epoch seconds).

    `mean_sec` and `most_sec` are how long those that succeeded took, None if none did. `days_left` is for how
    long the certificate was still good then; None without one.
    """

    at: float
    length_sec: float
    probes: int
    failures: int
    mean_sec: float | None = None
    most_sec: float | None = None
    days_left: float | None = None


@dataclass(frozen=True, slots=True)
class ProbePast:
    """The last hour, day and 30 days of a target, the oldest bin first; what was not probed has no bin."""

    hour: tuple[ProbeBin, ...] = ()
    day: tuple[ProbeBin, ...] = ()
    month: tuple[ProbeBin, ...] = ()

    @property
    def windows(self) -> dict[str, tuple[ProbeBin, ...]]:
        """The bins by window: `1h`, `24h`, `30d`."""
        return {"1h": self.hour, "24h": self.day, "30d": self.month}


@dataclass(frozen=True, slots=True)
class FailureRun:
    """Failures in a row with one stage and error; `is_open` until a probe succeeds or fails otherwise."""

    since: float
    until: float
    count: int
    stage: str
    error: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class ProbeReading:
    """The latest result of a target: `services/massive.md` says what each value is.

    `steps_sec` has the seconds of each step that was made, in order.
    """

    at: float
    ok: bool
    kind: str = ""
    where: str = ""
    stage: str = ""
    error: str | None = None
    warning: str | None = None
    total_sec: float | None = None
    steps_sec: Mapping[str, float] = field(default_factory=dict)
    address: str | None = None
    status: int | None = None
    tls: str | None = None
    issuer: str | None = None
    days_left: float | None = None
    ends_at: float | None = None


@dataclass(frozen=True, slots=True)
class ProbeUptime:
    """The share of a target's probes in a time that succeeded, and how many there were.

    `begins_at` is when the first of them was; None, and `share` None, if there were none.
    """

    probes: int = 0
    share: float | None = None
    begins_at: float | None = None


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """What is known of a target; `latest` is None if its last result is too old or was never there."""

    target: str
    latest: ProbeReading | None = None
    past: ProbePast = field(default_factory=ProbePast)
    failures: tuple[FailureRun, ...] = ()

    @property
    def uptime(self) -> dict[str, ProbeUptime]:
        """By window: `1h`, `24h`, `30d`."""
        return {window: sum_uptime(bins) for window, bins in self.past.windows.items()}


def encode_days(days_left: object) -> int:
    """Return tenths of days and one, as a record has them; 0 for what is not a number of days."""
    days = parse_number(days_left, -MOST_DAYS, MOST_DAYS)
    return 0 if days is None else 1 + max(0, round(10 * days))


def find_probes_point(truth: Truth) -> AccessPoint | None:
    """Return where massive publishes its results; None if the truth has no massive."""
    section = truth.services.get(MASSIVE)
    return None if section is None else point_like(section.access_points.publish_to, MARKET, MASSIVE_PROBES)


def list_target_names(truth: Truth) -> tuple[str, ...]:
    """Return the names of massive's targets, without `massive/`, each once."""
    prefix = f"{MASSIVE}/"
    names = (each.svc for each in find_probe_targets(truth) if each.svc.startswith(prefix))
    return tuple(dict.fromkeys(name.removeprefix(prefix) for name in names))


async def read_readings(bus: Bus, names: Sequence[str]) -> dict[str, ProbeReading]:
    """Return the latest result of each of these targets that has one. Raises BusError."""
    found = await read_strings(bus, [probe_key(name) for name in names])
    parsed = {name: parse_reading(name, raw) for name, raw in zip(names, found, strict=True)}
    return {name: each for name, each in parsed.items() if each is not None}


async def read_record(bus: Bus, stream: str, name: str, now: float) -> ProbeRecord:
    """Return what is known of a target at `now` (epoch seconds). Raises BusError.

    `bus` and `stream` are those of `find_probes_point`.
    """
    (latest,) = await read_strings(bus, [probe_key(name)])
    (past,) = await read_strings(bus, [probe_past_key(stream, name)], PAST_BYTES, report=False)
    return ProbeRecord(
        name,
        parse_reading(name, latest),
        parse_past(past or b"", now),
        await _read_failures(bus, probe_failures_key(stream, name)),
    )


async def _read_failures(bus: Bus, key: str) -> tuple[FailureRun, ...]:
    """Return the failures in a list, the latest first; none if it is of another type or too long."""
    asked, most = bus.client.lrange(key, 0, KEPT_FAILURES - 1), KEPT_FAILURES * _ITEM_BYTES + MAX_STRING_BYTES
    try:
        found = await bus.ask(asked, max_bytes=most)
    except BusError as error:
        if not (isinstance(error, ReplyTooLongError) or is_wrong_type(error)):
            raise
        found = None
    if not isinstance(found, list):
        report_unusable(bus.name, key, "no list of failures")
        return ()
    parsed = (parse_failure(raw) for raw in found if isinstance(raw, bytes))
    return tuple(each for each in parsed if each is not None)


def parse_failure(raw: bytes) -> FailureRun | None:
    item = parse_object(raw, _ITEM_BYTES)
    since, until = parse_epoch(item.get("since")), parse_epoch(item.get("until"))
    count = parse_number(item.get("count"), 1, 1e9)
    error = parse_text(item.get("error"), _WORD_CHARS)
    stage = parse_text(item.get("stage"), _WORD_CHARS)
    if since is None or until is None or count is None or error is None or stage is None:
        return None
    return FailureRun(since, max(since, until), int(count), stage, error, item.get("open") is True)


def parse_reading(name: str, raw: bytes | None) -> ProbeReading | None:
    """Return a result in JSON; None if it is not one of this target."""
    found = parse_object(raw, MAX_STRING_BYTES)
    at = parse_epoch(found.get("ts"))
    if found.get("target") != name or at is None or not isinstance(found.get("ok"), bool):
        return None

    names = ("kind", "where", "stage", "error", "warning", "address", "tls", "issuer")
    words = {name: parse_text(found.get(name), _WORD_CHARS) for name in names}
    steps = {step: parse_number(found.get(f"{step}_ms"), 0.0, MOST_MS) for step in STEPS}
    total_ms = parse_number(found.get("total_ms"), 0.0, MOST_MS)
    status = parse_number(found.get("status"), 100, 999)
    return ProbeReading(
        at,
        found["ok"],
        total_sec=None if total_ms is None else total_ms / 1000,
        steps_sec={step: ms / 1000 for step, ms in steps.items() if ms is not None},
        status=None if status is None else int(status),
        days_left=parse_number(found.get("days_left"), -MOST_DAYS, MOST_DAYS),
        ends_at=parse_epoch(found.get("ends_at")),
        **{name: word for name, word in words.items() if word is not None},
    )


def parse_past(raw: bytes, now: float) -> ProbePast:
    """Return the bins of a stored past up to `now` (epoch seconds).

    A record of an earlier round of its ring, of a time to come, or with impossible numbers is left out.
    """
    rings, begin = {}, 0
    for name, (length_sec, count) in RINGS.items():
        end = begin + RECORD_BYTES * count
        rings[name] = tuple(_parse_ring(raw[begin:end], length_sec, count, now))
        begin = end
    return ProbePast(**rings)


def _parse_ring(raw: bytes, length_sec: int, count: int, now: float) -> Iterator[ProbeBin]:
    last = int(now // length_sec)
    for number in range(last - count + 1, last + 1):
        begin = RECORD_BYTES * (number % count)
        found = _parse_record(raw[begin : begin + RECORD_BYTES], number, length_sec)
        if found is not None:
            yield found


def _parse_record(raw: bytes, number: int, length_sec: int) -> ProbeBin | None:
    if len(raw) != RECORD_BYTES or not raw.isdigit() or int(raw[:10]) != number:
        return None
    probes, failures, mean_us, most_us, tenths = (
        int(raw[begin:end]) for begin, end in ((10, 15), (15, 20), (20, 28), (28, 36), (36, 41))
    )
    if not probes > 0 or failures > probes or mean_us > most_us:
        return None
    has_times = failures < probes
    return ProbeBin(
        float(number * length_sec),
        float(length_sec),
        probes,
        failures,
        mean_us / 1e6 if has_times else None,
        most_us / 1e6 if has_times else None,
        (tenths - 1) / 10 if tenths else None,
    )


def sum_uptime(bins: Sequence[ProbeBin]) -> ProbeUptime:
    probes = sum(each.probes for each in bins)
    if not probes:
        return ProbeUptime()
    failures = sum(each.failures for each in bins)
    return ProbeUptime(probes, (probes - failures) / probes, bins[0].at)


def describe_reading(reading: ProbeReading) -> str:
    """Return a result in words: `200 in 43 ms, certificate good for 61.3 days`, `failed at tcp: refused`."""
    parts = []
    if reading.ok:
        took = None if reading.total_sec is None else format_response(reading.total_sec)
        parts.append(" in ".join(filter(None, (str(reading.status or "answered"), took))))
    else:
        parts.append(f"failed at {reading.stage}: {reading.error}")
    if reading.days_left is not None:
        parts.append(f"certificate good for {reading.days_left:.1f} days")
    return ", ".join(parts)


def format_response(sec: float | None) -> str:
    """Return a response time with two or three digits: `0.8 ms`, `43 ms`, `1.24 s`; a dash for None."""
    if sec is None:
        return _NONE
    ms = 1000 * sec
    if ms < 9.95:
        return f"{ms:.1f} ms"
    return f"{ms:.0f} ms" if ms < 999.5 else f"{math.floor(100 * sec + 0.5) / 100:.2f} s"
