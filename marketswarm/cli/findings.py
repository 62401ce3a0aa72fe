"""Judge what `marketswarm doctor` read: each finding says what is right or wrong, and what to do. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Any, Final

from marketswarm.text import format_duration, format_names

SKEW_SEC: Final = 2.0
"""Clocks that differ by more than this make times in messages hard to read; no verdict depends on them."""
LAG_ENTRIES: Final = 100
FULL_SHARE: Final = 0.9
MIN_PUBSUB_BYTES: Final = 64 << 20
MAX_DEGRADED: Final = 5
SETTINGS_PAGE: Final = "docs/buses.md has the settings for a server"


class Level(StrEnum):
    """How bad a finding is. Only `wrong` makes the command end with 1."""

    RIGHT = "right"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was looked at, what was found, and the remedy; the latter is empty if none is needed."""

    level: Level
    about: str
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class BusReading:
    """What was read of one bus; `reason` is why it did not answer, None if it did.

    `revision` and `sha256` are of the truth that it holds, `truth_reason` is why it holds no valid one.
    `ahead_sec` is how far its clock is ahead of ours. `info` are the values of INFO, `config` those of CONFIG
    GET, None where the user may not ask. `listeners` are the subscribers of each heartbeat channel, by
    service. `log_entries` is the length of the alert log, None on a bus without one, and `notifier_lag` how
    many of them the notifier has not done, None if it has never read there.
    """

    name: str
    where: str
    reason: str | None = None
    revision: int | None = None
    sha256: str | None = None
    truth_reason: str | None = None
    ahead_sec: float = 0.0
    info: Mapping[str, Any] | None = None
    config: Mapping[str, str] | None = None
    listeners: Mapping[str, int] | None = None
    truth_followers: int | None = None
    log_entries: int | None = None
    notifier_lag: int | None = None


@dataclass(frozen=True, slots=True)
class FleetReading:
    """What was read of the fleet as a whole.

    `leader` is the boot of the healer that leads, and `lapsed_sec` for how long its lease has been expired, 0
    while it is valid. `down` and `degraded` are services, the latter with what they say. `channels` are those
    that the truth names. `recorded_ago_sec` is the age of the board's history, None without one.
    """

    leader: str | None = None
    lapsed_sec: float = 0.0
    down: Sequence[str] = ()
    degraded: Mapping[str, str] = field(default_factory=dict)
    has_notifier: bool = True
    channels: Sequence[str] = ()
    stuck: int = 0
    dead: int = 0
    has_board: bool = False
    recorded_ago_sec: float | None = None


def judge_all(buses: Sequence[BusReading], fleet: FleetReading | None) -> list[CheckResult]:
    found = [*chain.from_iterable(map(judge_bus, buses)), *judge_truth(buses)]
    return found if fleet is None else [*found, *judge_fleet(fleet)]


def judge_bus(bus: BusReading) -> Iterator[CheckResult]:
    if bus.reason is not None:
        remedy = f"start the server, or look at the address: it was asked at {bus.where}"
        yield CheckResult(Level.WRONG, bus.name, f"does not answer: {bus.reason}", remedy)
        return
    yield CheckResult(Level.RIGHT, bus.name, f"answers at {bus.where}")
    if abs(bus.ahead_sec) > SKEW_SEC:
        way = "ahead of" if bus.ahead_sec > 0 else "behind"
        text = f"its clock is {format_duration(abs(bus.ahead_sec))} {way} the one here"
        yield CheckResult(Level.NOTE, bus.name, text, "have both machines keep their clocks by NTP")
    if bus.info is None:
        yield _not_asked(bus.name, "INFO", "its persistence and memory")
    else:
        yield from _judge_persistence(bus.name, bus.info)
        yield from _judge_memory(bus.name, bus.info)
    yield from _judge_buffers(bus)
    yield from _judge_listeners(bus)
    yield from _judge_log(bus)


def _not_asked(name: str, command: str, what: str) -> CheckResult:
    remedy = "log in as a user who may, or look on the server"
    return CheckResult(Level.NOTE, name, f"{what} could not be looked at: {command} is refused", remedy)


