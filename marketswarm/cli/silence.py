"""Implement `marketswarm silence`, `silences` and `unsilence`: mute notifications on services for a while.

A silence is kept on every bus, so that one bus is enough to read it. A command that writes one also brings
each bus up to date with the others; the latest version of a silence wins.
"""

import secrets
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from marketswarm.bus import Bus
from marketswarm.cli import event_loop, output, tables
from marketswarm.cli.event_text import format_moment
from marketswarm.cli.fleet_view import FleetView, ask_buses, describe_refusals, open_fleet
from marketswarm.cli.options import DATA, By, Data, Json, author_name, parse_duration
from marketswarm.exit import Code, Exit
from marketswarm.keys import NOTIFIER_SILENCES
from marketswarm.operator import Silence, find_missing_silences, merge_silences
from marketswarm.text import escape_text, format_duration
from marketswarm.truth import find_nearest, find_probe_targets

_MAX_SEC = 366 * 86_400.0
_SERVICES_NAMED = 12  # the others that a silence matches are counted


def silence(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATTERN", help="Services, by name or pattern: rss_agg, 'feed-*'."),
    ] = None,
    *,
    for_sec: Annotated[
        float, typer.Option("--for", parser=parse_duration, metavar="2h", help="For how long: 30m, 2h, 1d.")
    ],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for whoever wonders.")],
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Services with this tag too; repeatable.")
    ] = None,
    by: By = None,
    data: Data = DATA,
) -> None:
    """Send no notification on some services for a while; what is still down at the end is sent then.

    The healer goes on publishing every miss; only notifications rest.
    """
    made = _make_silence(
        tuple(patterns or ()), tuple(tags or ()), for_sec, by=author_name(by), why=why.strip()
    )
    for line in event_loop.run(_add_silence(made, data)):
        output.print_line(line)


def unsilence(
    ident: Annotated[str, typer.Argument(metavar="ID", help="Which, as `marketswarm silences` shows it.")],
    data: Data = DATA,
) -> None:
    """End a silence now; notifications on what is still down are sent at once."""
    for line in event_loop.run(_end_silence(ident, data)):
        output.print_line(line)


