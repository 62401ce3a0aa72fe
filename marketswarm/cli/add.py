"""Implement `marketswarm add`: put a daemon, a job or a web page into the truth, and see it alive."""

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from marketswarm.cli import event_loop, output
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.entry_options import (
    TRUTH,
    Contains,
    DependsOn,
    Description,
    Every,
    ExpectStatus,
    Grace,
    MaxRun,
    Schedule,
    Severity,
    Tags,
    Timeout,
    TruthFile,
    Yes,
    Zone,
    to_numbers,
    to_tuple,
)
from marketswarm.cli.first_sign import FirstSign, SignPlace, find_sign_place, read_signs, wait_for_sign
from marketswarm.cli.local_time import format_time
from marketswarm.cli.open import find_board, find_board_silence, find_shared_board
from marketswarm.cli.options import By, Data, Json, author_name, parse_duration
from marketswarm.cli.token import store_ping_key
from marketswarm.cli.truth_change import (
    CarriedOut,
    PlannedChange,
    carry_out,
    confirm_change,
    encode_change,
    find_in_force,
    plan_change,
)
from marketswarm.exit import Exit
from marketswarm.operator.ping_keys import create_ping_key
from marketswarm.operator.ping_lines import make_ping_lines
from marketswarm.status.probe_past import describe_reading
from marketswarm.text import escape_text, format_duration
from marketswarm.truth.document_edit import AddedKind, EntryFields, add_entry, page_name

NOT_HEARD: Final = 1
"""The exit code if there was no sign of life in time."""
_BOARD: Final = "board"
_WAIT_SEC: Final = 600.0
_MARGIN: Final = "    "

NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the first sign of life.")]
Wait = Annotated[
    float | None,
    typer.Option(
        "--wait",
        parser=parse_duration,
        metavar="10m",
        help="How long to wait for it; 10m on a terminal, elsewhere not at all.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class AddRequest:
    """What is to be added, and how the command is to go about it."""

    kind: AddedKind
    name: str
    fields: EntryFields
    truth: Path
    data: Path
    author: str
    yes: bool
    as_json: bool
    wait_sec: float

    @property
    def full_name(self) -> str:
        return page_name(self.name) if self.kind is AddedKind.PAGE else self.name


@dataclass(frozen=True, slots=True)
class _AddedKey:
    """The lines to paste, and the URL with the new key; None if the truth has no board, which takes pings."""

    url: str | None
    lines: dict[str, str]
    note: str = ""


def daemon(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the service: worker.")],
    *,
    every: Every = None,
    timeout: Timeout = None,
    description: Description = None,
    tags: Tags = None,
    depends_on: DependsOn = None,
    severity: Severity = None,
    no_wait: NoWait = False,
    wait: Wait = None,
    yes: Yes = False,
    by: By = None,
    as_json: Json = False,
    truth: TruthFile = TRUTH,
    data: Data = DATA,
) -> None:
    """Add a program that runs all the time, and beats every minute unless --every says otherwise.

    Shows what changes in the truth, asks, seeds it, makes a key, and prints the lines to paste. Then it waits
    for the first sign of life. Ends with 1 if it was not confirmed, or there was no sign in time.
    """
    fields = EntryFields(
        description=description,
        tags=to_tuple(tags),
        depends_on=to_tuple(depends_on),
        severity=severity,
        every_sec=every,
        timeout_sec=timeout,
    )
    wait_sec = find_wait_sec(wait, no_wait=no_wait)
    carry_out_add(
        AddRequest(AddedKind.DAEMON, name, fields, truth, data, author_name(by), yes, as_json, wait_sec)
    )


def job(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the job: backup.")],
    *,
    schedule: Schedule = None,
    zone: Zone = None,
    every: Every = None,
    grace: Grace = None,
    max_run: MaxRun = None,
    description: Description = None,
    tags: Tags = None,
    depends_on: DependsOn = None,
    severity: Severity = None,
    no_wait: NoWait = False,
    wait: Wait = None,
    yes: Yes = False,
    by: By = None,
    as_json: Json = False,
    truth: TruthFile = TRUTH,
    data: Data = DATA,
) -> None:
    """Add a job that runs at times: --schedule '0 3 * * *', or --every 1d.

    Shows what changes in the truth, asks, seeds it, makes a key, and prints the lines to paste. Then it waits
    for the first sign of life. Ends with 1 if it was not confirmed, or there was no sign in time.
    """
    fields = EntryFields(
        description=description,
        tags=to_tuple(tags),
        depends_on=to_tuple(depends_on),
        severity=severity,
        every_sec=every,
        schedule=schedule,
        time_zone=zone,
        grace_sec=grace,
        max_run_sec=max_run,
    )
    wait_sec = find_wait_sec(wait, no_wait=no_wait)
    carry_out_add(
        AddRequest(AddedKind.JOB, name, fields, truth, data, author_name(by), yes, as_json, wait_sec)
    )


def page(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What messages call it, after massive/: shop.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Its address: https://shop.example/health.")],
    *,
    contains: Contains = None,
    expect_status: ExpectStatus = None,
    every: Every = None,
    timeout: Timeout = None,
    tags: Tags = None,
    depends_on: DependsOn = None,
    severity: Severity = None,
    no_wait: NoWait = False,
    wait: Wait = None,
    yes: Yes = False,
    by: By = None,
    as_json: Json = False,
    truth: TruthFile = TRUTH,
    data: Data = DATA,
) -> None:
    """Add a web page, which massive probes every 15 seconds unless --every says otherwise.

    Shows what changes in the truth, asks, seeds it, and waits for the first probe. Ends with 1 if it was not
    confirmed, or there was no probe in time.
    """
    fields = EntryFields(
        url=url,
        contains=contains,
        status=to_numbers(expect_status),
        tags=to_tuple(tags),
        depends_on=to_tuple(depends_on),
        severity=severity,
        every_sec=every,
        timeout_sec=timeout,
    )
    wait_sec = find_wait_sec(wait, no_wait=no_wait)
    carry_out_add(
        AddRequest(AddedKind.PAGE, name, fields, truth, data, author_name(by), yes, as_json, wait_sec)
    )


def find_wait_sec(given: float | None, *, no_wait: bool) -> float:
    if no_wait:
        return 0.0
    return given if given is not None else _WAIT_SEC if sys.stdin.isatty() else 0.0


def carry_out_add(request: AddRequest) -> None:
    """Carry out the whole command: preview, question, seeding, key, lines, and the first sign of life.

    Raises Exit as its steps do, and with NOT_HEARD if there was no sign of life in time.
    """
    planned = plan_change(
        request.truth,
        lambda text: add_entry(text, request.kind, request.name, request.fields),
        request.data,
    )
    in_force = find_in_force(planned, request.data)
    confirm_change(planned, yes=request.yes, as_json=request.as_json)
    place = find_sign_place(request.kind, request.name, planned.truth)
    known: list[bytes | None] = []
    if in_force.is_bus_there:
        known = event_loop.run(read_signs(place, planned.truth, request.data))
    done = carry_out(planned, in_force, request.data)
    if not request.as_json:
        output.print_lines(done.lines)
    key = _make_key(request, planned) if done.seeded and request.kind is not AddedKind.PAGE else None
    if not request.as_json:
        _print_key(key)
    sign = _wait(request, place, known) if done.seeded and request.wait_sec else None
    if request.as_json:
        output.print_json(_encode(request, planned, done, key, sign))
    if done.seeded and request.wait_sec and sign is None:
        raise Exit(NOT_HEARD, f"no sign of life of {request.full_name} yet; {_next_look(request)}")
    has_page = sign is not None and sign.probe is not None and _BOARD in planned.truth.services
    if has_page and not request.as_json:
        output.print_line(f"its page: {find_board(request.data)}/services/{quote(request.full_name)}")


def _make_key(request: AddRequest, planned: PlannedChange) -> _AddedKey:
    """Make a ping key for the service, and the lines that use it, if the truth has a board to take pings."""
    svc = request.name
    if _BOARD not in planned.truth.services:
        here = (
            f"beat {svc}" if request.kind is AddedKind.DAEMON else f"exec --svc {svc} -- /usr/local/bin/{svc}"
        )
        note = "the truth has no board, which takes pings over HTTP"
        return _AddedKey(None, {"on this machine": suggest_command(here, request.data).strip("`")}, note)
    board = find_board(request.data)
    key, secret = create_ping_key(svc, svc, author=request.author, now=time.time(), for_sec=None)
    store_ping_key(key, request.data)
    shared, certificate = find_shared_board(request.data)
    url = f"{shared or board}/ping/{secret}"
    lines = make_ping_lines(request.kind, svc, url, request.fields.schedule, certificate)
    note = f"they need the certificate {certificate} where they run: copy it, and name the copy in them"
    return _AddedKey(url, lines, find_board_silence(board, request.data) or (note if certificate else ""))


def _print_key(key: _AddedKey | None) -> None:
    if key is None:
        return
    for title, text in key.lines.items():
        output.print_line("")
        output.print_lines([f"{title}:", *(f"{_MARGIN}{line}".rstrip() for line in text.splitlines())])
    output.print_line("")
    if key.url is not None:
        output.print_line("The key in these lines is not shown again.")
    if key.note:
        output.print_line(f"! {key.note}", output.YELLOW)


def _wait(request: AddRequest, place: SignPlace, known: list[bytes | None]) -> FirstSign | None:
    """Wait for the first sign of life, and say so."""
    name = request.full_name
    if not request.as_json:
        what = "first probe" if request.kind is AddedKind.PAGE else "first sign of life"
        limit = format_duration(request.wait_sec)
        output.print_line(f"waiting for the {what} of {name}, {limit} at most; Ctrl-C ends the waiting alone")
    sign = event_loop.run(wait_for_sign(place, request.name, known, request.wait_sec, request.data))
    if sign is not None and not request.as_json:
        mark, style = ("✗", output.RED) if sign.problem else ("✓", output.GREEN)
        problem = f", and it says: {sign.problem}" if sign.problem else ""
        found = "" if sign.probe is None else escape_text(describe_reading(sign.probe))
        said = f"first probe of {name}: {found}" if found else f"first sign of life of {name}{problem}"
        output.print_line(f"{format_time(sign.at)} {mark} {said}", style)
    return sign


def _next_look(request: AddRequest) -> str:
    if request.kind is AddedKind.PAGE:
        start = suggest_command("start massive", request.data)
        return f"does massive run? In a fleet of this machine, {start} starts it"
    return f"{suggest_command('status', request.data)} shows when there is one"


def _encode(
    request: AddRequest,
    planned: PlannedChange,
    done: CarriedOut,
    key: _AddedKey | None,
    sign: FirstSign | None,
) -> dict[str, Any]:
    return {
        **encode_change(request.full_name, planned, done),
        "kind": request.kind,
        "ping_url": key.url if key else None,
        "lines": key.lines if key else {},
        "first_sign": None if sign is None else _encode_sign(sign),
    }


def _encode_sign(sign: FirstSign) -> dict[str, Any]:
    """Return a sign of life as `--json` says it; that of a page has its probe's result."""
    probe = {} if sign.probe is None else {"probe": asdict(sign.probe)}
    return {"ts": sign.at, "problem": sign.problem or None, **probe}
