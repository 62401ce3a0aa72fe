"""How every command ends: Ctrl-C and a reader who has had enough are ends as good as any."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from marketswarm.exit import Code, Exit

P = ParamSpec("P")


def ended_well(command: Callable[P, None]) -> Callable[P, None]:
    """The command with Ctrl-C and a broken pipe as quiet ends, code 0."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except KeyboardInterrupt:
            raise Exit(Code.DONE, "") from None
        except BrokenPipeError:
            # else the interpreter would complain about it once more, at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit(Code.DONE, "") from None

    return run
