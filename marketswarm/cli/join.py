"""Implement `marketswarm join`: beat for services of this machine to a fleet on another one."""

import asyncio
import os
import secrets
import shlex
import socket
import ssl
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import unquote, urlsplit

import typer

from marketswarm.access.users import JOIN
from marketswarm.agent.truth_source import create_bus, read_truth
from marketswarm.alive_file import ENDED_STATES, read_process_state
from marketswarm.bus import BusError
from marketswarm.bus_url import explain_bus_url, format_host, is_bus_url
from marketswarm.cli import event_loop, output
from marketswarm.cli.beat import BeatSender, beat_until_stopped, catch_end_signals
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.options import Data, argument, flag, option, port_option, require_service_name
from marketswarm.exit import Code, Exit, Mistake
from marketswarm.fleet.data_folder import find_fleet, format_data_option
from marketswarm.fleet.joined import (
    JoinedFleet,
    find_joined_certificate,
    read_joined,
    store_certificate,
    store_joined,
)
from marketswarm.fleet.plan import BOARD_PORT, list_embedded_buses
from marketswarm.net.certificates import (
    FingerprintError,
    fetch_certificate,
    has_fingerprint,
    parse_fingerprint,
)
from marketswarm.operator.ping_lines import CURL
from marketswarm.settings import CommonSettings, read_settings
from marketswarm.settings.programs import JoinSettings
from marketswarm.text import escape_text, format_duration
from marketswarm.truth import SYSTEM, Truth, describe_unknown

_WITHIN_SEC: Final = 10.0
_MAX_PID_BYTES: Final = 32
_WHERE_IT_IS: Final = "It is in the file secrets/join of the fleet's data folder, on its machine"
_EXAMPLE: Final = "marketswarm join rediss://join@HOST:6379 --fingerprint SHA256 SVC"


@dataclass(frozen=True, slots=True)
class Local:
    """A service of this machine; with `pid_file`, it beats while the process lives whose id is in there."""

    svc: str
    pid_file: Path | None = None

    def is_alive(self) -> bool:
        return self.pid_file is None or is_process_alive(self.pid_file)


def join(
    words: Annotated[
        list[str] | None,
        argument(
            "URL SVC=PIDFILE", "The fleet, as its `up --listen` printed it; then the services to beat for."
        ),
    ] = None,
    *,
    fingerprint: Annotated[
        str | None,
        option("--fingerprint", "SHA256", "That of the fleet's certificate: it must show this one."),
    ] = None,
    print_curl: Annotated[
        bool, flag("--print-curl", "Print the line for curl instead; no password is needed.")
    ] = False,
    board_port: Annotated[
        int, port_option("--board-port", "Port of the fleet's board, for that line.")
    ] = BOARD_PORT,
    data: Data = DATA,
) -> None:
    """Join a fleet on another machine, and beat for services of this one until Ctrl-C.

    The password is asked for, or read from MARKETSWARM_JOIN_PASSWORD or the file that
    MARKETSWARM_JOIN_PASSWORD_FILE names. It is kept in the data folder with the certificate, so the URL and
    the fingerprint are needed once. SVC=PIDFILE beats while the process lives whose id is in that file.
    """
    if find_fleet(data) is not None:
        raise Mistake(f"a fleet runs in {data} itself: join another one in another folder")
    url, names = (words[0], words[1:]) if words and "://" in words[0] else (None, words or [])
    services = [_parse_local(word) for word in names]
    if url is None and fingerprint is not None:
        raise typer.BadParameter("--fingerprint belongs to a URL")
    try:
        if url is None:
            joined = _require_joined(data)
        else:
            pinned = None if fingerprint is None else _parse_fingerprint(fingerprint)
            joined = _pin(_parse_url(url), pinned, data)
        if print_curl:
            _print_curl(joined, [each.svc for each in services], board_port, data)
            return
        if url is not None and not joined.password:
            joined = replace(joined, password=_find_password(joined, data))
        event_loop.run(_join(joined, services, data, is_new=url is not None))
    except OSError as error:
        raise Mistake(f"{error.filename or data}: {error.strerror or error}") from None


