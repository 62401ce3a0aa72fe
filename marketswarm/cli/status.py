# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm status`: who is up and who is down, in one table."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketswarm.cli.options import DATA, Data, Json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Group
    from rich.table import Table

    from marketswarm.cli.heeded import Heeded
    from marketswarm.cli.leader import Leader
    from marketswarm.cli.rows import Row

_EVERY_SEC = 1.0
_STYLES = {"up": "green", "down": "red", "silent": "yellow", "unwatchable": "yellow", "unknown": "dim"}
_STATES = {"degraded": "yellow", "stopping": "yellow"}


@dataclass(slots=True)
class Picture:
    """One look at a fleet: a row a service, and what is to be said besides."""

    rows: "list[Row]"
    revision: int | None
    away: dict[str, str] = field(default_factory=dict)  # buses that did not answer, and why
    why: str = ""  # there is nothing to see at all
    lost: dict[str, str] = field(default_factory=dict)  # buses that the healer does not hear, and why
    leader: "Leader | None" = None
    heeded: "Heeded | None" = None

    def notes(self) -> list[str]:
        """What a person should know of this picture."""
        if self.why:
            return [self.why]
        notes = [f"bus {bus} does not answer: {reason}" for bus, reason in self.away.items()]
        notes += [
            f"the healer does not hear bus {bus} ({reason}): nobody knows of its services"
            for bus, reason in self.lost.items()
            if bus not in self.away
        ]
        unwatchable = [row.svc for row in self.rows if row.verdict == "unwatchable"]
        if unwatchable:
            few = ", ".join(unwatchable[:5]) + (" and others" if len(unwatchable) > 5 else "")
            notes.append(
                f"the healer may not hear {few}: renew the users (`make seed`, or `marketswarm acl`)"
            )
        judge = next((row for row in self.rows if row.svc == "healer"), None)
        if judge and judge.verdict != "up":
            notes.append(f"the healer is {judge.verdict}: verdicts may be old")
        if self.leader and self.leader.lapsed_sec:
            notes.append(str(self.leader))
        return notes + (self.heeded.notes() if self.heeded else [])


def status(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again every second, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show every service: verdict, silence, instances, revision, restarts, state."""
    import asyncio

    asyncio.run(_status(watch, as_json, data))


async def _status(watch: bool, as_json: bool, data: Path) -> None:
    import asyncio

    if not watch:
        _print(await look(data), as_json)
        return
    with _screen(as_json) as show:
        while True:
            show(await _look_or_why_not(data))
            await asyncio.sleep(_EVERY_SEC)


async def look(data: Path) -> Picture:
    """Reads all that there is to know of a fleet. Raises Exit when there is none, or it has no truth."""
    import asyncio

    from marketswarm.cli.facts import facts
    from marketswarm.cli.heeded import heeded
    from marketswarm.cli.rows import lost, rows
    from marketswarm.cli.sight import sight

    async with sight(data) as fleet:
        truth = fleet.truth
        (known, away), heed = await asyncio.gather(facts(fleet), heeded(fleet.buses()))
        revision = fleet.found.revision if fleet.found else None
        return Picture(rows(truth, known), revision, away, lost=lost(known), leader=known.leader, heeded=heed)


async def _look_or_why_not(data: Path) -> Picture:
    """As `look`; while there is nothing to see, an empty picture that says why."""
    from marketswarm.exit import Code, Exit

    try:
        return await look(data)
    except Exit as end:
        if end.code == Code.CONFIGURATION:
            raise
        return Picture([], None, why=end.message)


@contextlib.contextmanager
def _screen(as_json: bool) -> "Iterator[Callable[[Picture], None]]":
    """Shows picture after picture: in one place on a terminal, one after the other elsewhere."""
    from marketswarm.cli import paper

    console = paper.console()
    if as_json or not console.is_terminal:
        yield lambda picture: _print(picture, as_json)
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False, screen=True) as live:
        yield lambda picture: live.update(_drawn(picture), refresh=True)


def _print(picture: Picture, as_json: bool) -> None:
    from marketswarm.cli import paper

    if as_json:
        paper.raw(_encoded(picture))
    else:
        paper.console().print(_drawn(picture))


def _encoded(picture: Picture) -> bytes:
    import orjson

    return orjson.dumps(
        {
            "revision": picture.revision,
            "services": picture.rows,
            "away": picture.away,
            "lost": picture.lost,
            "leader": picture.leader,
            "silences": [each.id for each in picture.heeded.silences] if picture.heeded else [],
            "undelivered": picture.heeded.undelivered if picture.heeded else 0,
            "notes": picture.notes(),
        }
    )


def _drawn(picture: Picture) -> "Group":
    """The table and the notes below it."""
    from rich.console import Group
    from rich.text import Text

    from marketswarm.text import escape_text

    notes = [Text(escape_text(note), style="yellow") for note in picture.notes()]
    leads = picture.leader and not picture.leader.lapsed_sec
    leader = [Text(escape_text(str(picture.leader)), style="dim")] if leads else []
    return Group(*([_table(picture)] if picture.rows else []), *leader, *notes)


def _table(picture: Picture) -> "Table":
    from rich.table import Table
    from rich.text import Text

    from marketswarm.cli.words import seconds
    from marketswarm.text import escape_text

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("service", no_wrap=True, overflow="ellipsis", min_width=7)
    for head in ("verdict", "silence"):
        table.add_column(head, no_wrap=True)
    for head in ("inst", "rev", "restarts"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("boot", no_wrap=True, overflow="ellipsis", max_width=8)
    table.add_column("state", overflow="fold")
    for row in picture.rows:
        facts = (_instances(row), row.rev, row.restarts, row.boot)
        table.add_row(
            row.svc,
            Text(escape_text(row.verdict), style=_STYLES.get(row.verdict, "")),
            "-" if row.silence_sec is None else seconds(row.silence_sec),
            *("-" if fact is None else escape_text(str(fact)) for fact in facts),
            Text(_state(row), style=_style(row)),
        )
    return table


def _instances(row: "Row") -> str | None:
    """`3 of 3` where the truth says how many there are to be, as far as the mesh knows any."""
    if row.instances is None:
        return None
    return str(row.instances) if row.replicas is None else f"{row.instances} of {row.replicas}"


def _style(row: "Row") -> str:
    failed = row.last_run is not None and row.last_run.get("ok") is False
    return "yellow" if failed else _STATES.get(row.status or "", "")


def _state(row: "Row") -> str:
    from marketswarm.cli.last_run import in_short
    from marketswarm.text import escape_text

    state = row.status or "" if row.detail is None else f"{row.status}: {row.detail}"
    run = row.last_run or {}
    if run.get("said") not in (None, row.detail):  # its goodbye says the same
        state = "; ".join(filter(None, (state, in_short(run, _when))))
    return escape_text(state)


def _when(ts: object) -> str:
    """Epoch seconds as a time of day, with the day if that is not today's; whatever stands in their place."""
    import time

    from marketswarm.cli.words import moment

    try:
        return moment(ts, time.time())  # type: ignore[arg-type]  # what is none is caught
    except (TypeError, ValueError, OverflowError, OSError):
        return "?"