def _judge_persistence(name: str, info: Mapping[str, Any]) -> Iterator[CheckResult]:
    if info.get("aof_enabled") in (1, "1"):
        if info.get("aof_last_write_status", "ok") != "ok":
            text = "its last write to disk failed"
            yield CheckResult(Level.WRONG, name, text, "look at the disk of the server")
        else:
            yield CheckResult(Level.RIGHT, name, "keeps its data over a restart (appendonly)")
        return
    text = "loses data at a restart: appendonly is off"
    yield CheckResult(Level.WRONG, name, text, f"CONFIG SET appendonly yes, and in its file; {SETTINGS_PAGE}")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        text = "its last save to disk failed"
        yield CheckResult(Level.WRONG, name, text, "look at the disk of the server")


def _judge_memory(name: str, info: Mapping[str, Any]) -> Iterator[CheckResult]:
    policy, most, used = (info.get(key) for key in ("maxmemory_policy", "maxmemory", "used_memory"))
    if policy is not None and policy != "noeviction":
        text = f"forgets keys when it is full (maxmemory-policy {policy})"
        remedy = f"CONFIG SET maxmemory-policy noeviction, and in its file; {SETTINGS_PAGE}"
        yield CheckResult(Level.WRONG, name, text, remedy)
    if most == 0:
        remedy = f"set maxmemory to half of the machine's memory; {SETTINGS_PAGE}"
        yield CheckResult(Level.NOTE, name, "may take all memory of its machine: maxmemory is 0", remedy)
    elif isinstance(most, int) and isinstance(used, int) and used > FULL_SHARE * most:
        text = f"is {100 * used // most} % full: it refuses writes at maxmemory"
        yield CheckResult(Level.WRONG, name, text, "raise maxmemory, or shorten the streams of your services")


def _judge_buffers(bus: BusReading) -> Iterator[CheckResult]:
    if bus.config is None:
        yield _not_asked(bus.name, "CONFIG GET", "its output buffers")
        return
    hard = parse_pubsub_limit(bus.config.get("client-output-buffer-limit", ""))
    if hard is not None and 0 < hard < MIN_PUBSUB_BYTES:
        text = f"cuts subscribers off at {hard >> 20} MB: a burst of beats may cut off the healer"
        remedy = f'CONFIG SET client-output-buffer-limit "pubsub 256mb 64mb 60"; {SETTINGS_PAGE}'
        yield CheckResult(Level.NOTE, bus.name, text, remedy)
    if bus.config.get("timeout", "0") not in ("0", ""):
        text = f"cuts off clients that are idle for {bus.config['timeout']} s"
        yield CheckResult(Level.NOTE, bus.name, text, "CONFIG SET timeout 0, and in its file")


def parse_pubsub_limit(setting: str) -> int | None:
    """Return the hard limit of subscribers in bytes, 0 for none; None if the setting does not have it."""
    words = setting.split()
    for at, word in enumerate(words[:-1]):
        if word == "pubsub" and words[at + 1].isascii() and words[at + 1].isdigit():
            return int(words[at + 1][:18])
    return None


def _judge_listeners(bus: BusReading) -> Iterator[CheckResult]:
    if bus.listeners is None:
        yield _not_asked(bus.name, "PUBSUB", "who subscribes")
        return
    deaf = [svc for svc, count in bus.listeners.items() if not count]
    if deaf:
        text = f"nobody listens to {format_names(deaf)}, {len(deaf)} of {len(bus.listeners)} services"
        remedy = "is the healer up? `marketswarm status`; with users, renew them: `marketswarm acl`"
        yield CheckResult(Level.WRONG, bus.name, text, remedy)
    elif bus.listeners:
        yield CheckResult(
            Level.RIGHT, bus.name, f"somebody listens to each of its {len(bus.listeners)} services"
        )
    if bus.truth_followers == 0:
        text = "no agent follows changes of the truth here"
        yield CheckResult(Level.NOTE, bus.name, text, "is any agent up? `marketswarm status`")


