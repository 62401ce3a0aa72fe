"""Implement `marketswarm edit`, `pause`, `resume` and `remove`: change what the truth says of one entry."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from marketswarm.cli import output
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.entry_options import (
    TRUTH,
    Contains,
    DependsOn,
    Description,
    ExpectStatus,
    NewEvery,
    NewGrace,
    NewMaxRun,
    NewTimeout,
    Schedule,
    Severity,
    Tags,
    TruthFile,
    Yes,
    Zone,
    to_numbers,
    to_tuple,
)
from marketswarm.cli.options import Data, Json, complete_service
from marketswarm.cli.truth_change import carry_out, confirm_change, encode_change, find_in_force, plan_change
from marketswarm.truth.document_edit import EntryFields, edit_entry, pause_entry, remove_entry, resume_entry

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The service, as truth.json names it, or the page: massive/shop.",
        autocompletion=complete_service,
    ),
]


def edit(
    name: Name,
    *,
    schedule: Schedule = None,
    zone: Zone = None,
    every: NewEvery = None,
    timeout: NewTimeout = None,
    grace: NewGrace = None,
    max_run: NewMaxRun = None,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="The address of the page.")] = None,
    contains: Contains = None,
    expect_status: ExpectStatus = None,
    description: Description = None,
    tags: Tags = None,
    depends_on: DependsOn = None,
    severity: Severity = None,
    yes: Yes = False,
    as_json: Json = False,
    truth: TruthFile = TRUTH,
    data: Data = DATA,
) -> None:
    """Change what the truth says of a service or a page; a value of '' removes a key.

    Shows what changes, asks, and seeds it. A schedule takes the place of an interval and a timeout, and the
    other way round. Ends with 1 if it was not confirmed.
    """
    fields = EntryFields(
        description=description,
        tags=to_tuple(tags),
        depends_on=to_tuple(depends_on),
        severity=severity,
        every_sec=every,
        timeout_sec=timeout,
        schedule=schedule,
        time_zone=zone,
        grace_sec=grace,
        max_run_sec=max_run,
        url=url,
        contains=contains,
        status=to_numbers(expect_status),
    )
    _change(name, lambda text: edit_entry(text, name, fields), truth, data, yes=yes, as_json=as_json)


def pause(
    name: Name, yes: Yes = False, as_json: Json = False, truth: TruthFile = TRUTH, data: Data = DATA
) -> None:
    """Have the healer not monitor a service, or a page's loss be no alert, until `resume`.

    The truth then says `monitored: false`, of a page `alert: false`. To keep messages away for a while, and
    keep monitoring it, use `silence`. Ends with 1 if it was not confirmed.
    """
    _change(name, lambda text: pause_entry(text, name), truth, data, yes=yes, as_json=as_json)


def resume(
    name: Name, yes: Yes = False, as_json: Json = False, truth: TruthFile = TRUTH, data: Data = DATA
) -> None:
    """Have a service that was paused be monitored again, and a page's loss be an alert again.

    Ends with 1 if it was not confirmed.
    """
    _change(name, lambda text: resume_entry(text, name), truth, data, yes=yes, as_json=as_json)


def remove(
    name: Name, yes: Yes = False, as_json: Json = False, truth: TruthFile = TRUTH, data: Data = DATA
) -> None:
    """Remove a service or a page from the truth; no more messages are sent about it.

    Its keys for pings stay, and are valid again if a service of this name is added: `marketswarm token list`
    shows them. Ends with 1 if it was not confirmed.
    """
    _change(name, lambda text: remove_entry(text, name), truth, data, yes=yes, as_json=as_json)


def _change(
    name: str, edit: Callable[[str], str], path: Path, data: Path, *, yes: bool, as_json: bool
) -> None:
    """Once it is confirmed, write the file at `path` as `edit` returns it, seed it, and print that."""
    planned = plan_change(path, edit, data)
    in_force = find_in_force(planned, data)
    confirm_change(planned, yes=yes, as_json=as_json)
    done = carry_out(planned, in_force, data)
    if as_json:
        output.print_json(encode_change(name, planned, done))
        return
    output.print_lines(done.lines)
