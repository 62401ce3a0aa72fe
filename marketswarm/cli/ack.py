# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm ack`: somebody sees to it."""

from typing import Annotated

import typer

from marketswarm.cli.options import DATA, WITHIN_SEC, By, Data, Within, person


def ack(
    incident: Annotated[
        str, typer.Argument(metavar="INCIDENT", help="A service that is down, or the id of its miss.")
    ],
    by: By = None,
    within: Within = WITHIN_SEC,
    data: Data = DATA,
) -> None:
    """Say that somebody sees to an outage: no reminders and no escalation until it is over."""
    import asyncio

    from marketswarm.cli import paper
    from marketswarm.cli.asking import ask, made
    from marketswarm.operator import Do

    asyncio.run(ask(made(Do.ACK, incident, person(by)), within, data, paper.line))
