"""The data folder of the embedded fleet, its database, and commands to type next that name the folder."""

import os
import shlex
from pathlib import Path
from typing import Final

from marketswarm.exit import Mistake

DATA: Final = Path(".marketswarm")


def read_database(data: Path, user: str = "") -> tuple[str, Path]:
    """Return the URL of the database that runs in a data folder, and the folder of its programs.

    `user` is whose URL that is, such as `signals`; by default that of the owner. Raises Mistake if there is
    none.
    """
    server = data / "postgres"
    try:
        url = (server / (f"{user}-url" if user else "url")).read_text("utf-8").strip()
        return url, Path((server / "programs").read_text("utf-8").strip())
    except OSError:
        what_to_do = "start the fleet, name its folder by --data, or set DATABASE_URL"
        raise Mistake(f"there is no database in {data}: {what_to_do}") from None


def suggest_command(command: str, data: Path) -> str:
    """Return what a person may type next, in backquotes: `marketswarm dead --data DIR`.

    Args:
        command: the command and its arguments, without the program: `dead`.
        data: the data folder of this call. It is left out where the next call finds it without --data.
    """
    known = data == Path(os.environ.get("MARKETSWARM_DATA") or DATA)
    return f"`marketswarm {command}`" if known else f"`marketswarm {command} --data {shlex.quote(str(data))}`"
