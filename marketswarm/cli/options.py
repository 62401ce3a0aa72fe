"""Define the options and arguments that several commands share, and parse their values."""

import getpass
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, Self

import typer

from marketswarm.cli.completion import complete_service
from marketswarm.exit import Exit, Mistake

_UNITS_SEC = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_SERVICE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
TRUTH = Path("truth.json")
WITHIN_SEC = 30.0
NOT_CONFIRMED = 1
"""The exit code if a person was asked, and did not say yes."""


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


def require_yes(question: str, undone: str, *, yes: bool, may_ask: bool = True) -> None:
    """Return if `yes` was given, or a person at the terminal says yes.

    Raises Exit, code 2 if nobody can be asked, NOT_CONFIRMED for another answer; its message begins with
    `undone`: what was not done.
    """
    if yes:
        return
    if not may_ask or not sys.stdin.isatty():
        raise Mistake(f"{undone}: no terminal; pass --yes to confirm")
    if not typer.confirm(question, err=True):
        raise Exit(NOT_CONFIRMED, undone)


def option(name: str, metavar: str, what: str, **more: Any) -> Any:
    """Return the definition of an option with a value, which help and errors call `metavar`."""
    return typer.Option(name, metavar=metavar, help=what, **more)


def time_option(name: str, example: str, what: str, **more: Any) -> Any:
    """Return the definition of an option whose value is a duration, in seconds when it is parsed."""
    return option(name, example, what, parser=parse_duration, **more)


def port_option(name: str, what: str, **more: Any) -> Any:
    """Return the definition of an option whose value is a port."""
    return option(name, "N", what, min=1, max=65_535, **more)


def flag(name: str, what: str, *short: str) -> Any:
    """Return the definition of an option without a value; `short` is its name of one letter."""
    return typer.Option(name, *short, help=what)


def argument(metavar: str, what: str, **more: Any) -> Any:
    """Return the definition of an argument, which help and errors call `metavar`."""
    return typer.Argument(metavar=metavar, help=what, **more)


def service_argument(metavar: str, what: str) -> Any:
    """Return the definition of an argument that a shell completes to the name of a service."""
    return argument(metavar, what, autocompletion=complete_service)


def service_option(name: str, what: str) -> Any:
    """Return the definition of an option whose value a shell completes to the name of a service."""
    return option(name, "SVC", what, show_default=False, autocompletion=complete_service)


@dataclass(frozen=True, slots=True)
class OptionGroup:
    """Options that commands take together: `make` turns their values into the one value that a command gets.

    A parameter of a command that is annotated with a group stands for all of its options, in their order.
    """

    options: tuple[Parameter, ...]
    make: Callable[..., Any]

    @classmethod
    def of(cls, make: Callable[..., Any]) -> Self:
        """Return the group of the options that a function, or a dataclass, takes."""
        return cls(tuple(signature(make, eval_str=True).parameters.values()), make)


def expand_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with the options of its groups in its signature, each group in its place."""
    given = signature(command, eval_str=True)
    groups = {
        name: group
        for name, each in given.parameters.items()
        for group in getattr(each.annotation, "__metadata__", ())
        if isinstance(group, OptionGroup)
    }

    @wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group.make(**{each.name: values.pop(each.name) for each in group.options})
        command(**values)

    expanded = [
        each.replace(kind=Parameter.KEYWORD_ONLY)
        for name, own in given.parameters.items()
        for each in (groups[name].options if name in groups else (own,))
    ]
    vars(run)["__signature__"] = given.replace(parameters=expanded)
    return run


Svc = Annotated[str, service_argument("SVC", "The service, as truth.json names it.")]

Data = Annotated[
    Path, option("--data", "DIR", "Folder with the data of the embedded fleet.", envvar="MARKETSWARM_DATA")
]

Json = Annotated[bool, flag("--json", "Print JSON, for programs.")]

Yes = Annotated[bool, flag("--yes", "Do not ask.", "-y")]

By = Annotated[str | None, option("--by", "NAME", "Who does it; by default your login's name.")]

Within = Annotated[
    float,
    time_option(
        "--within", "30s", "How long to wait for the notifier's answer; 30s by default.", show_default=False
    ),
]
