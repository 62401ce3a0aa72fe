"""The command line, `marketswarm`: a file a command. Results go to stdout, errors to stderr.

Only what `marketswarm check` needs is imported here: it is run every few seconds and must cost next to
nothing. All other commands, and every mistake on the command line, are for `app.py`.
"""

import gc
import os
import sys
import time
from typing import NoReturn

from marketswarm import alive_file


def main() -> NoReturn:
    """Run a command and end the process with its code."""
    if sys.argv[1:] in (["check"], ["check", "--ready"]):
        check_alive(ready="--ready" in sys.argv)
    gc.disable()  # imports make nothing but objects that stay: to look through them costs a tenth of a beat
    from marketswarm.cli import app  # noqa: PLC0415 - see above

    app.main()


def check_alive(*, ready: bool) -> NoReturn:
    """Print how the agent of the alive file is, and end: 0 for well, 1 for not well, 2 for no file."""
    code, line = alive_file.check(os.environ, time.monotonic(), ready=ready)
    print(line, file=sys.stderr if code == 2 else sys.stdout)
    sys.exit(code)
