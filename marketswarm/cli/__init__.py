"""Run the command line, `marketswarm`: one module per command. Results go to stdout, errors to stderr.

Only what `marketswarm check` needs is imported here, because it is run every few seconds and must be cheap.
`app.py` handles all other commands, and every mistake on the command line.
"""

import gc
import os
import sys
import time
from typing import NoReturn

from marketswarm import alive_file


def main() -> NoReturn:
    """Run the command in `sys.argv` and end the process with its exit code."""
    if sys.argv[1:] in (["check"], ["check", "--ready"]):
        check_alive(ready="--ready" in sys.argv)
    gc.disable()  # imports make only objects that stay, so collecting during them is wasted time
    from marketswarm.cli import app  # noqa: PLC0415 - see above

    app.main()


def check_alive(*, ready: bool) -> NoReturn:
    """Print the state of the agent that writes the alive file, and end the process.

    The exit code is 0 if the agent makes progress, 1 if it does not, 2 if there is no file. With `ready`, the
    agent must also have joined.
    """
    code, line = alive_file.check(os.environ, time.monotonic(), ready=ready)
    print(line, file=sys.stderr if code == 2 else sys.stdout)
    sys.exit(code)
