"""Implement `marketswarm add` and `watch`: put a daemon, a job or a page into the truth, and see it alive."""

import asyncio
import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit

from marketswarm.beat import Beat, parse_beat
from marketswarm.bus import BusError
from marketswarm.bus.stored_values import parse_object, read_strings
from marketswarm.cli import event_loop, output
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.entry_options import TruthFile, choose_fields
from marketswarm.cli.fleet_view import ask_fleet, open_fleet
from marketswarm.cli.local_time import format_time
from marketswarm.cli.open import find_board, find_board_silence, find_shared_board
from marketswarm.cli.options import (
    TRUTH,
    By,
    Data,
    Json,
    OptionGroup,
    Yes,
    argument,
    author_name,
    flag,
    option,
    time_option,
)
from marketswarm.cli.token import store_secret
from marketswarm.cli.truth_change import (
    CarriedOut,
    PlannedChange,
    carry_out,
    confirm_change,
    encode_change,
    plan_change,
)
from marketswarm.exit import Exit
from marketswarm.keys import last_beat_key, last_run_key, probe_key
from marketswarm.operator.ping_lines import make_ping_lines
from marketswarm.operator.tokens import create_ping_key
from marketswarm.status.probe_past import ProbeReading, describe_reading, find_probes_point, parse_reading
from marketswarm.text import escape_text, extract_line, format_duration
from marketswarm.truth import MARKET, Truth
from marketswarm.truth.document_edit import AddedKind, EntryFields, add_entry, page_name

NOT_HEARD: Final = 1
"""The exit code if there was no sign of life in time."""
_BOARD: Final = "board"
_WAIT_SEC: Final = 600.0
_MARGIN: Final = "    "
_LOOK_EVERY_SEC: Final = 0.25
_MAX_PROBE_BYTES: Final = 16 * 1024
_COMMON: Final = "tags depends_on severity"


@dataclass(frozen=True, slots=True)
class AddOptions:
    """How a command adds an entry: whether it asks, how long it waits for the first sign, who does it."""

    no_wait: Annotated[bool, flag("--no-wait", "Do not wait for the first sign of life.")] = False
    wait: Annotated[
        float | None,
        time_option("--wait", "10m", "How long to wait for it; 10m on a terminal, elsewhere not at all."),
    ] = None
    yes: Yes = False
    by: By = None
    as_json: Json = False
    truth: TruthFile = TRUTH
    data: Data = DATA

    @property
    def wait_sec(self) -> float:
        if self.no_wait:
            return 0.0
        return self.wait if self.wait is not None else _WAIT_SEC if sys.stdin.isatty() else 0.0


How = Annotated[AddOptions, OptionGroup.of(AddOptions)]
DaemonFields = Annotated[EntryFields, choose_fields(f"every_sec timeout_sec description {_COMMON}")]
JobFields = Annotated[
    EntryFields,
    choose_fields(f"schedule time_zone every_sec grace_sec max_run_sec description {_COMMON}"),
]
PageFields = Annotated[EntryFields, choose_fields(f"contains status every_sec timeout_sec {_COMMON}")]
Url = Annotated[str, argument("URL", "Its address: https://shop.example/health.")]


@dataclass(frozen=True, slots=True)
class AddRequest:
    """What is to be added, and how the command is to go about it."""

    kind: AddedKind
    name: str
    fields: EntryFields
    how: AddOptions

    @property
    def full_name(self) -> str:
        return page_name(self.name) if self.kind is AddedKind.PAGE else self.name


@dataclass(frozen=True, slots=True)
class _AddedKey:
    """The lines to paste, and the URL with the new key; None if the truth has no board, which takes pings."""

    url: str | None
    lines: dict[str, str]
    note: str = ""


@dataclass(frozen=True, slots=True)
class SignPlace:
    """Where the first sign of life of a service or a page is stored: its bus and its keys."""

    bus: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FirstSign:
    """A first sign of life, heard at `at` (epoch seconds); `problem` is what it says is wrong, if any.

    `probe` is the result of a page's first probe.
    """

    at: float
    problem: str = ""
    probe: ProbeReading | None = None


def daemon(
    name: Annotated[str, argument("NAME", "The name of the service: worker.")],
    fields: DaemonFields,
    how: How,
) -> None:
    """Add a program that runs all the time, and beats every minute unless --every says otherwise.

    Shows what changes in the truth, asks, seeds it, makes a key, and prints the lines to paste. Then it waits
    for the first sign of life. Ends with 1 if it was not confirmed, or there was no sign in time.
    """
    carry_out_add(AddRequest(AddedKind.DAEMON, name, fields, how))


