# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm seed`: a truth put on all its buses, by hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketswarm.cli.options import DATA, Data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marketswarm.bus import Bus
    from marketswarm.truth import Truth

_ANSWER_WITHIN_SEC = 5.0
_REMEDY = "its users are old. In containers `make seed` renews them, elsewhere `marketswarm acl` and ACL LOAD"
_USERS_WITHIN_SEC = 2.0  # whoever loads them did so before; a server that restarts is back soon


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
    """Seed a truth file into its buses; return what changed, and warnings, as lines to print."""
    import socket

    from marketswarm import log
    from marketswarm.cli.document import read
    from marketswarm.cli.sight import opened
    from marketswarm.exit import Exit
    from marketswarm.seeding import (
        Unseeded,
        seed,
        summary,
        wait_until_all_answer,
        wait_until_watchable,
    )
    from marketswarm.settings import Common
    from marketswarm.settings import read as read_settings

    settings = read_settings(Common)
    log.configure("seed", settings)
    raw, loaded = read(file)
    async with opened(data, loaded.truth) as buses:
        try:
            await wait_until_all_answer(buses, _ANSWER_WITHIN_SEC)
            # users first: a service that is new must be let in before it is told of
            new_users = await _renew_users(loaded.truth, data, buses, keep=True)
            refused = await wait_until_watchable(buses, loaded.truth, _USERS_WITHIN_SEC)
            by = f"marketswarm@{socket.gethostname()}"
            seeding = await seed(raw, buses, by, key=settings.truth_redis_key)
            new_users |= await _renew_users(loaded.truth, data, buses, keep=False)
        except Unseeded as error:
            raise Exit(error.code, f"not seeded: {error}") from None
        warnings = [
            f"  ! the healer may not hear {', '.join(services)} on {bus}: {_REMEDY}"
            for bus, services in refused.items()
        ]
        lines = summary(seeding, str(file), [bus.name for bus in buses])
        return [*lines, *warnings, *(["  users and passwords follow it"] if new_users else [])]


async def _renew_users(truth: "Truth", data: Path, buses: "Sequence[Bus]", *, keep: bool) -> bool:
    """Where each service has a user on the buses of an embedded fleet: let in those of this truth."""
    from marketswarm.bus import BusError
    from marketswarm.exit import Code, Exit
    from marketswarm.fleet import folder, guard

    fleet = folder.running(data)
    if fleet is None:
        return False
    try:
        new = await guard.renew(truth, data, {bus: fleet.buses[bus] for bus in fleet.keys}, keep=keep)
    except BusError as error:
        raise Exit(Code.NO_BUS, f"{'not seeded: ' if keep else ''}users were not loaded: {error}") from None
    except OSError as error:
        raise Exit(Code.CONFIGURATION, f"users: {error.filename or data}: {error.strerror}") from None
    if new:  # whoever was connected, we too, is cut off by that
        for bus in buses:
            await bus.pool.disconnect()
    return new
