# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm seed`: a truth put on all its buses, by hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketswarm.cli.options import DATA, Data

if TYPE_CHECKING:
    from marketswarm.truth import Truth

_ANSWER_WITHIN_SEC = 5.0


def seed(
    file: Annotated[Path, typer.Argument(envvar="TRUTH_PATH", help="The truth.")] = Path("truth.json"),
    data: Data = DATA,
) -> None:
    """Put a truth on both buses, or on none; running agents follow it within a second."""
    import asyncio

    from marketswarm.cli import paper

    for line in asyncio.run(_seed(file, data)):
        paper.line(line)


async def _seed(file: Path, data: Path) -> list[str]:
    """Seeds; what became of it, in lines for a person."""
    import socket

    from marketswarm import log
    from marketswarm.cli.document import read
    from marketswarm.cli.sight import opened
    from marketswarm.exit import Exit
    from marketswarm.seeding import Unseeded, seed, summary, wait_until_all_answer
    from marketswarm.settings import Common
    from marketswarm.settings import read as read_settings

    settings = read_settings(Common)
    log.configure("seed", settings)
    raw, loaded = read(file)
    async with opened(data, loaded.truth) as buses:
        try:
            await wait_until_all_answer(buses, _ANSWER_WITHIN_SEC)
            by = f"marketswarm@{socket.gethostname()}"
            seeding = await seed(raw, buses, by, key=settings.truth_redis_key)
        except Unseeded as error:
            raise Exit(error.code, f"not seeded: {error}") from None
        return [*summary(seeding, str(file), [bus.name for bus in buses]), *_users(loaded.truth, file, data)]


def _users(truth: "Truth", file: Path, data: Path) -> list[str]:
    """What is left to do where each service has a user on the buses of an embedded fleet."""
    from marketswarm.fleet import folder, guard

    fleet = folder.running(data)
    if fleet is None or not guard.is_behind(truth, data, fleet.keys):
        return []
    return [
        "What services may do on the buses is still as it was. Start the fleet again, or",
        f"marketswarm acl --truth {file} --secrets {data / guard.SECRETS} --make-secrets --out {data}",
        "and then ACL LOAD on each bus, as operator.",
    ]
