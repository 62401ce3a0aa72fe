"""Implement `marketswarm up`: run the whole fleet on this machine."""

import asyncio
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import typer

from marketswarm.access import certificate
from marketswarm.agent.service_modules import find_modules
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.options import TRUTH, Data, OptionGroup, flag, option, port_option
from marketswarm.cli.validate import read_valid_truth
from marketswarm.exit import Mistake
from marketswarm.fleet import access, data_folder, log_witness, plan, preflight, server
from marketswarm.fleet.listen import ListenAddress, ListenSetup
from marketswarm.fleet.output import FLEET, LogFormatter
from marketswarm.fleet.plan import Plan
from marketswarm.fleet.postgres import PostgresError, PostgresServer
from marketswarm.fleet.run import run_fleet
from marketswarm.fleet.server import MAXMEMORY, parse_memory_size
from marketswarm.fleet.summary import NOTIFIER, SummaryFacts, describe_channels
from marketswarm.fleet.supervisor import DATABASE, WITHOUT_BOARD, FleetSpec
from marketswarm.settings import CommonSettings, is_variable_set, read_settings
from marketswarm.truth import TruthError, parse_truth

_PORTS_AFTER_A_CRASH_SEC: Final = 1.0  # so long may the servers of a killed fleet need to end


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What a person says of the fleet that is to run here."""

    only: Annotated[str | None, option("--only", "A,B", "Start these services only.")] = None
    truth: Annotated[Path, option("--truth", "FILE", "The truth to seed.", envvar="TRUTH_PATH")] = TRUTH
    data: Data = DATA
    port: Annotated[
        int,
        port_option("--port", "Port of system-redis; market-redis has the next.", envvar="MARKETSWARM_PORT"),
    ] = 6379
    verbose: Annotated[bool, flag("--verbose", "Show every log line.", "-v")] = False
    maxmemory: Annotated[
        str,
        option(
            "--maxmemory",
            "SIZE",
            "How much each server may keep; a full one refuses writes.",
            envvar="MARKETSWARM_MAXMEMORY",
        ),
    ] = MAXMEMORY
    acl: Annotated[
        bool, flag("--acl", "Servers with a user a service; who has no password may only look.")
    ] = False
    no_default: Annotated[bool, flag("--no-default", "With --acl: reading needs a password, too.")] = False
    board_port: Annotated[
        int,
        port_option("--board-port", "Port of the board, the page that shows the fleet.", envvar="BOARD_PORT"),
    ] = plan.BOARD_PORT
    listen: Annotated[
        str | None,
        option(
            "--listen",
            "ADDRESS",
            "Let other machines join at this address too: with users, passwords and TLS.",
        ),
    ] = None
    tls_cert: Annotated[
        Path | None,
        option("--tls-cert", "FILE", "With --listen: a certificate for ADDRESS; without it one is made."),
    ] = None
    tls_key: Annotated[Path | None, option("--tls-key", "FILE", "The key of that certificate.")] = None
    open_board: Annotated[bool, flag("--open", "Open the board in a browser as soon as the fleet is up.")] = (
        False
    )
    no_board: Annotated[bool, flag("--no-board", "Start no board, and seed the truth without it.")] = False


def up(options: Annotated[UpOptions, OptionGroup.of(UpOptions)]) -> None:
    """Run two real Redis servers and the whole fleet here; Ctrl-C ends it.

    A bus whose URL the environment gives (SYSTEM_REDIS_URL, MARKET_REDIS_URL) is used as it is: no server is
    started for it. Data is kept in .marketswarm/, or where --data says. --listen has the effect of --acl and
    --no-default: a port that others reach requires a password.
    """
    begun = time.monotonic()
    data = options.data
    _check_options(options)
    settings = read_settings(CommonSettings)
    spec = _make_spec(options, settings)
    try:
        with data_folder.claim_folder(spec.data):
            spec = _prepare(spec, options, settings)
            notifies = any(agent.svc == NOTIFIER for agent in spec.plan.agents)
            facts = SummaryFacts(
                str(data),
                preflight.is_in_our_tree(),
                begun,
                asyncio.run(describe_channels(spec.truth)) if notifies else (),
                has_redis_cli=shutil.which("redis-cli") is not None,
                opens_board=options.open_board,
            )
            asyncio.run(run_fleet(spec, _make_formatter(spec.plan, verbose=options.verbose), facts))
    except data_folder.FolderTakenError as error:
        raise Mistake(
            f"a fleet runs already in {data} ({error}). Stop it with Ctrl-C where it runs"
            + (f" or with `kill {error.pid}`" if error.pid else "")
            + "; for a second one: --data DIR --port 7379",
        ) from None
    except OSError as error:
        raise Mistake(f"{error.filename or data}: {error.strerror}") from None


def _check_options(options: UpOptions) -> None:
    """Raise BadParameter for options that do not belong together."""
    cert, key, listen = options.tls_cert, options.tls_key, options.listen
    if options.no_default and not options.acl and not listen:
        raise typer.BadParameter("--no-default: there are users with --acl alone")
    if options.open_board and options.no_board:
        raise typer.BadParameter("--open: with --no-board there is no board to open")
    if (cert is None) != (key is None) or (cert is not None and not listen):
        raise typer.BadParameter("--tls-cert and --tls-key belong together, and to --listen")


def _make_spec(options: UpOptions, settings: CommonSettings) -> FleetSpec:
    """Return the fleet as the truth has it. Raises Exit, code 2, if it can't run here."""
    path, metrics_port = options.truth, settings.metrics_port
    if not path.exists():
        raise Mistake(
            f"there is no {path.name} in {path.absolute().parent}: it says which services to run. "
            "To get one:\n"
            "  marketswarm new prices   a first service of yours, in Python, and a truth.json that runs it\n"
            "  marketswarm init         a truth.json with no service of yours yet, explained\n"
            "Is there one elsewhere? --truth FILE",
        )
    truth = read_valid_truth(path)
    try:
        planned = plan.make_plan(
            truth,
            known=preflight.find_external_buses(truth, os.environ),
            modules=find_modules(truth.services),
            port=options.port,
            metrics_port=metrics_port,
            only=[svc.strip() for svc in (options.only or "").split(",") if svc.strip()],
            board_port=None if options.no_board else options.board_port,
        )
        starts_servers = any(bus.port is not None for bus in planned.buses)
        binary = server.find_binary() if starts_servers else None
    except (plan.PlanError, server.NoServerError) as error:
        raise Mistake(str(error)) from None
    runs_database = planned.needs_database and not is_variable_set(plan.DATABASE_URL, os.environ)
    preflight.require_signals_database(planned, os.environ, runs_database=runs_database)
    if not planned.agents:
        raise Mistake(f"{path}: none of its services has a module here, nothing to start")
    try:
        parse_memory_size(options.maxmemory)
    except ValueError as error:
        raise Mistake(f"--maxmemory: {error}") from None
    data = options.data.absolute()
    return FleetSpec(
        plan=planned,
        truth=truth,
        truth_path=path.absolute(),
        data=data,
        binary=binary,
        metrics_port=metrics_port,
        database=PostgresServer(data / DATABASE) if runs_database else None,
        maxmemory=options.maxmemory,
    )


