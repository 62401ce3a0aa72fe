"""Read truth.json, check it, wait for the buses, seed it into each, and report what changed.

`marketswarm.seeding` does the seeding. This module handles the file, signals, exit codes and messages.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from marketswarm import log as logs
from marketswarm.agent import Code, Exit, create_bus
from marketswarm.agent.lifecycle import StopRequest
from marketswarm.agent.service_config import load_with_sections
from marketswarm.bus import Bus, BusError, find_bus_url
from marketswarm.exit import Mistake
from marketswarm.seeding.readiness import wait_for_healer_access, wait_until_all_answer
from marketswarm.seeding.transaction import SeedError, SeedResult, describe_seeding, seed_truth
from marketswarm.settings import CommonSettings, read_settings
from marketswarm.truth import ParsedTruth, TruthError

NAME: Final = "bootstrap"

log = logs.get(NAME)


async def main() -> int:
    """Seed the document at TRUTH_PATH into every bus that it names; return exit code 0.

    Raises Exit: 2 when a setting, the document or a URL is wrong or a bus is a Redis Cluster, 3 when a bus
    failed or a signal arrived before the end.
    """
    settings = read_settings(CommonSettings)
    logs.configure(NAME, settings)
    stop = StopRequest(lambda: None)
    with stop.handle_signals():
        try:
            raw, loaded = _read_document(settings.truth_path)
            async with _open_buses(loaded) as buses:
                await wait_until_all_answer(buses, settings.bootstrap_timeout_sec)
                refused = await wait_for_healer_access(buses, loaded.truth, settings.bootstrap_timeout_sec)
                seeded_by = f"{NAME}@{socket.gethostname()}"
                result = await seed_truth(raw, buses, seeded_by, key=settings.truth_redis_key)
                stop.end_body()
        except asyncio.CancelledError:
            stop.end_body()
            why = f"stopped by {stop.signal or 'SIGINT'} before it was done"
            raise Exit(Code.NO_BUS, why) from None
        except SeedError as error:
            raise Exit(error.code, f"not seeded: {error}") from None
    if refused:
        log.warning(
            "users.outdated", refused=refused, remedy="write the users again (marketswarm acl) and load them"
        )
    _report_result(result, loaded, settings.truth_path, [bus.name for bus in buses])
    return Code.DONE


def _read_document(path: Path) -> tuple[bytes, ParsedTruth]:
    """Read and check the document at `path`, and log all errors and warnings. Raises Exit, code 2."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Mistake(f"TRUTH_PATH: {path} can't be read ({error.strerror})") from None
    try:
        loaded = load_with_sections(raw)
    except TruthError as error:
        for problem in error.problems:
            # the document's mistake, not the program's
            log.error("truth.error", path=problem.path, problem=str(problem))  # noqa: TRY400
        mistakes = "1 mistake" if len(error.problems) == 1 else f"{len(error.problems)} mistakes"
        raise Mistake(f"{path} has {mistakes}; nothing was written") from None
    for warning in loaded.warnings:
        log.warning("truth.warning", path=warning.path, problem=str(warning))
    return raw, loaded


@asynccontextmanager
async def _open_buses(loaded: ParsedTruth) -> AsyncIterator[list[Bus]]:
    """Open every bus that the truth names, without connecting. Raises Exit, code 2, without a usable URL."""
    try:
        urls = {name: find_bus_url(name, os.environ, loaded.truth) for name in loaded.truth.bus_names()}
    except BusError as error:
        raise Mistake(str(error)) from None
    buses = [create_bus(name, url) for name, url in urls.items()]
    try:
        yield buses
    finally:
        for bus in buses:
            await bus.aclose()


def _report_result(result: SeedResult, loaded: ParsedTruth, path: Path, buses: Sequence[str]) -> None:
    changes = result.changes
    for svc in changes.added:
        log.info("truth.added", svc=svc)
    for svc in changes.dropped:
        log.info("truth.dropped", svc=svc)
    for svc, what in changes.changed:
        log.info("truth.changed", svc=svc, what=what)
    for bus, what in changes.buses:
        log.info("truth.bus_changed", bus=bus, what=what)
    for bus in result.repaired:
        log.info("truth.repaired", bus=bus, revision=result.revision)
    log.info(
        "truth.seeded",
        revision=result.revision,
        sha256=result.sha256,
        changed=result.changed,
        services=len(loaded.truth.services),
        buses=list(buses),
    )
    if sys.stdout.isatty():
        sys.stdout.write("".join(f"{line}\n" for line in describe_seeding(result, str(path), buses)))
