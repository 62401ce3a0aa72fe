"""The operator's hand: `marketswarm`, a file a command. Results on stdout, plain words on stderr.

Nothing is imported here but for `marketswarm check`, which is run every few seconds and must cost next to
nothing. All other commands, and every mistake on the command line, are for `app.py`.
"""

import os
import sys
import time
from typing import NoReturn

from marketswarm import alive_file


def main() -> NoReturn:
    """The entry point: runs a command and ends the process with its code (CONTRACTS §7)."""
    if sys.argv[1:] in (["check"], ["check", "--ready"]):
        answer(ready="--ready" in sys.argv)
    from marketswarm.cli import app  # noqa: PLC0415 - see above

    app.main()


def answer(*, ready: bool) -> NoReturn:
    """End with what the sign of life says: 0 is well, 1 is not, 2 has nothing to look at."""
    code, line = alive_file.check(os.environ, time.monotonic(), ready=ready)
    print(line, file=sys.stderr if code == 2 else sys.stdout)
    sys.exit(code)
