"""Implement `marketswarm status`: show which services are up and which are down, in one table."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from marketswarm.cli import event_loop, output, tables
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.fleet_view import FleetView, ask_fleet, ask_or_explain, describe_away
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.notification_text import describe_delay, describe_targets
from marketswarm.cli.options import Data, Json, flag
from marketswarm.detector import FLOOD, Reason
from marketswarm.event_text import SOME_FAILURE, describe_failure, describe_outage
from marketswarm.exit import Exit
from marketswarm.status.fleet_state import Leader, read_fleet_state
from marketswarm.status.job_text import describe_job
from marketswarm.status.notifications import (
    Notifications,
    describe_hold,
    group_stuck_by_channel,
    read_notifications,
)
from marketswarm.status.service_rows import (
    PAUSED,
    UNMONITORED,
    URGENCY,
    ServiceRow,
    ServiceState,
    group_by_host,
    make_service_rows,
    write_headline,
)
from marketswarm.text import escape_text, extract_line, format_duration, format_names

_SILENCES_SHOWN: Final = 3
_UNWATCHABLE_SHOWN: Final = 5
_VERDICT_STYLES: Final = {
    ServiceState.UP: "green",
    ServiceState.DOWN: "red",
    ServiceState.FAILED: "red",
    ServiceState.SILENT: "yellow",
    ServiceState.UNWATCHABLE: "yellow",
    ServiceState.UNKNOWN: "dim",
}
_HEAD_LINES: Final = 2  # the headline and the head of the table
NOT_ALL_UP: Final = 1
"""The exit code of --exit-code when some service is not up."""
NO_HOST: Final = "no known host"
"""The heading of services whose beats name no host."""
_HOSTS_SHOWN: Final = 3  # of one service, in a heading


Grouping = Literal["host"]
"""By what the services of a status are grouped."""


@dataclass(slots=True)
class StatusReport:
    """Hold the status of a fleet: a row per service, and what limits or explains it.

    `away` are the buses that did not answer us and `lost` those that the healer does not hear, each with the
    reason. If there is nothing to show, only `why` is set.
    """

    rows: list[ServiceRow]
    revision: int | None
    away: dict[str, str] = field(default_factory=dict)
    why: str = ""
    lost: dict[str, str] = field(default_factory=dict)
    leader: Leader | None = None
    notifications: Notifications = field(default_factory=Notifications)
    data: Path = DATA

    @property
    def all_up(self) -> bool:
        return not (self.why or self.away or self.lost) and all(row.verdict == "up" for row in self.rows)

    def notes(self) -> list[str]:
        if self.why:
            return self.why.splitlines()
        return [
            *self._bus_notes(),
            *self._healer_notes(),
            *_notification_notes(self.notifications, self.data),
        ]

    def _bus_notes(self) -> list[str]:
        return describe_away(self.away) + [
            f"the healer does not hear bus {bus} ({reason}): nobody knows of its services"
            for bus, reason in self.lost.items()
            if bus not in self.away
        ]

    def _healer_notes(self) -> list[str]:
        unwatchable = [row for row in self.rows if row.verdict is ServiceState.UNWATCHABLE]
        flooding = _name_some([row.svc for row in unwatchable if row.watch_reason == FLOOD])
        refused = _name_some([row.svc for row in unwatchable if row.watch_reason != FLOOD])
        notes = []
        if refused:
            remedy = "renew the users (`make seed`, or `marketswarm acl`)"
            notes.append(f"the healer may not hear {refused}: {remedy}")
        if flooding:
            notes.append(f"the healer can't watch {flooding}: more comes on its channel than is read")
        healer = next((row for row in self.rows if row.svc == "healer"), None)
        if healer and healer.verdict != "up":
            notes.append(f"the healer is {healer.verdict}: verdicts may be old")
        if self.leader and self.leader.lapsed_sec:
            notes.append(describe_leader(self.leader))
        return notes


def _name_some(services: Sequence[str]) -> str:
    """Return the first few names, and whether there are others."""
    more = " and others" if len(services) > _UNWATCHABLE_SHOWN else ""
    return ", ".join(services[:_UNWATCHABLE_SHOWN]) + more


def status(
    watch: Annotated[bool, flag("--watch", "Look again every second, until Ctrl-C.", "-w")] = False,
    exit_code: Annotated[
        bool, flag("--exit-code", "End with 1 unless every service is up, for scripts.")
    ] = False,
    by: Annotated[
        Grouping | None, typer.Option("--by", help="Group the services, by the machine that they run on.")
    ] = None,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show every service, down ones first: verdict, silence, instances, restarts, state."""
    if watch and exit_code:
        raise typer.BadParameter("--watch and --exit-code exclude each other")
    if watch:
        showing = tables.show_again(
            partial(read_status_or_why_not, data),
            lambda report: StatusDrawing(report, fit_height=True, by=by),
            lambda report: _print(report, by, as_json=as_json),
            as_json=as_json,
        )
        event_loop.run(showing)
        return
    report = ask_fleet(data, read_status)
    _print(report, by, as_json=as_json)
    if exit_code and not report.all_up:
        raise Exit(NOT_ALL_UP, "")


