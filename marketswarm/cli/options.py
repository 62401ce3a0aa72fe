"""Options that several commands share, and how they are read."""

import re
from pathlib import Path
from typing import Annotated

import typer

_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def duration(text: str | float) -> float:
    """`90`, `30s`, `10m`, `1h`, `2d` in seconds; a number, which an option's default is, as it is."""
    if isinstance(text, float):
        return text
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise typer.BadParameter(f"{text!r} is no duration; one is 30s, 10m, 1h or 2d")
    return float(match[1]) * _UNITS[match[2]]


def person(name: str | None) -> str:
    """Who does it: the name that was given, else that of the login. Raises BadParameter when neither is."""
    import getpass  # noqa: PLC0415 - few commands ask

    try:
        return _shown(name or getpass.getuser())
    except (OSError, KeyError):
        raise typer.BadParameter("this login has no name: say --by NAME") from None


def _shown(name: str) -> str:
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise typer.BadParameter("--by: a name has 1 to 200 letters")
    return name.strip()


Data = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="MARKETSWARM_DATA",
        metavar="DIR",
        help="Folder with the data of the embedded fleet.",
    ),
]
DATA = Path(".marketswarm")

Json = Annotated[bool, typer.Option("--json", help="For programs: JSON.")]

By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who does it; your login's name without.")
]

Within = Annotated[
    float,
    typer.Option(
        "--within",
        parser=duration,
        metavar="30s",
        show_default=False,
        help="How long to wait for the notifier's answer; 30s without.",
    ),
]
WITHIN_SEC = 30.0
