"""`marketswarm status`: which services are up and which are down, in one table."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from marketswarm.cli import event_loop, output, tables
from marketswarm.cli.event_text import format_moment
from marketswarm.cli.fleet_view import open_fleet
from marketswarm.cli.last_run import describe_last_run
from marketswarm.cli.options import DATA, Data, Json
from marketswarm.cli.service_status import (
    UNWATCHABLE,
    Leader,
    NotificationState,
    ServiceRow,
    read_fleet_state,
    read_notification_state,
    service_rows,
)
from marketswarm.cli.silence import describe_targets
from marketswarm.exit import Code, Exit
from marketswarm.text import escape_text, format_duration

_REFRESH_SEC: Final = 1.0
_SILENCES_SHOWN: Final = 3
_UNWATCHABLE_SHOWN: Final = 5
_VERDICT_STYLES: Final = {
    "up": "green",
    "down": "red",
    "silent": "yellow",
    UNWATCHABLE: "yellow",
    "unknown": "dim",
}
_STATUS_STYLES: Final = {"degraded": "yellow", "stopping": "yellow"}


@dataclass(slots=True)
class StatusReport:
    """The status of a fleet: a row a service, and what limits or explains it.

    `away` are the buses that did not answer us and `lost` those that the healer does not hear, each with the
    reason. `why` is set instead of everything else when there is nothing to show.
    """

    rows: list[ServiceRow]
    revision: int | None
    away: dict[str, str] = field(default_factory=dict)
    why: str = ""
    lost: dict[str, str] = field(default_factory=dict)
    leader: Leader | None = None
    notifications: NotificationState = field(default_factory=NotificationState)

    def notes(self) -> list[str]:
        """Return what a person should know besides the rows, a line each."""
        if self.why:
            return [self.why]
        return [*self._bus_notes(), *self._healer_notes(), *_notification_notes(self.notifications)]

    def _bus_notes(self) -> list[str]:
        notes = [f"bus {bus} does not answer: {reason}" for bus, reason in self.away.items()]
        return notes + [
            f"the healer does not hear bus {bus} ({reason}): nobody knows of its services"
            for bus, reason in self.lost.items()
            if bus not in self.away
        ]

    def _healer_notes(self) -> list[str]:
        notes = []
        unwatchable = [row.svc for row in self.rows if row.verdict == UNWATCHABLE]
        if unwatchable:
            some = ", ".join(unwatchable[:_UNWATCHABLE_SHOWN])
            more = " and others" if len(unwatchable) > _UNWATCHABLE_SHOWN else ""
            notes.append(
                f"the healer may not hear {some}{more}: renew the users (`make seed`, or `marketswarm acl`)"
            )
        healer = next((row for row in self.rows if row.svc == "healer"), None)
        if healer and healer.verdict != "up":
            notes.append(f"the healer is {healer.verdict}: verdicts may be old")
        if self.leader and self.leader.lapsed_sec:
            notes.append(str(self.leader))
        return notes


def status(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again every second, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show every service: verdict, silence, instances, revision, restarts, state."""
    event_loop.run(_watch_status(as_json, data) if watch else _print_status(as_json, data))


async def _print_status(as_json: bool, data: Path) -> None:
    _print(await read_status(data), as_json=as_json)


async def _watch_status(as_json: bool, data: Path) -> None:
    with tables.open_screen(_draw, lambda report: _print(report, as_json=as_json), as_json=as_json) as show:
        while True:
            show(await _read_status_or_why_not(data))
            await asyncio.sleep(_REFRESH_SEC)


async def read_status(data: Path) -> StatusReport:
    """Read the status of a fleet. Raises Exit when there is none, or it has no truth."""
    async with open_fleet(data) as fleet:
        truth = fleet.truth
        (state, away), notifications = await asyncio.gather(
            read_fleet_state(fleet), read_notification_state(fleet.buses())
        )
        return StatusReport(
            service_rows(truth, state),
            fleet.revision,
            away,
            lost=state.unheard_buses(),
            leader=state.leader,
            notifications=notifications,
        )


