"""The data folder of the embedded fleet, and commands to type next that name it where they must."""

import os
import shlex
from pathlib import Path
from typing import Final

DATA: Final = Path(".marketswarm")


def suggest_command(command: str, data: Path) -> str:
    """Return what a person may type next, in backquotes: `marketswarm dead --data DIR`.

    Args:
        command: the command and its arguments, without the program: `dead`.
        data: the data folder of this call. It is left out where the next call finds it without --data.
    """
    known = data == Path(os.environ.get("MARKETSWARM_DATA") or DATA)
    return f"`marketswarm {command}`" if known else f"`marketswarm {command} --data {shlex.quote(str(data))}`"
