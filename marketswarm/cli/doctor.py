"""Implement `marketswarm doctor`: look at every link of a fleet, and name what is wrong and its remedy."""

import asyncio
import time
from collections.abc import Awaitable, Mapping
from typing import Any, Final

from marketswarm.agent.truth_source import TruthReading, read_all_truths
from marketswarm.bus import Bus, BusError
from marketswarm.bus.stored_values import read_time
from marketswarm.cli import output
from marketswarm.cli.board_reading import read_board
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.findings import (
    ArchiveReading,
    BusReading,
    CheckResult,
    FleetReading,
    Level,
    judge_all,
)
from marketswarm.cli.fleet_view import FleetView, ask_fleet
from marketswarm.cli.options import Data, Json
from marketswarm.cli.status import read_status
from marketswarm.exit import Exit
from marketswarm.history.store import read_history
from marketswarm.keys import ALERT_LOG, ALERTS, NOTIFIER_GROUP, TRUTH_CHANGED
from marketswarm.operator.service_reports import read_backup_report, read_database_report
from marketswarm.pages import split_pages
from marketswarm.settings import CommonSettings, read_settings
from marketswarm.text import escape_text
from marketswarm.truth import SYSTEM

SOMETHING_WRONG: Final = 1
"""The exit code if anything is wrong; notes alone don't count."""
MOST_SEC: Final = 25.0
"""How long all may take once the fleet is found, which takes some seconds itself: half a minute in all."""
CHANNELS_AT_ONCE: Final = 1000
_MARKS: Final = {Level.RIGHT: "✓", Level.NOTE: "·", Level.WRONG: "✗"}
_STYLES: Final = {Level.RIGHT: output.GREEN, Level.NOTE: output.YELLOW, Level.WRONG: output.RED}
_NOTIFIER: Final = "notifier"
_ARCHIVE: Final = "archive"
_BOARD: Final = "board"


def doctor(as_json: Json = False, data: Data = DATA) -> None:
    """Look for what is wrong with a fleet: buses, truth, clocks, servers, listeners, messages, the market.

    Of a market, that is how archive and its backups are, and what the board answers: its health, which has
    the log of signals, and a chart.
    Each finding has its remedy. Ends within half a minute, with 1 if anything is wrong; notes alone don't
    count.
    """
    found = ask_fleet(data, _examine_in_time)
    if as_json:
        output.print_json(found)
    else:
        _print_findings(found)
    if any(one.level is Level.WRONG for one in found):
        raise Exit(SOMETHING_WRONG, "")


def _print_findings(found: list[CheckResult]) -> None:
    width = max(len(one.about) for one in found)
    for one in found:
        text = f"{_MARKS[one.level]} {one.about:<{width}}  {escape_text(one.text)}"
        output.print_line(text, _STYLES[one.level])
        if one.remedy:
            output.print_line(f"  {'':<{width}}  > {escape_text(one.remedy)}")
    wrong = sum(one.level is Level.WRONG for one in found)
    notes = sum(one.level is Level.NOTE for one in found)
    output.print_line(f"{wrong or 'nothing'} wrong, {notes or 'no'} note{'' if notes == 1 else 's'}")


async def _examine_in_time(fleet: FleetView) -> list[CheckResult]:
    try:
        async with asyncio.timeout(MOST_SEC):
            return await _examine(fleet)
    except TimeoutError:
        text = f"not all of it answered within {MOST_SEC:.0f} s"
        return [CheckResult(Level.WRONG, "fleet", text, "`marketswarm status` says which part is slow")]


async def _examine(fleet: FleetView) -> list[CheckResult]:
    settings = read_settings(CommonSettings)
    truths = await read_all_truths(fleet.buses(), settings.truth_redis_key, None, 2.0)
    buses = asyncio.gather(*(_read_bus(fleet, each) for each in truths))
    if fleet.found is None:
        return judge_all(await buses, None)
    return judge_all(*await asyncio.gather(buses, _read_fleet(fleet)))


