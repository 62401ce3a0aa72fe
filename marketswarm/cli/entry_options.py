"""Define the options by which a service or a page of the truth is described."""

from pathlib import Path
from typing import Annotated, Final

import typer

from marketswarm.cli.options import parse_duration

TRUTH: Final = Path("truth.json")


def _make_duration(name: str, example: str, what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        name, parser=parse_duration, metavar=example, help=what, show_default=False
    )
    return option


Every = Annotated[float | None, _make_duration("--every", "60s", "How often it beats, runs or is probed.")]
Timeout = Annotated[
    float | None,
    _make_duration("--timeout", "3m", "After how long a silence it is down; of a page, a probe."),
]
Grace = Annotated[
    float | None, _make_duration("--grace", "1h", "How long after its time a run may be reported.")
]
MaxRun = Annotated[
    float | None, _make_duration("--max-run", "2h", "How long a run may take that reported its start.")
]
Schedule = Annotated[
    str | None,
    typer.Option("--schedule", metavar="WHEN", help="When it runs: '0 3 * * *', '@daily', 'Mon..Fri 18:30'."),
]
Zone = Annotated[
    str | None, typer.Option("--zone", metavar="ZONE", help="The time zone of the schedule: Europe/Berlin.")
]
Description = Annotated[
    str | None, typer.Option("--description", metavar="TEXT", help="What it is for, in one line.")
]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="TAG", help="A word by which routes choose it; repeatable.", show_default=False
    ),
]
DependsOn = Annotated[
    list[str] | None,
    typer.Option(
        "--depends-on", metavar="SVC", help="What it needs to work; repeatable.", show_default=False
    ),
]
Severity = Annotated[
    str | None, typer.Option("--severity", metavar="WORD", help="info, warning or critical.")
]
Contains = Annotated[
    str | None, typer.Option("--contains", metavar="TEXT", help="A text that must be in the page.")
]
ExpectStatus = Annotated[
    list[str] | None,
    typer.Option(
        "--expect-status",
        metavar="NUMBER",
        help="An HTTP status that is right, instead of 200 to 299; repeatable.",
        show_default=False,
    ),
]
TruthFile = Annotated[
    Path, typer.Option("--truth", envvar="TRUTH_PATH", metavar="FILE", help="The truth to change.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def to_tuple(words: list[str] | None) -> tuple[str, ...] | None:
    """Return the values of a repeatable option; None if it was not given, nothing for one empty value."""
    return None if words is None else tuple(word for word in words if word)


def to_numbers(words: list[str] | None) -> tuple[int | str, ...] | None:
    """Return the values of a repeatable option as numbers; what is no number stays, to be refused."""
    found = to_tuple(words)
    return None if found is None else tuple(int(word) if word.isdecimal() else word for word in found)
