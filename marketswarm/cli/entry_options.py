"""Define the options by which a service or a page of the truth is described, and how it is changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any

from marketswarm.cli.data_folder import DATA
from marketswarm.cli.options import TRUTH, Data, Json, OptionGroup, Yes, option, parse_duration
from marketswarm.truth.document_edit import EntryFields

TruthFile = Annotated[Path, option("--truth", "FILE", "The truth to change.", envvar="TRUTH_PATH")]


@dataclass(frozen=True, slots=True)
class ChangeOptions:
    """How a command changes the truth: without a question, with JSON, in which file and for which fleet."""

    yes: Yes = False
    as_json: Json = False
    truth: TruthFile = TRUTH
    data: Data = DATA


def choose_fields(names: str, parse_time: Callable[..., float | str] = parse_duration) -> OptionGroup:
    """Return the group of the options for these fields of an entry, in this order."""
    known = _list_options(parse_time)
    options = (
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=known[name])
        for name in names.split()
    )
    return OptionGroup(tuple(options), _make_fields)


def _list_options(parse_time: Callable[..., float | str]) -> Mapping[str, Any]:
    """Return the option for each field of an entry."""

    def time(name: str, example: str, what: str) -> Any:
        return Annotated[float | None, option(name, example, what, parser=parse_time)]

    def text(name: str, example: str, what: str) -> Any:
        return Annotated[str | None, option(name, example, what)]

    def texts(name: str, example: str, what: str) -> Any:
        return Annotated[list[str] | None, option(name, example, f"{what}; repeatable.")]

    return {
        "every_sec": time("--every", "60s", "How often it beats, runs or is probed."),
        "timeout_sec": time("--timeout", "3m", "After how long a silence it is down; of a page, a probe."),
        "grace_sec": time("--grace", "1h", "How long after its time a run may be reported."),
        "max_run_sec": time("--max-run", "2h", "How long a run may take that reported its start."),
        "schedule": text("--schedule", "WHEN", "When it runs: '0 3 * * *', '@daily', 'Mon..Fri 18:30'."),
        "time_zone": text("--zone", "ZONE", "The time zone of the schedule: Europe/Berlin."),
        "description": text("--description", "TEXT", "What it is for, in one line."),
        "tags": texts("--tag", "TAG", "A word by which routes choose it"),
        "depends_on": texts("--depends-on", "SVC", "What it needs to work"),
        "severity": text("--severity", "WORD", "info, warning or critical."),
        "url": text("--url", "URL", "The address of the page."),
        "contains": text("--contains", "TEXT", "A text that must be in the page."),
        "status": texts("--expect-status", "NUMBER", "An HTTP status that is right, instead of 200 to 299"),
    }


def _make_fields(**given: Any) -> EntryFields:
    """Return the values of options as fields; an HTTP status that is not a number stays, to be refused.

    A repeatable option becomes a tuple, which is empty for one empty value.
    """
    found: dict[str, Any] = {
        name: tuple(filter(None, value)) if isinstance(value, list) else value
        for name, value in given.items()
    }
    if found.get("status"):
        found["status"] = tuple(int(word) if word.isdecimal() else word for word in found["status"])
    return EntryFields(**found)
