# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm silence` and `unsilence`: for a while, with a reason, nobody is told of some services."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketswarm.cli.options import DATA, By, Data, duration, person

if TYPE_CHECKING:
    from marketswarm.cli.sight import Sight
    from marketswarm.operator import Silence

_YEAR_SEC = 366 * 86_400.0
_NAMED = 12  # services that a silence is said to be on; more are counted


def silence(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATTERN", help="Services, by name or pattern: rss_agg, 'feed-*'."),
    ] = None,
    *,
    for_sec: Annotated[
        float, typer.Option("--for", parser=duration, metavar="2h", help="For how long: 30m, 2h, 1d.")
    ],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for whoever wonders.")],
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Services with this tag too; repeatable.")
    ] = None,
    by: By = None,
    data: Data = DATA,
) -> None:
    """Tell nobody of some services for a while; what is still down at the end is told then.

    The healer goes on publishing every miss; only notifications rest.
    """
    import asyncio
    import time

    from marketswarm.cli import paper

    made = _made(tuple(patterns or ()), tuple(tags or ()), (time.time(), for_sec), person(by), why.strip())
    for line in asyncio.run(_silence(made, data)):
        paper.line(line)


def unsilence(
    ident: Annotated[str, typer.Argument(metavar="ID", help="Which, as `marketswarm silences` shows it.")],
    data: Data = DATA,
) -> None:
    """End a silence now; what is still down is told at once."""
    import asyncio

    from marketswarm.cli import paper

    for line in asyncio.run(_unsilence(ident, data)):
        paper.line(line)


def _made(
    patterns: tuple[str, ...], tags: tuple[str, ...], when: tuple[float, float], by: str, why: str
) -> "Silence":
    """The silence that was asked for. Raises BadParameter when it can't be one."""
    import secrets

    from pydantic import ValidationError

    from marketswarm.operator import Silence

    now, for_sec = when
    if not patterns and not tags:
        raise typer.BadParameter("on what? Say a service, a pattern or --tag; '*' is everything")
    if not 0 < for_sec <= _YEAR_SEC:
        raise typer.BadParameter("--for: more than nothing, and at most a year")
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
        field = {"reason": "--why", "services": "PATTERN", "tags": "--tag"}
        wrong = {field.get(str(each["loc"][0]), str(each["loc"][0])): each["msg"] for each in error.errors()}
        raise typer.BadParameter("; ".join(f"{name}: {what}" for name, what in wrong.items())) from None


async def _silence(made: "Silence", data: Path) -> list[str]:
    """Puts it on every bus; what that comes to, in lines for a person."""
    from marketswarm.cli import held
    from marketswarm.cli.everywhere import missing
    from marketswarm.cli.sight import sight
    from marketswarm.cli.words import moment, seconds

    async with sight(data) as fleet:
        buses = fleet.buses()
        there = await held.read(buses)
        away = await held.put(buses, there, made, made.starts_at)
        length = seconds(made.ends_at - made.starts_at)
        return [
            f"silence {made.id} until {moment(made.ends_at, made.starts_at)}, {length} from now",
            _matched(made, fleet),
            *missing(away),
        ]


async def _unsilence(ident: str, data: Path) -> list[str]:
    import time

    from marketswarm.cli import held
    from marketswarm.cli.everywhere import missing
    from marketswarm.cli.sight import sight
    from marketswarm.cli.silences import on
    from marketswarm.cli.words import moment
    from marketswarm.exit import Code, Exit

    async with sight(data) as fleet:
        buses, now = fleet.buses(), time.time()
        there = await held.read(buses)
        found = there.silences.get(ident)
        if found is None:
            known = [each.id for each in there.silences.values() if not each.over(now)]
            hint = f"those there are: {', '.join(known)}" if known else "there is none in force"
            raise Exit(Code.CONFIGURATION, f"no silence has the id {ident}; {hint}")
        if found.over(now):
            return [f"silence {ident} on {on(found)} is over since {moment(found.ends_at, now)}"]
        away = await held.put(buses, there, found.ended(now), now)
        return [f"silence {ident} on {on(found)} is over: what is still down is told", *missing(away)]


def _matched(made: "Silence", fleet: "Sight") -> str:
    """Whom it is on right now, by the truth."""
    from marketswarm.cli.silences import on
    from marketswarm.truth import nearest, probed

    if fleet.found is None:
        return f"on {on(made)}; there is no truth that tells which services these are"
    truth = fleet.truth
    tags: dict[str, tuple[str, ...]] = dict.fromkeys([watch.svc for watch in truth.watched()], ())
    tags |= dict.fromkeys(truth.bus_names(), ())
    tags |= {svc: service.tags for svc, service in truth.services.items()}
    tags |= {target.svc: target.tags for target in probed(truth)}
    matched = [svc for svc in tags if made.matches(svc, tags[svc])]
    if matched:
        more = f" and {len(matched) - _NAMED} more" if len(matched) > _NAMED else ""
        return f"on {', '.join(matched[:_NAMED])}{more}"
    known = {*tags, *(tag for each in tags.values() for tag in each)}
    near = next(filter(None, (nearest(word, known) for word in (*made.services, *made.tags))), None)
    return f"on nothing: nothing in the truth is {on(made)}" + (f"; did you mean {near}?" if near else "")
