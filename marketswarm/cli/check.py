"""`marketswarm check` for `--help` and for mistakes; without one it does not come as far as here."""

from typing import Annotated

import typer

from marketswarm import cli


def check(
    *,
    ready: Annotated[
        bool,
        typer.Option("--ready", help="Ask whether it has joined: it has the truth, and a bus took a beat."),
    ] = False,
) -> None:
    """For health checks: does the agent here, whose MARKETSWARM_ALIVE_FILE this is, make progress?"""
    cli.answer(ready=ready)