def job(
    name: Annotated[str, argument("NAME", "The name of the job: backup.")],
    fields: JobFields,
    how: How,
) -> None:
    """Add a job that runs at times: --schedule '0 3 * * *', or --every 1d.

    Shows what changes in the truth, asks, seeds it, makes a key, and prints the lines to paste. Then it waits
    for the first sign of life. Ends with 1 if it was not confirmed, or there was no sign in time.
    """
    carry_out_add(AddRequest(AddedKind.JOB, name, fields, how))


def page(
    name: Annotated[str, argument("NAME", "What messages call it, after massive/: shop.")],
    url: Url,
    fields: PageFields,
    how: How,
) -> None:
    """Add a web page, which massive probes every 15 seconds unless --every says otherwise.

    Shows what changes in the truth, asks, seeds it, and waits for the first probe. Ends with 1 if it was not
    confirmed, or there was no probe in time.
    """
    carry_out_add(AddRequest(AddedKind.PAGE, name, replace(fields, url=url), how))


def watch(
    url: Url,
    *,
    name: Annotated[
        str | None, option("--name", "NAME", "What messages call it, after massive/; by default its host.")
    ] = None,
    fields: PageFields,
    how: How,
) -> None:
    """Have a web page probed by massive, and see how long it takes and how long its certificate is good.

    The same as `marketswarm add page`, with the host as the name: shows what changes in the truth, asks,
    seeds it, and waits for the first probe. Ends with 1 if it was not confirmed, or there was no probe in
    time.
    """
    page(name or make_page_name(url), url, fields, how)


def make_page_name(url: str) -> str:
    """Return what a page is called by its address: its host, with a port if it names one.

    What is not an address is its own name: the check of the truth refuses it, in its words.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return url
    if not host:
        return url
    return host if port is None else f"{host}:{port}"


def carry_out_add(request: AddRequest) -> None:
    """Carry out the whole command: preview, question, seeding, key, lines, and the first sign of life.

    Raises Exit as its steps do, and with NOT_HEARD if there was no sign of life in time.
    """
    how, author = request.how, author_name(request.how.by)
    say = _say_nothing if how.as_json else output.print_lines
    planned = plan_change(
        how.truth, lambda text: add_entry(text, request.kind, request.name, request.fields), how.data
    )
    confirm_change(planned, yes=how.yes, as_json=how.as_json)
    place = find_sign_place(request.kind, request.name, planned.truth)
    known = read_signs(place, planned.truth, how.data) if planned.is_bus_there else []
    done = carry_out(planned, how.data)
    say(done.lines)
    has_key = done.seeded and request.kind is not AddedKind.PAGE
    key = _make_key(request, author, planned) if has_key else None
    if key is not None:
        say(_describe_key(key))
        say([f"! {key.note}"] if key.note else [], output.YELLOW)
    awaits_sign = done.seeded and how.wait_sec > 0
    sign = _wait(request, place, known, say) if awaits_sign else None
    if how.as_json:
        output.print_json(_encode(request, planned, done, key, sign))
    if awaits_sign and sign is None:
        raise Exit(NOT_HEARD, f"no sign of life of {request.full_name} yet; {_next_look(request)}")
    if sign is not None and sign.probe is not None and _BOARD in planned.truth.services:
        say([f"its page: {find_board(how.data)}/services/{quote(request.full_name)}"])


def _say_nothing(_lines: Iterable[str], _style: str | None = None) -> None:
    """Take the place of `print_lines` if JSON is printed."""


def _make_key(request: AddRequest, author: str, planned: PlannedChange) -> _AddedKey:
    """Make a ping key for the service, and the lines that use it, if the truth has a board to take pings."""
    svc, data = request.name, request.how.data
    if _BOARD not in planned.truth.services:
        # a crontab has neither this folder nor our environment
        option = f" --data {shlex.quote(str(data.absolute()))}" if data.is_dir() else ""
        is_daemon = request.kind is AddedKind.DAEMON
        here = f"beat {svc}{option}" if is_daemon else f"exec --svc {svc}{option} -- /usr/local/bin/{svc}"
        note = "the truth has no board, which takes pings over HTTP"
        return _AddedKey(None, {"on this machine": f"marketswarm {here}"}, note)
    board = find_board(data)
    key, secret = create_ping_key(svc, svc, author=author, now=time.time(), for_sec=None)
    store_secret(key, data)
    shared, certificate = find_shared_board(data)
    url = f"{shared or board}/ping/{secret}"
    lines = make_ping_lines(request.kind, svc, url, request.fields.schedule, certificate)
    note = f"they need the certificate {certificate} where they run: copy it, and name the copy in them"
    return _AddedKey(url, lines, find_board_silence(board, data) or (note if certificate else ""))


def _describe_key(key: _AddedKey) -> list[str]:
    found = []
    for title, text in key.lines.items():
        found += ["", f"{title}:", *(f"{_MARGIN}{line}".rstrip() for line in text.splitlines())]
    return [*found, "", *(["The key in these lines is not shown again."] if key.url is not None else [])]


def _wait(
    request: AddRequest, place: SignPlace, known: list[bytes | None], say: Callable[..., None]
) -> FirstSign | None:
    """Wait for the first beat, ping or probe of what was added, and print it; None if none came in time."""
    name, wait_sec = request.full_name, request.how.wait_sec
    what = "first probe" if request.kind is AddedKind.PAGE else "first sign of life"
    limit = format_duration(wait_sec)
    say([f"waiting for the {what} of {name}, {limit} at most; Ctrl-C ends the waiting alone"])
    sign = event_loop.run(wait_for_sign(place, request.name, known, wait_sec, request.how.data))
    if sign is not None:
        mark, style = ("✗", output.RED) if sign.problem else ("✓", output.GREEN)
        problem = f", and it says: {sign.problem}" if sign.problem else ""
        found = "" if sign.probe is None else escape_text(describe_reading(sign.probe))
        said = f"first probe of {name}: {found}" if found else f"first sign of life of {name}{problem}"
        say([f"{format_time(sign.at)} {mark} {said}"], style)
    return sign


def _next_look(request: AddRequest) -> str:
    if request.kind is AddedKind.PAGE:
        start = suggest_command("start massive", request.how.data)
        return f"does massive run? In a fleet of this machine, {start} starts it"
    return f"{suggest_command('status', request.how.data)} shows when there is one"


def _encode(
    request: AddRequest,
    planned: PlannedChange,
    done: CarriedOut,
    key: _AddedKey | None,
    sign: FirstSign | None,
) -> dict[str, Any]:
    """Return what `--json` says of an entry that was added; the sign of a page has its probe's result."""
    first_sign = None
    if sign is not None:
        probe = {} if sign.probe is None else {"probe": sign.probe}
        first_sign = {"ts": sign.at, "problem": sign.problem or None, **probe}
    return {
        **encode_change(request.full_name, planned, done),
        "kind": request.kind,
        "ping_url": key.url if key else None,
        "lines": key.lines if key else {},
        "first_sign": first_sign,
    }