async def read_status(fleet: FleetView) -> StatusReport:
    truth = fleet.truth
    (state, away), notifications = await asyncio.gather(
        read_fleet_state(truth, fleet.bus), read_notifications(fleet.buses())
    )
    return StatusReport(
        make_service_rows(truth, state, notifications.incidents),
        fleet.revision,
        away,
        lost=state.unheard_buses(),
        leader=state.leader,
        notifications=notifications,
        data=fleet.data,
    )


async def read_status_or_why_not(data: Path) -> StatusReport:
    """Read the status; if that fails, return an empty report with the reason, as `ask_or_explain` does."""
    return await ask_or_explain(data, read_status, lambda why: StatusReport([], None, why=why))


def _notification_notes(found: Notifications, data: Path) -> list[str]:
    notes = [
        f"silent until {format_moment(each.ends_at, found.at)}: {describe_targets(each)} "
        f"({escape_text(each.author)}: {escape_text(each.reason)})"
        for each in found.silences[:_SILENCES_SHOWN]
    ]
    if len(found.silences) > _SILENCES_SHOWN:
        more = len(found.silences) - _SILENCES_SHOWN
        notes.append(f"and {more} more silences: {suggest_command('silences', data)}")
    dead = suggest_command("dead", data)
    for channel, waiting in group_stuck_by_channel(found.pending).items():
        some = "1 message waits" if len(waiting) == 1 else f"{len(waiting)} messages wait"
        notes.append(f"{some} for {escape_text(channel)}, {describe_delay(waiting[0], found.at)}: {dead}")
    if found.dead:
        some = "1 message" if found.dead == 1 else f"{found.dead} messages"
        notes.append(f"{some} could not be delivered: {dead}")
    return notes


def describe_leader(leader: Leader) -> str:
    if leader.lapsed_sec:
        ago = f"{leader.lapsed_sec:.0f} s ago"
        return f"no healer leads: the lease of {leader.boot} ran out {ago}, and no alert is published"
    return f"healer {leader.boot} leads, epoch {leader.epoch}"


def _print(report: StatusReport, by: Grouping | None, *, as_json: bool) -> None:
    if not as_json:
        tables.print_drawing(StatusDrawing(report, by=by))
        return
    found = {
        "revision": report.revision,
        "services": [_encode_row(row) for row in report.rows],
        **output.pick(report, "away", "lost", "leader"),
        "silences": [each.id for each in report.notifications.silences],
        "undelivered": report.notifications.dead,
        "waiting": report.notifications.pending,
        "notes": report.notes(),
    }
    if by == "host":
        groups = group_by_host(_sort_by_urgency(report.rows))
        found["by_host"] = [{"hosts": hosts, "services": [row.svc for row in rows]} for hosts, rows in groups]
    output.print_json(found)


