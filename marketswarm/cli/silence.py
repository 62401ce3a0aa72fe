"""Implement `marketswarm silence`, `silences` and `unsilence`: mute notifications on services for a while."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from marketswarm.cli import event_loop, output, tables
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import FleetView, describe_refusals, open_fleet
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.notification_text import describe_targets
from marketswarm.cli.options import By, Data, Json, author_name, complete_service, parse_duration
from marketswarm.exit import Code, Exit
from marketswarm.operator.silences import (
    MAX_SILENCE_SEC,
    NO_REASON,
    Silence,
    StoredSilences,
    create_silence,
    find_unknown_target,
    list_targets,
    match_targets,
    read_silences,
    write_silence,
)
from marketswarm.text import escape_text, format_duration, format_names
from marketswarm.truth import describe_unknown, find_nearest, suggest_name

_SERVICES_NAMED = 12  # the others that a silence matches are counted


def silence(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATTERN",
            help="Services, by name or pattern: rss_agg, 'feed-*'.",
            autocompletion=complete_service,
        ),
    ] = None,
    *,
    for_sec: Annotated[
        float, typer.Option("--for", parser=parse_duration, metavar="2h", help="For how long: 30m, 2h, 1d.")
    ],
    why: Annotated[
        str, typer.Option("--why", metavar="TEXT", help="The reason, for other people.", show_default=False)
    ] = NO_REASON,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Services with this tag too; repeatable.")
    ] = None,
    by: By = None,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Send no notification on some services for a while; what is still down at the end is sent then.

    The healer still publishes every miss; only notifications pause. JSON is the silence as `silences
    --json` has it, with the services that it is `matched` by now, and by bus why one `failed` to take it.
    """
    made = _make_silence(
        tuple(patterns or ()), tuple(tags or ()), for_sec, by=author_name(by), why=why.strip()
    )
    added = event_loop.run(_add_silence(made, data))
    if as_json:
        record = _encode_silence(made, made.starts_at)
        output.print_json(record | {"matched": added.matched, "failed": added.failed})
    else:
        output.print_lines(added.lines)
    if added.warning:
        output.print_error(f"{added.warning}")


def unsilence(
    ident: Annotated[str, typer.Argument(metavar="ID", help="Which, as `marketswarm silences` shows it.")],
    data: Data = DATA,
) -> None:
    """End a silence now; notifications on what is still down are sent at once."""
    output.print_lines(event_loop.run(_end_silence(ident, data)))