def _prepare(spec: FleetSpec, options: UpOptions, settings: CommonSettings) -> FleetSpec:
    """Return the fleet with its certificate, users and keys; require its ports, and prepare its database.

    Writes into its data folder. Raises Exit, code 2, and OSError.
    """
    patience_sec = _PORTS_AFTER_A_CRASH_SEC if data_folder.has_stale_record(spec.data) else 0.0
    board_host = plan.find_board_host(os.environ)
    at = None
    if options.listen is not None:
        at = preflight.require_listening(options.listen, spec.plan, spec.binary, board_host)
    preflight.require_free_ports(
        spec.plan,
        settings.metrics_host,
        board_host,
        listen=at.address if at else None,
        patience_sec=patience_sec,
    )
    if at is not None:
        spec = _listen(spec, at, options.tls_cert, options.tls_key)
    if options.no_board:
        spec = _leave_out_board(spec)
    spec = replace(spec, truth=spec.truth.with_default_timeout(settings.default_timeout_sec))
    if options.acl or at is not None:
        users = access.prepare_access(
            spec.plan, spec.truth, spec.data, closed=options.no_default, joined=at is not None
        )
        spec = replace(spec, access=users)
    try:
        if spec.database is not None:
            spec.database.prepare()
    except (server.NoServerError, PostgresError) as error:
        raise Mistake(f"PostgreSQL, which archive needs: {error}") from None
    witness = log_witness.prepare_log_witness(spec.plan, spec.truth, spec.truth_path, spec.data, os.environ)
    return replace(spec, witness=witness)


def _listen(spec: FleetSpec, at: ListenAddress, cert: Path | None, key: Path | None) -> FleetSpec:
    """Return the fleet with a certificate for that address, by which its servers speak TLS alone."""
    data_folder.make_private_folder(spec.data / certificate.FOLDER)
    try:
        if cert is None or key is None:
            found = certificate.prepare_certificate(spec.data, at.name)
        else:
            found = certificate.use_certificate(spec.data, at.name, cert, key)
    except certificate.CertificateError as error:
        raise Mistake(str(error)) from None
    return replace(spec, plan=spec.plan.use_tls(found.shared), listening=ListenSetup(at, found))


def _leave_out_board(spec: FleetSpec) -> FleetSpec:
    """Return a fleet that seeds its truth without the section of the board, so that it is not missed.

    A truth that is not valid without the board is seeded as it is.
    """
    document = json.loads(spec.truth_path.read_bytes())
    if document["services"].pop(plan.BOARD, None) is None:
        return spec
    raw = f"{json.dumps(document, indent=2, ensure_ascii=False)}\n".encode()
    try:
        truth = parse_truth(raw).truth
    except TruthError:
        return spec
    path = spec.data / WITHOUT_BOARD
    path.write_bytes(raw)
    return replace(spec, truth=truth, truth_path=path)


def _make_formatter(planned: Plan, *, verbose: bool) -> LogFormatter | None:
    wanted = os.environ.get("LOG_FORMAT", "").strip().lower()
    if wanted == "json" or (wanted != "console" and not sys.stderr.isatty()):
        return None
    names = (FLEET, *(agent.name for agent in planned.agents), "bootstrap")
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty()
    return LogFormatter(names, colours=not plain, verbose=verbose)