def _judge_log(bus: BusReading) -> Iterator[CheckResult]:
    if bus.log_entries is None:
        return
    text = f"the alert log has {bus.log_entries} entries"
    if bus.notifier_lag is None:
        remedy = "start a notifier, or nobody gets a message"
        yield CheckResult(Level.WRONG, bus.name, f"{text}, and no notifier has ever read it", remedy)
        return
    text += f", the notifier is {bus.notifier_lag} behind"
    if bus.notifier_lag > LAG_ENTRIES:
        yield CheckResult(Level.WRONG, bus.name, text, "is the notifier up? `marketswarm logs notifier`")
    else:
        yield CheckResult(Level.RIGHT, bus.name, text)


def judge_truth(buses: Sequence[BusReading]) -> Iterator[CheckResult]:
    remedy, holders = "`marketswarm seed` writes one truth to all buses", list[BusReading]()
    for bus in buses:
        if bus.reason is None and bus.truth_reason is None:
            holders.append(bus)
        elif bus.reason is None:
            yield CheckResult(Level.WRONG, bus.name, f"has no valid truth: {bus.truth_reason}", remedy)
    if not holders:
        return
    if len({(bus.revision, bus.sha256) for bus in holders}) == 1:
        revision = holders[0].revision
        number = "one whose revision is unknown" if revision is None else f"revision {revision}"
        names = format_names([bus.name for bus in holders])
        yield CheckResult(Level.RIGHT, "truth", f"{number} on {names}")
    else:
        told = ", ".join(f"{bus.name} has {bus.revision or 'an unknown revision'}" for bus in holders)
        yield CheckResult(Level.WRONG, "truth", f"the buses differ: {told}", remedy)


def judge_fleet(fleet: FleetReading) -> Iterator[CheckResult]:
    if fleet.leader is None:
        yield CheckResult(Level.WRONG, "healer", "none leads: no alert is published", "start a healer")
    elif fleet.lapsed_sec:
        text = f"the lease of {fleet.leader} ran out {format_duration(fleet.lapsed_sec)} ago"
        yield CheckResult(Level.WRONG, "healer", f"{text}: no alert is published", "start a healer")
    else:
        yield CheckResult(Level.RIGHT, "healer", f"{fleet.leader} leads")
    if fleet.down:
        text = f"{len(fleet.down)} not up: {format_names(fleet.down)}"
        yield CheckResult(Level.WRONG, "services", text, "`marketswarm status` says since when, and why")
    else:
        yield CheckResult(Level.RIGHT, "services", "all are up")
    for svc, detail in list(fleet.degraded.items())[:MAX_DEGRADED]:
        yield CheckResult(Level.NOTE, svc, f"is degraded: {detail}", f"`marketswarm logs {svc}`")
    yield from _judge_messages(fleet)
    yield from _judge_history(fleet)


def _judge_messages(fleet: FleetReading) -> Iterator[CheckResult]:
    if not fleet.has_notifier:
        remedy = "add a section `notifier` to the truth"
        yield CheckResult(Level.WRONG, "messages", "the truth has no notifier: nobody gets a message", remedy)
        return
    if fleet.channels:
        text = f"the truth names {len(fleet.channels)} channels: {format_names(fleet.channels)}"
        yield CheckResult(Level.RIGHT, "messages", text)
    else:
        text = "the truth names no channel; only the environment of the notifier may have some"
        yield CheckResult(Level.NOTE, "messages", text, "`marketswarm notify test` tries it")
    if fleet.stuck:
        text = f"{fleet.stuck} wait for a receiver that fails"
        yield CheckResult(Level.WRONG, "messages", text, "`marketswarm dead` says which, and why")
    if fleet.dead:
        text = f"{fleet.dead} could not be delivered"
        yield CheckResult(Level.NOTE, "messages", text, "`marketswarm dead` shows them, and how to send them")


def _judge_history(fleet: FleetReading) -> Iterator[CheckResult]:
    if not fleet.has_board:
        return
    ago = fleet.recorded_ago_sec
    if ago is None or ago > 180:
        when = "nothing is recorded" if ago is None else f"nothing is recorded for {format_duration(ago)}"
        yield CheckResult(Level.NOTE, "history", when, "is the board up? `marketswarm logs board`")
    else:
        yield CheckResult(Level.RIGHT, "history", "is recorded")
