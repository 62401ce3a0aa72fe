# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm seed`: a truth put on all its buses, by hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketswarm.cli.options import DATA, Data

if TYPE_CHECKING:
    from marketswarm.seeding import Seeding

_ANSWER_WITHIN_SEC = 5.0


def seed(
    file: Annotated[Path, typer.Argument(envvar="TRUTH_PATH", help="The truth.")] = Path("truth.json"),
    data: Data = DATA,
) -> None:
    """Put a truth on both buses, or on none; running agents follow it within a second."""
    import asyncio

    from marketswarm.cli import paper

    for line in summary(asyncio.run(_seed(file, data)), file):
        paper.line(line)


async def _seed(file: Path, data: Path) -> "Seeding":
    import socket

    from marketswarm import log
    from marketswarm.cli.document import read
    from marketswarm.cli.sight import opened
    from marketswarm.exit import Code, Exit
    from marketswarm.seeding import Unseeded, seed, wait_until_all_answer
    from marketswarm.settings import Common
    from marketswarm.settings import read as read_settings

    settings = read_settings(Common)
    log.configure("seed", settings)
    raw, loaded = read(file)
    async with opened(data, loaded.truth) as buses:
        try:
            await wait_until_all_answer(buses, _ANSWER_WITHIN_SEC)
            by = f"marketswarm@{socket.gethostname()}"
            return await seed(raw, buses, by, key=settings.truth_redis_key)
        except Unseeded as error:
            raise Exit(Code.NO_BUS, f"not seeded: {error}") from None


def summary(seeding: "Seeding", file: Path) -> Iterator[str]:
    """What a seeding did, for a person."""
    changes = seeding.changes
    if seeding.changed:
        yield f"{file} is revision {seeding.revision} now"
    elif seeding.repaired:
        yield f"{file} is still revision {seeding.revision}; put back on {', '.join(seeding.repaired)}"
    else:
        yield f"{file} is revision {seeding.revision} already: nothing to do"
    yield from (f"  + {svc}" for svc in changes.added)
    yield from (f"  - {svc}" for svc in changes.dropped)
    yield from (f"  ~ {name}: {what}" for name, what in (*changes.changed, *changes.buses))
    if seeding.changed and not changes:
        yield "  the same content, written differently"
