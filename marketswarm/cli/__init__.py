"""Run the command line, `marketswarm`: results go to stdout, errors to stderr.

A module holds the commands that belong together.

Only what `marketswarm check` needs is imported here, because it is run every few seconds and must be cheap.
`app.py` handles all other commands, and every mistake on the command line.

Enters: the words of a command, the environment, what the buses hold.
Leaves: text or JSON on stdout, an exit code, and what operators write on the buses.
Never: a traceback for a mistake of the user, or an import of a service that no command is about.
"""

import gc
import os
import sys
import time
from types import ModuleType
from typing import Final, NoReturn

from marketswarm import alive_file
from marketswarm.standard_streams import open_closed_streams

_PLUGINS: Final = "pydantic.plugin._loader"


def main() -> NoReturn:
    """Run the command in `sys.argv` and end the process with its exit code."""
    open_closed_streams()
    if sys.argv[1:] in (["check"], ["check", "--ready"]):
        check_alive(ready="--ready" in sys.argv)
    gc.disable()  # imports make only objects that stay, so collecting during them is wasted time
    _do_without_plugins()
    from marketswarm.cli import app  # noqa: PLC0415 - see above

    app.main()


def _do_without_plugins() -> None:
    """Put a module in the place of the one by which pydantic looks for plugins; no command uses any.

    That one reads a file of every installed package, for up to a fifth of a command's time. The variable that
    switches it off would reach the programs that commands run.
    """
    if _PLUGINS not in sys.modules:
        loader = ModuleType(_PLUGINS)
        vars(loader)["get_plugins"] = tuple
        sys.modules[_PLUGINS] = loader


def check_alive(*, ready: bool) -> NoReturn:
    """Print the state of the agent that writes the alive file, and end the process.

    The exit code is 0 if the agent makes progress, 1 if it does not, 2 if there is no file. With `ready`, the
    agent must also have joined.
    """
    code, line = alive_file.check(os.environ, time.monotonic(), ready=ready)
    print(line, file=sys.stderr if code == 2 else sys.stdout)
    sys.exit(code)