def is_process_alive(pid_file: Path) -> bool:
    """Return True if a process that has not ended has the id that is in a regular file."""
    try:
        # the service's user may have put a pipe there: to wait for a writer would hold all other beats back
        with os.fdopen(os.open(pid_file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return False
            pid = int(file.read(_MAX_PID_BYTES))
        found = read_process_state(pid) if pid > 0 else None  # 0 and below are groups of processes
        return found is not None and found[0] not in ENDED_STATES
    except (OSError, ValueError, OverflowError):
        return False


def _parse_local(word: str) -> Local:
    if "://" in word:
        raise typer.BadParameter("one URL, before the services")
    svc, _, path = word.partition("=")
    require_service_name(svc)
    if not path:
        return Local(svc)
    pid_file = Path(path).absolute()
    if pid_file.exists() and not os.access(pid_file, os.R_OK):
        raise Mistake(f"{path}: this user can't read it")
    return Local(svc, pid_file)


def _parse_url(text: str) -> JoinedFleet:
    """Return what `rediss://[USER[:PASSWORD]@]HOST[:PORT]` says. Raise Exit, code 2, for any other text."""
    if not is_bus_url(text):
        raise Mistake(f"the URL is not {explain_bus_url(text)}")
    parts = urlsplit(text)
    if parts.scheme == "redis":
        raise Mistake(
            "redis:// has no TLS, so the password could be read on the network: `marketswarm up --listen` "
            "on the fleet's machine prints a URL with rediss://",
        )
    if parts.scheme != "rediss" or parts.query or parts.path.strip("/"):
        raise Mistake(f"the URL is not one of another machine: {_EXAMPLE}")
    user, password = unquote(parts.username or JOIN), unquote(parts.password or "")
    return JoinedFleet(parts.hostname or "", parts.port or 6379, "", user, password)


def _parse_fingerprint(text: str) -> str:
    try:
        return parse_fingerprint(text)
    except FingerprintError as error:
        raise typer.BadParameter(f"--fingerprint: {error}") from None


def _require_joined(data: Path) -> JoinedFleet:
    joined = read_joined(data)
    if joined is None:
        raise Mistake(
            f"this machine has joined no fleet in {data}. `marketswarm up --listen ADDRESS` on the fleet's "
            f"machine prints the line to type here:\n  {_EXAMPLE}",
        )
    return joined


def _pin(url: JoinedFleet, fingerprint: str | None, data: Path) -> JoinedFleet:
    """Check the certificate that the fleet shows, and store it if it has the fingerprint. Raises Exit."""
    try:
        der = fetch_certificate(url.host, url.port, _WITHIN_SEC, verified=fingerprint is None)
    except ssl.SSLCertVerificationError as error:
        raise Mistake(
            f"{url.where}: no authority that this machine knows vouches for its certificate "
            f"({error.verify_message}). Take the --fingerprint that `marketswarm up --listen` printed there",
        ) from None
    except ssl.SSLError:
        why = "it speaks no TLS. Is that the port of a bus of the fleet?"
        raise Exit(Code.NO_BUS, f"{url.where}: {why}") from None
    except (OSError, UnicodeError) as error:
        raise Exit(Code.NO_BUS, _explain_unreachable(url, error)) from None
    if fingerprint is None:
        return url
    if not has_fingerprint(der, fingerprint):
        raise Mistake(
            f"{url.where} shows another certificate than that of the fingerprint, so nothing was sent to it. "
            "Compare with what `marketswarm up --listen` prints there now; if that is the same, another "
            "machine answers in its place",
        )
    store_certificate(data, fingerprint, ssl.DER_cert_to_PEM_cert(der))
    return replace(url, fingerprint=fingerprint)


def _explain_unreachable(url: JoinedFleet, error: Exception) -> str:
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"{url.host}: this machine does not know that name. Take the name or address of --listen there"
    if isinstance(error, ConnectionRefusedError):
        return (
            f"{url.where}: refused: no server listens there. Does the fleet run, with --listen and this "
            "address, and this --port?"
        )
    if isinstance(error, TimeoutError):
        return f"{url.where}: no answer in {_WITHIN_SEC:g} s: is there a firewall between?"
    why = getattr(error, "strerror", None) or type(error).__name__
    return f"{url.where}: {why}"


def _print_curl(joined: JoinedFleet, services: Sequence[str], port: int, data: Path) -> None:
    certificate = find_joined_certificate(data, joined.fingerprint)
    trust = f"--cacert {shlex.quote(str(certificate))} " if joined.fingerprint else ""
    address = f"https://{format_host(joined.host)}:{port}/ping/$UUID"
    output.print_line(f'{CURL} {trust}"{address}"')
    for svc in services or ["SVC"]:
        make = f"`marketswarm token create NAME --ping {svc}` on the fleet's machine prints it"
        output.print_aside(f"UUID is the key of {svc}: {make}")


async def _join(joined: JoinedFleet, services: Sequence[Local], data: Path, *, is_new: bool) -> None:
    """Store how to reach the fleet, if that is new, and beat for the services until a signal."""
    joined = await _log_in(joined, data)
    if is_new:
        store_joined(data, joined)
        output.print_line(f"joined the fleet at {escape_text(joined.where)}; the password is kept in {data}")
    if not services:
        _print_next_steps(data)
        return
    senders = [BeatSender(each.svc, data, secrets.token_hex(6)) for each in services]
    try:
        await asyncio.gather(*(sender.refresh_truth() for sender in senders))
        _require_watched(senders, joined)
        stopped = catch_end_signals()
        for sender, local in zip(senders, services, strict=True):
            await _beat_first(sender, local)
        async with asyncio.TaskGroup() as group:
            for sender, local in zip(senders, services, strict=True):
                beats = beat_until_stopped(sender, stopped, is_alive=_watch(local))
                group.create_task(beats, name=local.svc)
    finally:
        await asyncio.gather(*(sender.aclose() for sender in senders))


async def _log_in(joined: JoinedFleet, data: Path) -> JoinedFleet:
    """Return the fleet with the names of its buses, by the truth that its first bus holds. Raises Exit."""
    bus = create_bus(SYSTEM, joined.build_url(data))
    try:
        await bus.ask(bus.client.ping(), _WITHIN_SEC)
        settings = read_settings(CommonSettings)
        reading = await read_truth(bus, settings.truth_redis_key, None, _WITHIN_SEC)
    except BusError as error:
        raise _explain_refusal(error, joined) from None
    finally:
        await bus.aclose()
    if reading.found is None:
        why = f"no truth yet ({escape_text(reading.reason)}). Is the fleet still starting?"
        raise Exit(Code.NO_TRUTH, f"{joined.where} holds {why}")
    return replace(joined, bus_names=list_embedded_buses(reading.found.loaded.truth))


def _explain_refusal(error: BusError, joined: JoinedFleet) -> Exit:
    where, user = escape_text(joined.where), escape_text(joined.user)
    if error.reason == "auth":
        return Mistake(f"{where}: wrong password for the user {user}. {_WHERE_IT_IS}")
    if error.reason == "tls":
        return Mistake(f"{where}: its certificate does not fit ({escape_text(error.detail)})")
    return Exit(Code.NO_BUS, f"{where}: {error.reason} ({escape_text(error.detail)})")


def _find_password(joined: JoinedFleet, data: Path) -> str:
    """Return the password of the environment, of a person at a terminal, or the stored one. Raises Exit."""
    given = read_settings(JoinSettings).marketswarm_join_password
    if given is not None:
        return given.get_secret_value().strip()
    if sys.stdin.isatty():
        return str(typer.prompt(f"Password of {joined.user}", hide_input=True, err=True)).strip()
    known = read_joined(data)
    if known is not None and replace(known, password="", bus_names=()) == joined:
        return known.password
    why = "no password: MARKETSWARM_JOIN_PASSWORD_FILE names no file, and there is no terminal to ask at"
    raise Mistake(f"{why}. {_WHERE_IT_IS}")


def _require_watched(senders: Sequence[BeatSender], joined: JoinedFleet) -> None:
    """Raise Exit unless the truth names each service, and none of them is a job with a schedule."""
    unknown = [sender for sender in senders if not sender.is_known]
    if unknown and unknown[0].truth is None:
        raise Exit(Code.NO_BUS, f"no bus of the fleet at {escape_text(joined.where)} answered with a truth")
    if unknown:
        lines = [_explain_unknown(sender.svc, sender.truth) for sender in unknown]
        raise Exit(Code.NOT_WATCHED, "\n".join(lines))
    for sender in senders:
        job = sender.destination.job
        if job is not None and job.schedule is not None:
            raise Mistake(
                f"{sender.svc} is a job with a schedule: each beat would count as a run. "
                f"marketswarm exec --svc {sender.svc} -- COMMAND reports its runs",
            )


def _explain_unknown(svc: str, truth: Truth | None) -> str:
    hint = describe_unknown(svc, truth.services if truth else ())
    return f"nobody watches {svc}: {hint}\n  on the fleet's machine: marketswarm add daemon {svc} --no-wait"


async def _beat_first(sender: BeatSender, local: Local) -> None:
    """Send the first beat, and print where it went; wait with it while the process does not live."""
    to = sender.destination
    text = f"{sender.svc} beats every {format_duration(to.interval_sec)} on {sender.where}"
    if not local.is_alive():
        output.print_line(f"{sender.svc} does not beat yet: no process lives whose id is in {local.pid_file}")
        return
    try:
        await sender.publish()
    except BusError as error:
        if error.reason == "auth":
            raise Mistake(
                f"this machine may not beat for {sender.svc}: the fleet's own machine has the program of it"
            ) from None
        raise Exit(Code.NO_BUS, f"no beat: {sender.describe(error)}") from None
    output.print_line(f"{text}; Ctrl-C ends it")


def _watch(local: Local) -> Callable[[], bool]:
    """Return a function that returns True while the service's process lives, and prints each change."""
    was_alive = local.is_alive()

    def check() -> bool:
        nonlocal was_alive
        is_alive = local.is_alive()
        if is_alive != was_alive:
            now = "beats again" if is_alive else "does not beat: its process is gone"
            output.print_error(f"{local.svc} {now}")
        was_alive = is_alive
        return is_alive

    return check


def _print_next_steps(data: Path) -> None:
    option = format_data_option(data)
    steps = (
        (f"marketswarm join SVC{option}", "beats for a service of this machine"),
        (f"marketswarm join SVC=/run/SVC.pid{option}", "while that process lives"),
        (f"marketswarm exec --svc SVC{option} -- COMMAND", "while a command runs, with its result"),
    )
    output.print_line("Next, here:")
    output.print_pairs(steps)