def silences(
    every: Annotated[bool, typer.Option("--all", help="Also silences that have ended, for a month.")] = False,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show the silences that are in force, the one that ends first at the top."""
    stored, now = event_loop.run(_read_from_fleet(data)), time.time()
    shown = sorted(
        (each for each in stored.silences.values() if every or not each.has_ended(now)),
        key=lambda each: each.ends_at,
    )
    if as_json:
        output.print_json([_encode_silence(each, now) for each in shown])
        return
    if shown:
        tables.print_drawing(_draw_table(shown, now))
    else:
        output.print_line("no silence is in force")
    for bus, why in stored.failed.items():
        output.print_line(f"bus {bus} does not answer: {why}", output.YELLOW)


def _encode_silence(silence: Silence, now: float) -> dict[str, Any]:
    return {**orjson.loads(silence.encode()), "active": silence.is_active(now)}


def _make_silence(
    patterns: tuple[str, ...], tags: tuple[str, ...], for_sec: float, *, by: str, why: str
) -> Silence:
    if not patterns and not tags:
        raise typer.BadParameter("on what? Say a service, a pattern or --tag; '*' is everything")
    if not 0 < for_sec <= MAX_SILENCE_SEC:
        raise typer.BadParameter("--for: more than nothing, and at most a year")
    try:
        return create_silence(patterns, tags, for_sec, author=by, reason=why, now=time.time())
    except ValidationError as error:
        option = {"reason": "--why", "services": "PATTERN", "tags": "--tag"}
        wrong = {option.get(str(each["loc"][0]), str(each["loc"][0])): each["msg"] for each in error.errors()}
        raise typer.BadParameter("; ".join(f"{name}: {what}" for name, what in wrong.items())) from None


@dataclass(frozen=True, slots=True)
class AddedSilence:
    """What to print about a new silence.

    `matched` are the services that it is on now, None without a truth; `failed` are the buses that did not
    take it, each with the reason. `warning` is empty unless nothing in the truth is silenced.
    """

    lines: list[str]
    warning: str
    matched: Sequence[str] | None
    failed: Mapping[str, str]


async def _add_silence(made: Silence, data: Path) -> AddedSilence:
    async with open_fleet(data) as fleet:
        _require_known_names(made, fleet)
        buses = fleet.buses()
        failed = await write_silence(buses, await read_silences(buses), made, made.starts_at)
        length = format_duration(made.ends_at - made.starts_at)
        matches, warning = _describe_matches(made, fleet)
        lines = [
            f"silence {made.id} until {format_moment(made.ends_at, made.starts_at)}, {length} from now",
            *matches,
            *describe_refusals(failed),
        ]
        matched = None if fleet.found is None else match_targets(made, list_targets(fleet.truth))
        return AddedSilence(lines, warning, matched, failed)


async def _end_silence(ident: str, data: Path) -> list[str]:
    async with open_fleet(data) as fleet:
        buses, now = fleet.buses(), time.time()
        stored = await read_silences(buses)
        found = stored.silences.get(ident)
        if found is None:
            known = [each.id for each in stored.silences.values() if not each.has_ended(now)]
            hint = suggest_name(ident, known, "those there are:") if known else "there is none in force"
            raise Exit(Code.CONFIGURATION, f"no silence has the id {ident}; {hint}")
        head = f"silence {ident} on {describe_targets(found)}"
        if found.has_ended(now):
            return [f"{head} ended at {format_moment(found.ends_at, now)}"]
        failed = await write_silence(buses, stored, found.end_at(now), now)
        return [f"{head} has ended: notifications on what is still down are sent", *describe_refusals(failed)]


async def _read_from_fleet(data: Path) -> StoredSilences:
    async with open_fleet(data) as fleet:
        return await read_silences(fleet.buses())


def _require_known_names(silence: Silence, fleet: FleetView) -> None:
    if fleet.found is None:
        return
    known = list_targets(fleet.truth)
    name = find_unknown_target(silence, known)
    if name is not None:
        raise Exit(Code.CONFIGURATION, f"no silence was set: {describe_unknown(name, known)}")


def _describe_matches(silence: Silence, fleet: FleetView) -> tuple[list[str], str]:
    """Return a line about what is silenced, or none and a warning if that is nothing yet."""
    targets = describe_targets(silence)
    if fleet.found is None:
        return [f"on {targets}; there is no truth that tells which services these are"], ""
    tags = list_targets(fleet.truth)
    matched = match_targets(silence, tags)
    if matched:
        return [f"on {format_names(matched, _SERVICES_NAMED)}"], ""
    known = {*tags, *(tag for each in tags.values() for tag in each)}
    near = next(
        filter(None, (find_nearest(word, known) for word in (*silence.services, *silence.tags))), None
    )
    hint = f"; did you mean {near}?" if near else ""
    return [], f"it is on nothing: nothing in the truth is {targets}{hint}"


def _draw_table(shown: Sequence[Silence], now: float) -> Table:
    table = tables.make_table("id", "until", "left", folded=("on", "by", "why"))
    for each in shown:
        over = each.has_ended(now)
        table.add_row(
            each.id,
            format_moment(each.ends_at, now),
            Text("over" if over else format_duration(each.ends_at - now), style="dim" if over else ""),
            describe_targets(each),
            escape_text(each.author),
            escape_text(each.reason),
        )
    return table
