"""Define `marketswarm check` for the list of commands, `--help` and wrong arguments.

With correct arguments `marketswarm.cli.main` answers it, and this module is not imported.
"""

import os
import time
from typing import Annotated

from marketswarm import alive_file, cli
from marketswarm.cli import output
from marketswarm.cli.options import Json, flag
from marketswarm.exit import Code, Exit


def check(
    *,
    ready: Annotated[
        bool, flag("--ready", "Ask whether it has joined: it has the truth, and a bus took a beat.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print whether the agent that writes MARKETSWARM_ALIVE_FILE makes progress: for health checks.

    JSON has `ok`, and `said`: the line for people.
    """
    if as_json:
        code, line = alive_file.check(os.environ, time.monotonic(), ready=ready)
        output.print_json({"ok": code == Code.DONE, "said": line})
        raise Exit(code, "")
    cli.check_alive(ready=ready)
