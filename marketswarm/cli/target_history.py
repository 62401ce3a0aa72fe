"""Say how a target of massive's probes was: for `marketswarm history massive/shop`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from marketswarm.bus import BusError
from marketswarm.cli.bus_trouble import add_remedy
from marketswarm.cli.fleet_view import FleetView
from marketswarm.cli.local_time import format_moment
from marketswarm.exit import Code, Exit
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
from marketswarm.truth import find_probe_target
from marketswarm.truth.document_edit import MASSIVE


async def read_target_record(svc: str, fleet: FleetView, now: float) -> ProbeRecord | None:
    """Return what is known of a target at `now` (epoch seconds); None if massive has none of this name.

    Raises Exit, code 3, if the bus does not answer.
    """
    owner, _, name = svc.partition("/")
    point = find_probes_point(fleet.truth)
    if owner != MASSIVE or point is None or find_probe_target(fleet.truth, svc) is None:
        return None
    bus = fleet.bus(point.bus)
    try:
        return await read_record(bus, point.key, name, now)
    except BusError as error:
        message = (
            f"bus {bus.name} at {bus.where} does not answer ({error.reason}): it keeps what massive found"
        )
        raise Exit(Code.NO_BUS, add_remedy(message, bus.name, error.reason)) from None


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
    bins = {"1h": record.past.hour, "24h": record.past.day, "30d": record.past.month}
    for window, uptime in record.uptime.items():
        share = "-" if uptime.share is None else f"{int(uptime.share * 100_000) / 1000:.3f} %"
        mean, most = _find_times(bins[window])
        probes = uptime.probes or "-"
        lines.append(f"{window:>6}  {share:>9}  {probes:>8}  {mean:>9}  {most:>9}")
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