def silences(
    every: Annotated[bool, typer.Option("--all", help="Those that are over too, for a month.")] = False,
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
        output.print_json([{**orjson.loads(each.encode()), "active": each.is_active(now)} for each in shown])
        return
    if shown:
        tables.print_drawing(_draw_table(shown, now))
    else:
        output.print_line("no silence is in force")
    for bus, why in stored.failed.items():
        output.print_line(f"bus {bus} does not answer: {why}", output.YELLOW)


def describe_targets(silence: Silence) -> str:
    """Return the services and tags of a silence as they were typed: `rss_*, tag ingest`."""
    return escape_text(", ".join((*silence.services, *(f"tag {tag}" for tag in silence.tags))))


@dataclass(frozen=True, slots=True)
class StoredSilences:
    """Hold the silences of a fleet by id, each in its latest version.

    `by_bus` are the stored fields of each bus; `failed` are the buses that did not answer, with the reason.
    """

    silences: dict[str, Silence]
    by_bus: dict[str, dict[bytes, bytes]]
    failed: dict[str, str]


async def read_silences(buses: Sequence[Bus]) -> StoredSilences:
    """Read the silences from every bus. Raises Exit, code 3, if none answers."""
    by_bus, failed = await ask_buses(buses, lambda bus: bus.client.hgetall(NOTIFIER_SILENCES))
    return StoredSilences(merge_silences(by_bus.values()), by_bus, failed)


async def write_silence(
    buses: Sequence[Bus], stored: StoredSilences, silence: Silence, now: float
) -> dict[str, str]:
    """Write a silence to every bus, with those that the bus lacks, and delete those that ended long ago.

    Return the buses that failed, with the reason. Raises Exit, code 3, if every bus failed.
    """
    wanted = {**stored.silences, silence.id: silence}
    old = [ident for ident, each in wanted.items() if each.is_deletable(now)]
    kept = {ident: each for ident, each in wanted.items() if ident not in old}

    def write(bus: Bus) -> Awaitable[Any]:
        """Return the request that writes the missing silences to one bus and deletes the old ones."""
        # a bus that did not answer just now may do so again
        lacking: dict[Any, Any] = dict(find_missing_silences(stored.by_bus.get(bus.name, {}), kept))
        pipe = bus.pipeline(transaction=True)
        pipe.hset(NOTIFIER_SILENCES, mapping=lacking)
        if old:
            pipe.hdel(NOTIFIER_SILENCES, *old)
        return pipe.execute()

    _, failed = await ask_buses(buses, write)
    return failed


def _make_silence(
    patterns: tuple[str, ...], tags: tuple[str, ...], for_sec: float, *, by: str, why: str
) -> Silence:
    """Return the silence that the options describe. Raises BadParameter if they are invalid."""
    if not patterns and not tags:
        raise typer.BadParameter("on what? Say a service, a pattern or --tag; '*' is everything")
    if not 0 < for_sec <= _MAX_SEC:
        raise typer.BadParameter("--for: more than nothing, and at most a year")
    now = time.time()
    try:
        return Silence(
            id=secrets.token_hex(3),
            starts_at=now,
            ends_at=now + for_sec,
            author=by,
            reason=why,
            changed_at=now,
            services=patterns,
            tags=tags,
        )
    except ValidationError as error:
        option = {"reason": "--why", "services": "PATTERN", "tags": "--tag"}
        wrong = {option.get(str(each["loc"][0]), str(each["loc"][0])): each["msg"] for each in error.errors()}
        raise typer.BadParameter("; ".join(f"{name}: {what}" for name, what in wrong.items())) from None


async def _add_silence(made: Silence, data: Path) -> list[str]:
    """Write a silence to every bus; return which services it mutes and until when, in lines for people.

    Raises Exit, code 2, for a name that the truth does not have; a pattern may match nothing yet.
    """
    async with open_fleet(data) as fleet:
        _require_known_names(made, fleet)
        buses = fleet.buses()
        failed = await write_silence(buses, await read_silences(buses), made, made.starts_at)
        length = format_duration(made.ends_at - made.starts_at)
        return [
            f"silence {made.id} until {format_moment(made.ends_at, made.starts_at)}, {length} from now",
            _describe_matches(made, fleet),
            *describe_refusals(failed),
        ]


async def _end_silence(ident: str, data: Path) -> list[str]:
    """End a silence on every bus; return the outcome in lines for people.

    Raises Exit, code 2, if there is no such silence.
    """
    async with open_fleet(data) as fleet:
        buses, now = fleet.buses(), time.time()
        stored = await read_silences(buses)
        found = stored.silences.get(ident)
        if found is None:
            known = [each.id for each in stored.silences.values() if not each.has_ended(now)]
            hint = f"those there are: {', '.join(known)}" if known else "there is none in force"
            raise Exit(Code.CONFIGURATION, f"no silence has the id {ident}; {hint}")
        head = f"silence {ident} on {describe_targets(found)} is over"
        if found.has_ended(now):
            return [f"{head} since {format_moment(found.ends_at, now)}"]
        failed = await write_silence(buses, stored, found.end_at(now), now)
        return [f"{head}: notifications on what is still down are sent", *describe_refusals(failed)]


async def _read_from_fleet(data: Path) -> StoredSilences:
    """Read the silences of the fleet that the folder `data` or the environment names."""
    async with open_fleet(data) as fleet:
        return await read_silences(fleet.buses())


def _require_known_names(silence: Silence, fleet: FleetView) -> None:
    """Raise Exit, code 2, if a service is named that the truth does not have; suggest the nearest name."""
    if fleet.found is None:
        return
    known = _tags_by_name(fleet)
    for name in silence.services:
        if name not in known and not set(name) & set("*?["):
            near = find_nearest(name, known)
            hint = f"; did you mean {near}?" if near else ""
            raise Exit(Code.CONFIGURATION, f"no silence was set: the truth names no {name}{hint}")


def _describe_matches(silence: Silence, fleet: FleetView) -> str:
    """Return which services, buses and probe targets of the truth a silence matches now."""
    targets = describe_targets(silence)
    if fleet.found is None:
        return f"on {targets}; there is no truth that tells which services these are"
    tags = _tags_by_name(fleet)
    matched = [name for name in tags if silence.matches(name, tags[name])]
    if matched:
        more = f" and {len(matched) - _SERVICES_NAMED} more" if len(matched) > _SERVICES_NAMED else ""
        return f"on {', '.join(matched[:_SERVICES_NAMED])}{more}"
    known = {*tags, *(tag for each in tags.values() for tag in each)}
    near = next(
        filter(None, (find_nearest(word, known) for word in (*silence.services, *silence.tags))), None
    )
    return f"on nothing: nothing in the truth is {targets}" + (f"; did you mean {near}?" if near else "")


def _tags_by_name(fleet: FleetView) -> dict[str, tuple[str, ...]]:
    """Return the tags of every service, bus and probe target that a notification can be about, by name."""
    truth = fleet.truth
    tags: dict[str, tuple[str, ...]] = dict.fromkeys([watch.svc for watch in truth.watched()], ())
    tags |= dict.fromkeys(truth.bus_names(), ())
    tags |= {svc: service.tags for svc, service in truth.services.items()}
    return tags | {target.svc: target.tags for target in find_probe_targets(truth)}


def _draw_table(shown: Sequence[Silence], now: float) -> Table:
    """Return the table of silences, with the time that each has left at `now`."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("id", "until", "left"):
        table.add_column(head, no_wrap=True)
    for head in ("on", "by", "why"):
        table.add_column(head, overflow="fold")
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
