"""`marketswarm check` as the list of commands knows it: for `--help` and for mistakes.

A correct `marketswarm check` is answered by `marketswarm.cli.main` and never comes this far.
"""

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
    cli.check_alive(ready=ready)