def _sort_by_urgency(rows: Sequence[ServiceRow]) -> list[ServiceRow]:
    return sorted(rows, key=lambda row: URGENCY[row.verdict])


def _encode_row(row: ServiceRow) -> dict[str, Any]:
    found = output.pick(row, *(each.name for each in fields(row)))
    if row.last_run is not None:
        found["last_run"] = {name: value for name, value in asdict(row.last_run).items() if value is not None}
    return found


class StatusDrawing:
    """Draw a report with rich: a headline, the table with the worst on top or with `rows`, then the notes.

    With `by`, the services are under headings, that of the worst service first. On a narrow screen columns
    are left out, the least important first; with `fit_height`, rows that do not fit are counted instead.
    """

    def __init__(
        self,
        report: StatusReport,
        *,
        fit_height: bool = False,
        rows: Sequence[ServiceRow] | None = None,
        footer: Text | None = None,
        by: Grouping | None = None,
    ) -> None:
        self._report, self._fit_height = report, fit_height
        sorted_rows = _sort_by_urgency(report.rows) if rows is None else list(rows)
        self._rows = _add_headings(sorted_rows) if by == "host" else sorted_rows
        self._footer = footer

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        notes, rows = self._notes(), self._rows
        if not self._report.rows:
            yield from notes
            return
        shown = rows
        if self._fit_height and options.height is not None:
            room = max(1, options.height - len(notes) - _HEAD_LINES)
            shown = rows if len(rows) <= room else rows[: max(1, room - 1)]
        yield Text(write_headline(row.word for row in self._report.rows), style="bold")
        yield _draw_table(shown, self._report.notifications.at, options.max_width, wrap=not self._fit_height)
        hidden = sum(isinstance(each, ServiceRow) for each in rows[len(shown) :])
        if hidden:
            yield Text(f"{hidden} more", style="dim")
        yield from notes

    def _notes(self) -> list[Text]:
        leader = self._report.leader
        notes = [Text(escape_text(note), style="yellow") for note in self._report.notes()]
        if leader and not leader.lapsed_sec:
            notes.insert(0, Text(escape_text(describe_leader(leader)), style="dim"))
        return notes + ([] if self._footer is None else [self._footer])


@dataclass(frozen=True, slots=True)
class _Heading:
    """The line above the services of some hosts: their names, and how many services are down."""

    name: str
    headline: str


def _add_headings(rows: Sequence[ServiceRow]) -> "list[ServiceRow | _Heading]":
    found: list[ServiceRow | _Heading] = []
    for hosts, some in group_by_host(rows):
        name = escape_text(format_names(hosts, _HOSTS_SHOWN)) or NO_HOST
        found += [_Heading(name, write_headline(row.verdict for row in some)), *some]
    return found


def _draw_table(rows: "Sequence[ServiceRow | _Heading]", now: float, width: int, *, wrap: bool) -> Table:
    table = tables.make_table()
    table.add_column("service", no_wrap=True, overflow="ellipsis", min_width=7)
    for head in ("verdict", "silence"):
        table.add_column(head, no_wrap=True)
    facts = [fact for fact in _FACTS if width >= fact[1]]
    for head, _, _, side in facts:
        table.add_column(head, justify=side, no_wrap=True, overflow="ellipsis", max_width=8)
    table.add_column("state", overflow="fold" if wrap else "ellipsis", no_wrap=not wrap)
    for row in rows:
        if isinstance(row, _Heading):
            table.add_row(Text(row.name, style="bold"), Text(row.headline, style="bold"))
            continue
        cells = [find_value(row) for _, _, find_value, _ in facts]
        silence_sec = find_silence(row, now)
        table.add_row(
            row.svc,
            Text(escape_text(row.word), style=_VERDICT_STYLES[row.verdict]),
            "-" if silence_sec is None else format_duration(silence_sec),
            *("-" if cell is None else escape_text(str(cell)) for cell in cells),
            Text(_describe_state(row, now), style=_state_style(row)),
        )
    return table