async def _read_status_or_why_not(data: Path) -> StatusReport:
    """Read the status; while there is none, return an empty report that says why."""
    try:
        return await read_status(data)
    except Exit as end:
        if end.code == Code.CONFIGURATION:
            raise
        return StatusReport([], None, why=end.message)


def _notification_notes(state: NotificationState) -> list[str]:
    """Return lines on the silences in force and the undelivered messages; none when there are none."""
    notes = [
        f"silent until {format_moment(each.ends_at, state.at)}: {describe_targets(each)} "
        f"({escape_text(each.author)}: {escape_text(each.reason)})"
        for each in state.silences[:_SILENCES_SHOWN]
    ]
    if len(state.silences) > _SILENCES_SHOWN:
        notes.append(f"and {len(state.silences) - _SILENCES_SHOWN} more silences: marketswarm silences")
    if state.undelivered:
        messages = "message" if state.undelivered == 1 else "messages"
        notes.append(f"{state.undelivered} {messages} could not be delivered: marketswarm dead")
    return notes


def _print(report: StatusReport, *, as_json: bool) -> None:
    if as_json:
        output.print_json(
            {
                "revision": report.revision,
                "services": report.rows,
                "away": report.away,
                "lost": report.lost,
                "leader": report.leader,
                "silences": [each.id for each in report.notifications.silences],
                "undelivered": report.notifications.undelivered,
                "notes": report.notes(),
            }
        )
    else:
        tables.print_drawing(_draw(report))


def _draw(report: StatusReport) -> Group:
    """Return the table, then the leader and the notes."""
    notes = [Text(escape_text(note), style="yellow") for note in report.notes()]
    leads = report.leader and not report.leader.lapsed_sec
    leader = [Text(escape_text(str(report.leader)), style="dim")] if leads else []
    return Group(*([_draw_table(report)] if report.rows else []), *leader, *notes)


def _draw_table(report: StatusReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("service", no_wrap=True, overflow="ellipsis", min_width=7)
    for head in ("verdict", "silence"):
        table.add_column(head, no_wrap=True)
    for head in ("inst", "rev", "restarts"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("boot", no_wrap=True, overflow="ellipsis", max_width=8)
    table.add_column("state", overflow="fold")
    for row in report.rows:
        numbers = (format_instances(row), row.rev, row.restarts, row.boot)
        table.add_row(
            row.svc,
            Text(escape_text(row.verdict), style=_VERDICT_STYLES.get(row.verdict, "")),
            "-" if row.silence_sec is None else format_duration(row.silence_sec),
            *("-" if number is None else escape_text(str(number)) for number in numbers),
            Text(_describe_state(row), style=_state_style(row)),
        )
    return table


def format_instances(row: ServiceRow) -> str | None:
    """Return `3`, or `3 of 4` where the truth asks for a number; None while mesh has seen none."""
    if row.instances is None:
        return None
    return str(row.instances) if row.replicas is None else f"{row.instances} of {row.replicas}"


def _state_style(row: ServiceRow) -> str:
    failed = row.last_run is not None and row.last_run.get("ok") is False
    return "yellow" if failed else _STATUS_STYLES.get(row.status or "", "")


def _describe_state(row: ServiceRow) -> str:
    """Return the status of the last beat and its detail, then how the last run of a command ended."""
    state = row.status or "" if row.detail is None else f"{row.status}: {row.detail}"
    run = row.last_run or {}
    if run.get("said") not in (None, row.detail):  # a goodbye repeats the outcome of the run
        state = "; ".join(filter(None, (state, describe_last_run(run, _format_foreign_time))))
    return escape_text(state)


def _format_foreign_time(ts: object) -> str:
    """Format epoch seconds as a time of day, with the date if it is not today's; `?` for anything else."""
    try:
        return format_moment(ts, time.time())  # type: ignore[arg-type]  # anything else raises
    except (TypeError, ValueError, OverflowError, OSError):
        return "?"
