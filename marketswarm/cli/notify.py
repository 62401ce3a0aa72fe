# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm notify test`: do messages reach people? Through the real queue, with the real answers."""

from typing import Annotated

import typer

from marketswarm.cli.ending import ended_well
from marketswarm.cli.options import DATA, WITHIN_SEC, By, Data, Within, person

notify = typer.Typer(
    name="notify", help="Try how people are told.", no_args_is_help=True, add_completion=False
)


def send_test(
    channel: Annotated[
        str | None, typer.Argument(metavar="[CHANNEL]", help="One channel; all without it.")
    ] = None,
    by: By = None,
    within: Within = WITHIN_SEC,
    data: Data = DATA,
) -> None:
    """Send a test message through the notifier's own queue, and show what each receiver answered."""
    import asyncio

    from marketswarm.cli import paper
    from marketswarm.cli.asking import ask, made
    from marketswarm.operator import ALL, Do

    asyncio.run(ask(made(Do.TEST, channel or ALL, person(by)), within, data, paper.line))


notify.command(name="test")(ended_well(send_test))


@notify.callback()
def _group() -> None:
    pass
