"""Implement `marketswarm history`: the outages of one service, and its uptime, as the board recorded them.

Of a target of massive's probes: how long they took, and which of them failed.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from marketswarm.cli import output
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import FleetView, ask_fleet, needed
from marketswarm.cli.health import select_services
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.options import Data, Json, Svc
from marketswarm.exit import Exit
from marketswarm.history.healer_beat import read_healer_beat
from marketswarm.history.rollup import HOUR_SEC, WINDOWS, PastOutage, Seconds
from marketswarm.history.spans import KnownState
from marketswarm.history.store import read_history
from marketswarm.status.probe_past import (
    FailureRun,
    ProbeBin,
    ProbeRecord,
    describe_reading,
    find_probes_point,
    format_response,
    read_record,
)
from marketswarm.text import escape_text, format_duration
from marketswarm.truth import HEALER, SYSTEM, find_probe_target
from marketswarm.truth.document_edit import MASSIVE

NO_HISTORY: Final = 1


@dataclass(frozen=True, slots=True)
class ServiceReport:
    """Hold what is known of the past of a service at `at`; `since` is when its history began."""

    svc: str
    at: int
    since: int
    state: KnownState
    uptime: dict[str, Seconds]
    outages: list[PastOutage]

    def to_json(self) -> dict[str, Any]:
        return {
            "svc": self.svc,
            "state": self.state.value,
            "at": self.at,
            "since": self.since,
            "uptime": {
                window: {"share": each.share, **{f"{name}_sec": sec for name, sec in each._asdict().items()}}
                for window, each in self.uptime.items()
            },
            "outages": [
                {"start": one.start, "end": one.end, "sec": (one.end or self.at) - one.start}
                for one in self.outages
            ],
        }


def history(svc: Svc, as_json: Json = False, data: Data = DATA) -> None:
    """Show the last outages of a service, and its uptime over 24 h, 7 d, 30 d and a year.

    The board records them. Time without a listening healer is unknown, and left out. Ends with 1 when nothing
    is recorded of the service. Of a target of massive's probes (massive/shop) it shows how long they took,
    which share of them succeeded in an hour, a day and 30 days, and the last failures.
    """
    report, now = ask_fleet(data, lambda fleet: _read_report(svc, fleet)), time.time()
    if isinstance(report, ProbeRecord):
        found, lines = encode_target(svc, report, now), describe_target(svc, report, now)
    else:
        found, lines = report.to_json(), describe_report(report, now)
    output.print_result(found, lines, as_json=as_json)


async def _read_report(svc: str, fleet: FleetView) -> ServiceReport | ProbeRecord:
    """Return what is known of a service or of a target. Raises Exit, code 1, if nothing is recorded."""
    truth, point = fleet.truth, find_probes_point(fleet.truth)
    owner, _, name = svc.partition("/")
    if owner == MASSIVE and point is not None and find_probe_target(truth, svc) is not None:
        bus = fleet.bus(point.bus)
        with needed(bus, "it keeps what massive found"):
            return await read_record(bus, point.key, name, time.time())
    select_services(svc, fleet)
    bus, timeout_sec = fleet.bus(SYSTEM), truth.timeout_of(HEALER)
    with needed(bus, "it keeps the history"):
        stored = await read_history(bus, int(time.time()), [svc])
        record = None if stored is None else stored.history.services.get(svc)
        if stored is None or record is None:
            raise Exit(NO_HISTORY, f"nothing is recorded of {svc}: the board records it while it runs")
        now = int(time.time())
        # the board stores only now and then that the healer is there
        beat = await read_healer_beat(bus, timeout_sec, now)
    found = stored.history
    bus_of = {watch.svc: watch.bus for watch in truth.watched() if watch.svc == svc}
    found.follow(bus_of or {svc: SYSTEM}, timeout_sec, now)
    if beat is not None:
        found.hear_healer(*beat)
    spans = found.spans(svc, max(now, record.timeline.begin + 1))
    return ServiceReport(
        svc, now, record.first * HOUR_SEC, spans[-1].state, found.uptime(svc, now), found.outages(svc, now)
    )


def describe_report(report: ServiceReport, now: float) -> list[str]:
    begun = format_moment(report.since, now)
    lines = [f"{report.svc} is {report.state}; recorded since {begun}", ""]
    lines.append(f"{'':>6}  {'uptime':>9}  {'down':>14}  {'unknown':>14}")
    for window in WINDOWS:
        seconds = report.uptime[window]
        down, unknown = (format_duration(each) if each else "-" for each in (seconds.down, seconds.unknown))
        lines.append(f"{window:>6}  {format_share(seconds.share):>9}  {down:>14}  {unknown:>14}")
    lines.append("")
    if not report.outages:
        return [*lines, "no outage is recorded"]
    lines.append("outages, the latest first:")
    for one in reversed(report.outages):
        start = format_moment(one.start, now)
        length = format_duration((one.end or report.at) - one.start)
        lines.append(f"  {start}  {length}" + ("" if one.end is not None else ", and it is down still"))
    return lines


def format_share(share: float | None) -> str:
    """Return a percentage, rounded down, so that only all is 100 %; `-` if it is unknown."""
    return "-" if share is None else f"{int(share * 100_000) / 1000:.3f} %"


def encode_target(svc: str, record: ProbeRecord, now: float) -> dict[str, Any]:
    """Return what `--json` says of a target."""
    known = asdict(record)
    past = known.pop("past")
    del known["target"]
    uptime = {window: asdict(each) for window, each in record.uptime.items()}
    return {"svc": svc, "at": now, **known, "uptime": uptime, **past}


def describe_target(svc: str, record: ProbeRecord, now: float) -> list[str]:
    latest = record.latest
    state = "no result of it was stored lately" if latest is None else describe_reading(latest)
    lines = [escape_text(f"{svc}: {state}"), ""]
    lines.append(f"{'':>6}  {'uptime':>9}  {'probes':>8}  {'average':>9}  {'slowest':>9}")
    for window, uptime in record.uptime.items():
        mean, most = _find_times(record.past.windows[window])
        probes = uptime.probes or "-"
        lines.append(f"{window:>6}  {format_share(uptime.share):>9}  {probes:>8}  {mean:>9}  {most:>9}")
    lines.append("")
    if not record.failures:
        return [*lines, "no failure is recorded"]
    return [*lines, "failures, the latest first:", *(_describe_run(run, now) for run in record.failures)]


def _find_times(bins: Sequence[ProbeBin]) -> tuple[str, str]:
    timed = [(one.mean_sec, one.probes - one.failures) for one in bins if one.mean_sec is not None]
    if not timed:
        return "-", "-"
    mean = sum(mean * number for mean, number in timed) / sum(number for _, number in timed)
    return format_response(mean), format_response(max(one.most_sec or 0.0 for one in bins))


def _describe_run(run: FailureRun, now: float) -> str:
    probes = f"{run.count} probe{'s' if run.count != 1 else ''}"
    end = ", and it fails still" if run.is_open else ""
    length = format_duration(run.until - run.since)
    what = escape_text(f"{run.stage} {run.error}")
    return f"  {format_moment(run.since, now)}  {length}  {what} ({probes}){end}"
