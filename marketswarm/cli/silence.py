"""Implement `marketswarm silence`, `silences` and `unsilence`: mute notifications on services for a while."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
import typer
from pydantic import ValidationError

from marketswarm.cli import output
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import FleetView, ask_fleet, describe_away, describe_refusals
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.notification_text import describe_targets
from marketswarm.cli.options import (
    By,
    Data,
    Json,
    argument,
    author_name,
    flag,
    option,
    service_argument,
    time_option,
)
from marketswarm.cli.tables import OVER, show
from marketswarm.exit import Mistake
from marketswarm.operator.silences import (
    MAX_SILENCE_SEC,
    NO_REASON,
    Silence,
    create_silence,
    find_unknown_target,
    list_targets,
    match_targets,
    read_silences,
    write_silence,
)
from marketswarm.text import format_duration, format_names
from marketswarm.truth import describe_unknown, find_nearest, suggest_name

_SERVICES_NAMED = 12  # the others that a silence matches are counted


def silence(
    patterns: Annotated[
        list[str] | None,
        service_argument("PATTERN", "Services, by name or pattern: rss_agg, 'feed-*'."),
    ] = None,
    *,
    for_sec: Annotated[float, time_option("--for", "2h", "For how long: 30m, 2h, 1d.")],
    why: Annotated[
        str, option("--why", "TEXT", "The reason, for other people.", show_default=False)
    ] = NO_REASON,
    tags: Annotated[
        list[str] | None, option("--tag", "TAG", "Services with this tag too; repeatable.")
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
    added = ask_fleet(data, lambda fleet: _add_silence(made, fleet))
    record = _encode_silence(made, made.starts_at) | {"matched": added.matched, "failed": added.failed}
    output.print_result(record, added.lines, as_json=as_json)
    if added.warning:
        output.print_error(added.warning)


def unsilence(
    ident: Annotated[str, argument("ID", "Which, as `marketswarm silences` shows it.")],
    data: Data = DATA,
) -> None:
    """End a silence now; notifications on what is still down are sent at once."""
    output.print_lines(ask_fleet(data, lambda fleet: _end_silence(ident, fleet)))


def silences(
    every: Annotated[bool, flag("--all", "Also silences that have ended, for a month.")] = False,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show the silences that are in force, the one that ends first at the top."""
    stored, now = ask_fleet(data, lambda fleet: read_silences(fleet.buses())), time.time()
    shown = sorted(
        (each for each in stored.silences.values() if every or not each.has_ended(now)),
        key=lambda each: each.ends_at,
    )
    show(
        shown,
        {
            "id": lambda each: each.id,
            "until": lambda each: format_moment(each.ends_at, now),
            "left": lambda each: OVER if each.has_ended(now) else format_duration(each.ends_at - now),
            "on": describe_targets,
            "by": lambda each: each.author,
            "why": lambda each: each.reason,
        },
        whole=("id", "until", "left"),
        as_json=as_json,
        encode=lambda each: _encode_silence(each, now),
        empty="no silence is in force",
    )
    if not as_json:
        output.print_lines(describe_away(stored.failed), output.YELLOW)


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


async def _add_silence(made: Silence, fleet: FleetView) -> AddedSilence:
    targets = None if fleet.found is None else list_targets(fleet.truth)
    if targets is not None and (unknown := find_unknown_target(made, targets)) is not None:
        raise Mistake(f"no silence was set: {describe_unknown(unknown, targets)}")
    buses, on = fleet.buses(), describe_targets(made)
    failed = await write_silence(buses, await read_silences(buses), made, made.starts_at)
    length = format_duration(made.ends_at - made.starts_at)
    lines = [f"silence {made.id} until {format_moment(made.ends_at, made.starts_at)}, {length} from now"]
    matched = None if targets is None else match_targets(made, targets)
    warning = ""
    if targets is None:
        lines.append(f"on {on}; there is no truth that tells which services these are")
    elif matched:
        lines.append(f"on {format_names(matched, _SERVICES_NAMED)}")
    else:
        warning = f"it is on nothing: nothing in the truth is {on}{_suggest_target(made, targets)}"
    return AddedSilence([*lines, *describe_refusals(failed)], warning, matched, failed)


def _suggest_target(silence: Silence, targets: Mapping[str, Sequence[str]]) -> str:
    """Return which name or tag was perhaps meant by a silence that matches none."""
    known = {*targets, *(tag for each in targets.values() for tag in each)}
    near = (find_nearest(word, known) for word in (*silence.services, *silence.tags))
    return next((f"; did you mean {each}?" for each in near if each), "")


async def _end_silence(ident: str, fleet: FleetView) -> list[str]:
    buses, now = fleet.buses(), time.time()
    stored = await read_silences(buses)
    found = stored.silences.get(ident)
    if found is None:
        known = [each.id for each in stored.silences.values() if not each.has_ended(now)]
        hint = suggest_name(ident, known, "those there are:") if known else "there is none in force"
        raise Mistake(f"no silence has the id {ident}; {hint}")
    head = f"silence {ident} on {describe_targets(found)}"
    if found.has_ended(now):
        return [f"{head} ended at {format_moment(found.ends_at, now)}"]
    failed = await write_silence(buses, stored, found.end_at(now), now)
    return [f"{head} has ended: notifications on what is still down are sent", *describe_refusals(failed)]
