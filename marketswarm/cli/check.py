"""Define `marketswarm check` for the list of commands, `--help` and wrong arguments.

With correct arguments `marketswarm.cli.main` answers it, and this module is not imported.
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
    """Print whether the agent that writes MARKETSWARM_ALIVE_FILE makes progress: for health checks."""
    cli.check_alive(ready=ready)
