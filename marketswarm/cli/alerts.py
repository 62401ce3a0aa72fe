# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm alerts`: what the healer says, as it says it."""

from pathlib import Path
from typing import Annotated

import typer

from marketswarm.cli.options import DATA, Data, Json, duration


def alerts(
    since: Annotated[
        float | None,
        typer.Option("--since", parser=duration, metavar="1h", help="Begin that long ago: 30s, 10m, 1h, 2d."),
    ] = None,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Follow the alerts: misses, recoveries, lost buses. Ctrl-C ends it.

    They are read from the durable log, so a bus that restarts loses none.
    """
    import asyncio

    asyncio.run(_run(since, data, as_json))


async def _run(since: float | None, data: Path, as_json: bool) -> None:
    """Follows until Ctrl-C, or until whoever reads has had enough."""
    import asyncio

    from marketswarm.cli import paper

    follow = asyncio.ensure_future(_follow(since, data, as_json))
    gone = asyncio.ensure_future(paper.reader_gone())
    try:
        await asyncio.wait((follow, gone), return_when=asyncio.FIRST_COMPLETED)
        if follow.done():
            follow.result()
    finally:
        for task in (follow, gone):
            task.cancel()
        await asyncio.gather(follow, gone, return_exceptions=True)


async def _follow(since: float | None, data: Path, as_json: bool) -> None:
    from marketswarm.cli import paper
    from marketswarm.cli.log_stream import follow
    from marketswarm.cli.sight import sight
    from marketswarm.cli.words import sentence

    async with sight(data) as fleet:
        async for raw, event in await follow(fleet.buses(), since):
            if as_json:
                paper.raw(raw)
            else:
                bad = str(event.get("type")).endswith(("miss", "drift"))
                paper.line(sentence(event), "31" if bad else "32")