def find_sign_place(kind: AddedKind, name: str, truth: Truth) -> SignPlace:
    if kind is AddedKind.PAGE:
        point = find_probes_point(truth)
        return SignPlace(MARKET if point is None else point.bus, (probe_key(name),))
    return SignPlace(truth.bus_of(name), (last_beat_key(name), last_run_key(name)))


def read_signs(place: SignPlace, truth: Truth, data: Path) -> list[bytes | None]:
    """Return what is stored there now: it may be of a service of this name that was removed before."""
    return ask_fleet(data, lambda fleet: read_strings(fleet.bus(place.bus, truth), place.keys))


async def wait_for_sign(
    place: SignPlace, svc: str, known: list[bytes | None], within_sec: float, data: Path
) -> FirstSign | None:
    """Return the first sign that is not among the `known` ones; None if there is none in time.

    A bus that is away meanwhile is asked again.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_sec), open_fleet(data) as fleet:
            bus = fleet.bus(place.bus)
            while True:
                with contextlib.suppress(BusError):
                    found = await read_strings(bus, place.keys)
                    new = [raw for raw, old in zip(found, known, strict=True) if raw and raw != old]
                    if new:
                        is_probe = place.keys == (probe_key(svc),)
                        probe = parse_reading(svc, new[0]) if is_probe else None
                        return FirstSign(time.time(), _find_problem(new, svc), probe)
                await asyncio.sleep(_LOOK_EVERY_SEC)
    return None


def _find_problem(signs: list[bytes], svc: str) -> str:
    """Return what a beat, a run or a probe says is wrong; an empty text if nothing is."""
    for raw in signs:
        document = parse_object(raw, _MAX_PROBE_BYTES)
        beat = parse_beat(raw, svc)
        if document.get("ok") is False:
            said = document.get("error") or document.get("detail") or document.get("said")
            return _clean(said) or "it failed"
        if isinstance(beat, Beat) and document.get("run") == "failed":
            return _clean(document.get("detail")) or "it failed"
    return ""


def _clean(said: object) -> str:
    return escape_text(extract_line(said) or "") if isinstance(said, str) else ""
