"""Implement `marketswarm history`: the outages of one service, and its uptime, as the board recorded them."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from marketswarm.bus import BusError
from marketswarm.cli import event_loop, output
from marketswarm.cli.bus_trouble import add_remedy
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import open_fleet
from marketswarm.cli.health import select_services
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.options import Data, Json, Svc
from marketswarm.cli.target_history import describe_target, encode_target, read_target_record
from marketswarm.exit import Code, Exit
from marketswarm.history.healer_beat import read_healer_beat
from marketswarm.history.rollup import HOUR_SEC, WINDOWS, PastOutage, Seconds
from marketswarm.history.spans import KnownState
from marketswarm.history.store import read_history
from marketswarm.status.probe_past import ProbeRecord
from marketswarm.text import format_duration
from marketswarm.truth import HEALER, SYSTEM

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
                window: {
                    "share": seconds.share,
                    "up_sec": seconds.up,
                    "down_sec": seconds.down,
                    "unknown_sec": seconds.unknown,
                }
                for window, seconds in self.uptime.items()
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
    report = event_loop.run(_read_report(svc, data))
    now = time.time()
    if isinstance(report, ProbeRecord):
        if as_json:
            output.print_json(encode_target(svc, report, now))
        else:
            output.print_lines(describe_target(svc, report, now))
        return
    if as_json:
        output.print_json(report.to_json())
        return
    output.print_lines(describe_report(report, now))


async def _read_report(svc: str, data: Path) -> ServiceReport | ProbeRecord:
    async with open_fleet(data) as fleet:
        target = await read_target_record(svc, fleet, time.time())
        if target is not None:
            return target
        select_services(svc, fleet)
        bus, truth = fleet.bus(SYSTEM), fleet.truth
        timeout_sec = truth.timeout_of(HEALER)
        try:
            stored = await read_history(bus, int(time.time()), [svc])
            record = None if stored is None else stored.history.services.get(svc)
            if stored is None or record is None:
                raise Exit(NO_HISTORY, f"nothing is recorded of {svc}: the board records it while it runs")
            now = int(time.time())
            # the board stores only now and then that the healer is there
            beat = await read_healer_beat(bus, timeout_sec, now)
        except BusError as error:
            message = f"bus {bus.name} at {bus.where} does not answer ({error.reason}): it keeps the history"
            raise Exit(Code.NO_BUS, add_remedy(message, bus.name, error.reason)) from None
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
