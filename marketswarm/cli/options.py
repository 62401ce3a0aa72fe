"""Define the options and arguments that several commands share, and parse their values."""

import getpass
import re
from pathlib import Path
from typing import Annotated

import typer

from marketswarm.cli.data_folder import DATA

_UNITS_SEC = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_SERVICE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
WITHIN_SEC = 30.0


def parse_duration(text: str | float) -> float:
    """Parse `90`, `30s`, `10m`, `1h`, `2d`, `2w` or `1y` into seconds; return a number (a default) unchanged.

    A year has 365 days.
    """
    if isinstance(text, float):
        return text
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in _UNITS_SEC:
        raise typer.BadParameter(f"{text!r} is not a duration; write 30s, 10m, 1h, 2d, 2w or 1y")
    return float(match[1]) * _UNITS_SEC[match[2]]


def require_service_name(svc: str, argument: str = "SVC") -> None:
    """Raise BadParameter, for the argument named `argument`, unless `svc` is a possible service name."""
    if not _SERVICE_NAME.fullmatch(svc):
        raise typer.BadParameter(
            f"{svc!r} is not a name: a letter, then up to 62 letters, digits or _ . -", param_hint=argument
        )


def author_name(given: str | None) -> str:
    """Return the name of the command's author: the value of --by, otherwise the login's name.

    Raises BadParameter if there is neither, or it can't be shown on one line.
    """
    try:
        name = given or getpass.getuser()
    except (OSError, KeyError):
        raise typer.BadParameter("this login has no name: say --by NAME") from None
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise typer.BadParameter("--by: a name has 1 to 200 letters")
    return name.strip()


def complete_service(context: typer.Context, incomplete: str) -> list[str]:
    from marketswarm.cli import completion  # noqa: PLC0415 - for a shell that completes alone

    return completion.list_services(incomplete, context.params.get("data") or DATA)


def complete_channel(context: typer.Context, incomplete: str) -> list[str]:
    from marketswarm.cli import completion  # noqa: PLC0415 - for a shell that completes alone

    return completion.list_channels(incomplete, context.params.get("data") or DATA)


Svc = Annotated[
    str,
    typer.Argument(
        metavar="SVC", help="The service, as truth.json names it.", autocompletion=complete_service
    ),
]

Data = Annotated[
    Path,
    typer.Option(
        "--data", envvar="MARKETSWARM_DATA", metavar="DIR", help="Folder with the data of the embedded fleet."
    ),
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who does it; by default your login's name.")
]

Within = Annotated[
    float,
    typer.Option(
        "--within",
        parser=parse_duration,
        metavar="30s",
        show_default=False,
        help="How long to wait for the notifier's answer; 30s by default.",
    ),
]
