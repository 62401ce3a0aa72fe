# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm stop`, `start` and `kill`: one agent of the embedded fleet in this folder."""

from pathlib import Path
from typing import Annotated

import typer

from marketswarm.cli.options import DATA, Data

Svc = Annotated[str, typer.Argument(metavar="SVC", help="The service, as the truth names it.")]


def stop(svc: Svc, data: Data = DATA) -> None:
    """Stop an agent of the embedded fleet; it stays stopped until `start`."""
    typer.echo(act("stop", svc, data))


def start(svc: Svc, data: Data = DATA) -> None:
    """Start an agent of the embedded fleet that was stopped, or waits to be started again."""
    typer.echo(act("start", svc, data))


def kill(svc: Svc, data: Data = DATA) -> None:
    """Kill an agent of the embedded fleet (-9); it is started again once it was missed."""
    typer.echo(act("kill", svc, data))


def act(action: str, svc: str, data: Path) -> str:
    """Asks the fleet that runs in folder `data`; what it says to it.

    Raises:
        Exit: code 2, when none runs there or it doesn't know the service.
    """
    from marketswarm.exit import Code, Exit
    from marketswarm.fleet import folder
    from marketswarm.fleet.control import NoFleetError, ask

    fleet = folder.running(data)
    if fleet is None:
        raise Exit(
            Code.CONFIGURATION,
            f"no embedded fleet runs in {data}. `marketswarm up` (make run) starts one; one in another "
            f"folder is reached by --data DIR, one under compose by `docker compose {action} {svc}`",
        )
    try:
        done, said = ask(fleet.control, action, svc)
    except NoFleetError as error:
        raise Exit(Code.CONFIGURATION, f"the fleet (pid {fleet.pid}) did not answer: {error}") from None
    if not done:
        raise Exit(Code.CONFIGURATION, said)
    return said