def find_silence(row: ServiceRow, now: float) -> float | None:
    """Return for how long a service is silent; of an outage that outlasts its key, since its begin."""
    if row.silence_sec is None and row.since is not None and row.verdict != "up":
        return max(0.0, now - row.since)
    return row.silence_sec


def format_instances(row: ServiceRow) -> str | None:
    """Return `3`, or `3 of 4` if the truth asks for a number; None if mesh has seen none."""
    if row.instances is None:
        return None
    return str(row.instances) if row.replicas is None else f"{row.instances} of {row.replicas}"


_FACTS: Final[tuple[tuple[str, int, Callable[[ServiceRow], object], Literal["left", "right"]], ...]] = (
    ("inst", 60, format_instances, "right"),
    ("rev", 80, lambda row: row.rev, "right"),
    ("restarts", 60, lambda row: row.restarts, "right"),
    ("boot", 80, lambda row: row.boot, "left"),
)
"""The columns that a narrow screen leaves out: the head, the least width, the value, and its side."""


def _state_style(row: ServiceRow) -> str:
    failed = row.last_run is not None and row.last_run.ok is False
    failed = failed or (row.job is not None and row.job.early_sec is not None)
    return "yellow" if failed else tables.STATUS_STYLES.get(row.status or "", "")


def _describe_state(row: ServiceRow, now: float) -> str:
    run, is_down = row.last_run, row.verdict is ServiceState.DOWN
    words = [_describe_last_beat(row)]
    is_told = run is not None and is_down and run.ok is False and _is_failure(run.detail, row)
    # a last beat repeats the outcome of the run
    if run is not None and run.outcome not in ("", row.detail) and not is_told:
        words.append(f"last run {run.outcome[:100]} at {_format_time(run.ts, now)}")
    runs = [] if row.job is None else describe_job(row.job, now, lambda at: format_moment(at, now))
    paused = [UNMONITORED] if row.paused and row.word != PAUSED else []
    return escape_text("; ".join(filter(None, [*_describe_outage(row, now), *paused, *runs, *words])))


def _describe_last_beat(row: ServiceRow) -> str:
    """Return what a service says of itself; of one that is down, nothing that sounds as if it were up."""
    if row.verdict is ServiceState.DOWN and row.status == "ok" and row.detail is None:
        is_heard = row.silence_sec is not None and row.silence_sec <= row.timeout_sec
        return "it beats" if row.reason == Reason.FAILED and row.job is None and is_heard else ""
    if row.job is not None and row.status == "ok" and row.detail is None:
        return ""  # a ping that a run ended well: its last run is told beside it
    is_told = row.detail is None or (row.verdict is ServiceState.DOWN and _is_failure(row.detail, row))
    return row.status or "" if is_told else f"{row.status}: {row.detail}"


def _is_failure(said: str | None, row: ServiceRow) -> bool:
    """Return True if this is what the report of the failure said that the service is down for."""
    return row.reason == Reason.FAILED and (None if said is None else extract_line(said)) == row.failure


def _describe_outage(row: ServiceRow, now: float) -> list[str]:
    if row.verdict != "down":
        return []
    since, is_failed = row.since, row.reason == Reason.FAILED
    if since is None and row.silence_sec is not None and not is_failed:
        since = now - row.silence_sec
    outage, began_at = describe_outage(row.reason, since, row.down_since)
    words = [outage if began_at is None else f"{outage} {_format_time(began_at, now)}"]
    if is_failed:
        words = [f"{words[0]}: {describe_failure(row.failure, row.exit_code) or SOME_FAILURE}"]
    if row.acked_by:
        words.append(f"acknowledged by {row.acked_by}")
    if row.held:
        end = "" if row.held_until is None else f" until {_format_time(row.held_until, now)}"
        words.append(describe_hold(row.held) + end)
    return words


def _format_time(ts: float | None, now: float) -> str:
    """Return epoch seconds as a time of day, with the date if it is not today's; `?` for None."""
    return "?" if ts is None else format_moment(ts, now)
