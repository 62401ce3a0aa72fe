# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm up`: the whole fleet on this machine."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketswarm.cli.options import DATA, Data
from marketswarm.fleet.limits import MAXMEMORY

if TYPE_CHECKING:
    from marketswarm.fleet.plan import Plan
    from marketswarm.fleet.screen import Screen
    from marketswarm.fleet.swarm import Orders
    from marketswarm.truth import Truth


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
    import asyncio
    from dataclasses import replace

    from marketswarm.exit import Code, Exit
    from marketswarm.fleet import folder, ground, guard
    from marketswarm.fleet.up import run
    from marketswarm.fleet.ways import NOTIFIER, ways
    from marketswarm.settings import Common, read

    if no_default and not acl:
        raise typer.BadParameter("--no-default: there are users with --acl alone")
    settings = read(Common)
    wanted = [svc.strip() for svc in (only or "").split(",") if svc.strip()]
    orders = _orders(truth, data.absolute(), (port, settings.metrics_port), wanted)
    orders = replace(orders, maxmemory=_size(maxmemory))
    try:
        with folder.claim(orders.data):
            after_a_crash = folder.ended_badly(orders.data)
            patience_sec = 1.0 if after_a_crash else 0.0
            ground.need_ports(orders.plan.buses, patience_sec=patience_sec)
            ground.need_metrics_ports(orders.plan.agents, settings.metrics_host, patience_sec=patience_sec)
            if acl:
                orders = replace(
                    orders, guard=guard.prepare(orders.plan, orders.truth, orders.data, closed=no_default)
                )
            screen = _screen(orders.plan, verbose)
            notified = any(agent.svc == NOTIFIER for agent in orders.plan.agents)
            told = asyncio.run(ways(orders.truth)) if notified else ()
            asyncio.run(run(orders, screen, lambda agents: _summary(orders, agents, data, (begun, told))))
    except folder.TakenError as error:
        raise Exit(
            Code.CONFIGURATION,
            f"a fleet runs already in {data} ({error}). Stop it with Ctrl-C where it runs"
            + (f" or with `kill {error.pid}`" if error.pid else "")
            + "; for a second one: --data DIR --port 7379",
        ) from None
    except OSError as error:
        raise Exit(Code.CONFIGURATION, f"{error.filename or data}: {error.strerror}") from None


def _orders(path: Path, data: Path, ports: tuple[int, int | None], only: list[str]) -> "Orders":
    """What is to be run, all of it looked at before anything is started."""
    from marketswarm.cli.document import accepted
    from marketswarm.exit import Code, Exit
    from marketswarm.fleet import ground, plan, server
    from marketswarm.fleet.modules import modules_of
    from marketswarm.fleet.swarm import Orders

    document, (port, metrics_port) = accepted(path), ports
    known = ground.buses_known(document, os.environ)
    try:
        modules = modules_of(document.services)
        drawn = plan.draw(
            document, known=known, modules=modules, port=port, metrics_port=metrics_port, only=only
        )
        ours = any(bus.port is not None for bus in drawn.buses)
        binary = server.find_binary() if ours else None
    except (plan.PlanError, server.NoServerError) as error:
        raise Exit(Code.CONFIGURATION, str(error)) from None
    if not drawn.agents:
        raise Exit(Code.CONFIGURATION, f"{path}: none of its services has a module here, nothing to start")
    return Orders(plan=drawn, truth=document, truth_path=path.absolute(), data=data, binary=binary)


def _size(maxmemory: str) -> str:
    """Return a size that the servers can take. Raises Exit."""
    from marketswarm.exit import Code, Exit
    from marketswarm.fleet.limits import memory_size

    try:
        memory_size(maxmemory)
    except ValueError as error:
        raise Exit(Code.CONFIGURATION, f"--maxmemory: {error}") from None
    return maxmemory


def _screen(drawn: "Plan", verbose: bool) -> "Screen | None":
    """How lines look to a person; None when it is a program that reads them."""
    import sys

    from marketswarm.fleet.screen import FLEET, Screen

    wanted = os.environ.get("LOG_FORMAT", "").strip().lower()
    if wanted == "json" or (wanted != "console" and not sys.stderr.isatty()):
        return None
    names = (FLEET, *(agent.name for agent in drawn.agents), "bootstrap")
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty()
    return Screen(names, colours=not plain, verbose=verbose)


def _summary(
    orders: "Orders", agents: list[str], data: Path, known: tuple[float, tuple[str, ...]]
) -> list[str]:
    from marketswarm.fleet.summary import Scene, summary

    begun, ways = known
    scene = Scene(
        program=orders.binary.name if orders.binary else "",
        data=str(data),
        make=_has_our_makefile(),
        took_sec=time.monotonic() - begun,
        miss_after_sec=_longest_wait_sec(orders.truth),
        ways=ways,
        guarded=orders.guard is not None,
        closed=orders.guard is not None and orders.guard.closed,
    )
    return summary(orders.plan, agents, scene)


def _has_our_makefile() -> bool:
    try:
        return "simulate:" in Path("Makefile").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _longest_wait_sec(truth: "Truth") -> float:
    return max((watch.timeout_sec for watch in truth.watched()), default=30.0)