async def _read_bus(fleet: FleetView, seen: TruthReading) -> BusReading:
    bus = seen.bus
    try:
        begun = time.time()
        ahead_sec = await read_time(bus) - (begun + time.time()) / 2
        info = await _ask_if_allowed(bus, bus.client.info())
        config = await _read_config(bus)
        listeners = await _read_listeners(fleet, bus)
        followers = await _ask_if_allowed(bus, bus.client.pubsub_numsub(TRUTH_CHANGED))
        alert_bus = fleet.truth.alert_target(ALERTS)[0] if fleet.found else SYSTEM
        log_entries, notifier_lag = await _read_log(bus) if bus.name == alert_bus else (None, None)
    except BusError as error:
        return BusReading(bus.name, bus.where, reason=error.reason)
    return BusReading(
        bus.name,
        bus.where,
        revision=seen.found.revision if seen.found else None,
        sha256=seen.found.loaded.sha256 if seen.found else None,
        truth_reason=None if seen.found else escape_text(seen.reason),
        ahead_sec=ahead_sec,
        info=info if isinstance(info, dict) else None,
        config=config,
        listeners=listeners,
        truth_followers=followers[0][1] if followers else None,
        log_entries=log_entries,
        notifier_lag=notifier_lag,
    )


async def _ask_if_allowed(bus: Bus, request: Awaitable[Any]) -> Any:
    """Return the answer to a request; None if the user may not send it."""
    try:
        return await bus.ask(request)
    except BusError as error:
        if error.reason in ("auth", "error"):
            return None
        raise


async def _read_config(bus: Bus) -> dict[str, str] | None:
    asked = bus.client.config_get("client-output-buffer-limit", "timeout")
    found = await _ask_if_allowed(bus, asked)
    if not isinstance(found, Mapping):
        return None
    return {_text(name): _text(value) for name, value in found.items()}


async def _read_listeners(fleet: FleetView, bus: Bus) -> dict[str, int] | None:
    """Return the number of subscribers of each watched service of a bus; None if PUBSUB is refused."""
    watched = [watch for watch in fleet.truth.watched() if watch.bus == bus.name] if fleet.found else []
    found: dict[str, int] = {}
    for page in split_pages(watched, CHANNELS_AT_ONCE):
        asked = bus.client.pubsub_numsub(*(watch.channel for watch in page))
        counts = await _ask_if_allowed(bus, asked)
        if counts is None:
            return None
        found |= {watch.svc: int(count) for watch, (_, count) in zip(page, counts, strict=False)}
    return found


async def _read_log(bus: Bus) -> tuple[int | None, int | None]:
    """Return the length of the alert log, and how many entries the notifier has not done.

    None is a length that this user may not ask for, and the lag of a notifier that has never read there.
    """
    entries = await _ask_if_allowed(bus, bus.client.xlen(ALERT_LOG))
    groups = None if entries is None else await _ask_if_allowed(bus, bus.client.xinfo_groups(ALERT_LOG))
    ours = next((one for one in groups or () if _text(one.get("name")) == NOTIFIER_GROUP), None)
    if ours is None:
        return entries, None
    counts = (ours.get("lag"), ours.get("pending"))
    return entries, sum(count for count in counts if isinstance(count, int))


async def _read_fleet(fleet: FleetView) -> FleetReading:
    truth = fleet.truth
    report = await read_status(fleet)
    rows, leader, notifications = report.rows, report.leader, report.notifications
    section = truth.services.get(_NOTIFIER)
    channels = section.settings.get("channels") if section else None
    return FleetReading(
        leader=None if leader is None else escape_text(leader.boot),
        lapsed_sec=leader.lapsed_sec if leader else 0.0,
        down=[row.svc for row in rows if row.verdict != "up"],
        degraded={row.svc: row.detail or "" for row in rows if row.status == "degraded"},
        has_notifier=section is not None,
        channels=list(channels) if isinstance(channels, dict) else [],
        stuck=sum(one.stuck for one in notifications.pending),
        dead=notifications.dead,
        has_board=_BOARD in truth.services,
        recorded_ago_sec=await _read_history_age(fleet.bus(SYSTEM)),
        archive=await _read_archive(fleet.bus(SYSTEM)) if _ARCHIVE in truth.services else None,
        board=await read_board(fleet.data) if _BOARD in truth.services else None,
    )


async def _read_archive(bus: Bus) -> ArchiveReading:
    now = time.time()
    try:
        backups, database = await read_backup_report(bus), await read_database_report(bus, now)
    except BusError as error:
        return ArchiveReading(now, error.reason)
    return ArchiveReading(now, None, backups, database)


async def _read_history_age(bus: Bus) -> float | None:
    try:
        stored = await read_history(bus, int(time.time()), [])
    except BusError:
        return None
    return None if stored is None else max(0.0, time.time() - stored.history.listening.until)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
