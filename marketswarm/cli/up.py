"""`marketswarm up`: the whole fleet on this machine."""

import asyncio
import os
import sys
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from marketswarm.cli.options import DATA, Data
from marketswarm.cli.validate import read_valid_truth
from marketswarm.exit import Code, Exit
from marketswarm.fleet import access, data_folder, plan, preflight, server
from marketswarm.fleet.output import FLEET, LogFormatter
from marketswarm.fleet.plan import Plan
from marketswarm.fleet.preflight import find_modules
from marketswarm.fleet.run import FleetSpec, run_fleet
from marketswarm.fleet.server import MAXMEMORY, memory_size
from marketswarm.fleet.summary import NOTIFIER, SummaryFacts, summary, ways
from marketswarm.settings import CommonSettings, read

_PORTS_AFTER_A_CRASH_SEC: Final = 1.0  # servers of a fleet that was killed may need it to end


def up(
    only: Annotated[
        str | None, typer.Option("--only", metavar="A,B", help="Start these services only.")
    ] = None,
    truth: Annotated[
        Path, typer.Option("--truth", envvar="TRUTH_PATH", metavar="FILE", help="The truth to seed.")
    ] = Path("truth.json"),
    data: Data = DATA,
    port: Annotated[
        int,
        typer.Option(
            "--port",
            envvar="MARKETSWARM_PORT",
            min=1,
            max=65_535,
            metavar="N",
            help="Port of system-redis; market-redis has the next.",
        ),
    ] = 6379,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every log line.")] = False,
    *,
    maxmemory: Annotated[
        str,
        typer.Option(
            "--maxmemory",
            envvar="MARKETSWARM_MAXMEMORY",
            metavar="SIZE",
            help="How much each server may keep; a full one refuses writes.",
        ),
    ] = MAXMEMORY,
    acl: Annotated[
        bool, typer.Option("--acl", help="Servers with a user a service; who has no password may only look.")
    ] = False,
    no_default: Annotated[
        bool, typer.Option("--no-default", help="With --acl: nobody looks without a password either.")
    ] = False,
) -> None:
    """Run two real Redis servers and the whole fleet here; Ctrl-C ends it.

    A bus whose URL the environment gives (SYSTEM_REDIS_URL, MARKET_REDIS_URL) is used as it is: no server is
    started for it. Data is kept in .marketswarm/, or where --data says.
    """
    begun = time.monotonic()
    if no_default and not acl:
        raise typer.BadParameter("--no-default: there are users with --acl alone")
    settings = read(CommonSettings)
    wanted = [svc.strip() for svc in (only or "").split(",") if svc.strip()]
    orders = _make_orders(truth, data.absolute(), port, settings.metrics_port, wanted)
    orders = replace(orders, maxmemory=_checked_size(maxmemory))
    try:
        with data_folder.claim_folder(orders.data):
            patience_sec = _PORTS_AFTER_A_CRASH_SEC if data_folder.has_stale_record(orders.data) else 0.0
            preflight.require_free_ports(orders.plan.buses, patience_sec=patience_sec)
            preflight.require_free_metrics_ports(
                orders.plan.agents, settings.metrics_host, patience_sec=patience_sec
            )
            if acl:
                users = access.prepare_access(orders.plan, orders.truth, orders.data, closed=no_default)
                orders = replace(orders, access=users)
            channels = _channels_of(orders)
            screen = _make_screen(orders.plan, verbose=verbose)
            asyncio.run(
                run_fleet(orders, screen, lambda agents: _summarize(orders, agents, data, begun, channels))
            )
    except data_folder.FolderTakenError as error:
        raise Exit(
            Code.CONFIGURATION,
            f"a fleet runs already in {data} ({error}). Stop it with Ctrl-C where it runs"
            + (f" or with `kill {error.pid}`" if error.pid else "")
            + "; for a second one: --data DIR --port 7379",
        ) from None
    except OSError as error:
        raise Exit(Code.CONFIGURATION, f"{error.filename or data}: {error.strerror}") from None


def _make_orders(
    path: Path, data: Path, port: int, metrics_port: int | None, only: Collection[str]
) -> FleetSpec:
    """Return what is to be run, checked before anything is started. Raises Exit, code 2."""
    _require_truth_file(path)
    truth = read_valid_truth(path)
    try:
        drawn = plan.make_plan(
            truth,
            known=preflight.find_external_buses(truth, os.environ),
            modules=find_modules(truth.services),
            port=port,
            metrics_port=metrics_port,
            only=only,
        )
        starts_servers = any(bus.port is not None for bus in drawn.buses)
        binary = server.find_binary() if starts_servers else None
    except (plan.PlanError, server.NoServerError) as error:
        raise Exit(Code.CONFIGURATION, str(error)) from None
    if not drawn.agents:
        raise Exit(Code.CONFIGURATION, f"{path}: none of its services has a module here, nothing to start")
    return FleetSpec(plan=drawn, truth=truth, truth_path=path.absolute(), data=data, binary=binary)


def _require_truth_file(path: Path) -> None:
    """Raise Exit, code 2, when there is no truth file; the message says how to get one."""
    if path.exists():
        return
    raise Exit(
        Code.CONFIGURATION,
        f"there is no {path.name} in {path.absolute().parent}: it says which services to run. To get one:\n"
        "  marketswarm new prices   a first service of yours, in Python, and a truth.json that runs it\n"
        "  marketswarm init         a truth.json with no service of yours yet, explained\n"
        "Is there one elsewhere? --truth FILE",
    )


def _checked_size(maxmemory: str) -> str:
    """Return `maxmemory` if the servers can take it. Raises Exit, code 2."""
    try:
        memory_size(maxmemory)
    except ValueError as error:
        raise Exit(Code.CONFIGURATION, f"--maxmemory: {error}") from None
    return maxmemory


def _channels_of(orders: FleetSpec) -> tuple[str, ...]:
    """Return the channels over which this fleet will reach people; none if it has no notifier."""
    if not any(agent.svc == NOTIFIER for agent in orders.plan.agents):
        return ()
    return asyncio.run(ways(orders.truth))


def _make_screen(drawn: Plan, *, verbose: bool) -> LogFormatter | None:
    """Return how log lines are shown to a person; None when a program reads them."""
    wanted = os.environ.get("LOG_FORMAT", "").strip().lower()
    if wanted == "json" or (wanted != "console" and not sys.stderr.isatty()):
        return None
    names = (FLEET, *(agent.name for agent in drawn.agents), "bootstrap")
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty()
    return LogFormatter(names, colours=not plain, verbose=verbose)


def _summarize(
    orders: FleetSpec, agents: list[str], data: Path, begun: float, channels: tuple[str, ...]
) -> list[str]:
    """Return what is printed once the fleet is up. `begun` is when the command began (monotonic)."""
    scene = SummaryFacts(
        program=orders.binary.name if orders.binary else "",
        data=str(data),
        make=_has_our_makefile(),
        took_sec=time.monotonic() - begun,
        miss_after_sec=max((watch.timeout_sec for watch in orders.truth.watched()), default=30.0),
        ways=channels,
        guarded=orders.access is not None,
        closed=orders.access is not None and orders.access.closed,
    )
    return summary(orders.plan, agents, scene)


def _has_our_makefile() -> bool:
    try:
        return "simulate:" in Path("Makefile").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
