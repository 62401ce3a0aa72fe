"""Judge what `marketswarm doctor` read: each finding says what is right or wrong, and what to do. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import chain, pairwise
from typing import Any, Final, Literal

from marketswarm.operator.service_reports import BackupReport, BackupState, DatabaseReport
from marketswarm.text import escape_text, format_duration, format_names

SKEW_SEC: Final = 2.0
"""Clocks that differ by more than this make times in messages hard to read; no verdict depends on them."""
LAG_ENTRIES: Final = 100
FULL_SHARE: Final = 0.9
MIN_PUBSUB_BYTES: Final = 64 << 20
MAX_DEGRADED: Final = 5
MAX_RECORD_AGE_SEC: Final = 180.0
MAX_ARCHIVE_LAG_SEC: Final = 600.0
MAX_BACKUP_LATE_SEC: Final = 3600.0
MAX_CHART_SEC: Final = 1.0
MARKET_PARTS: Final = {
    "market": ("market", "`marketswarm logs board`"),
    "postgresql": ("postgresql", "is PostgreSQL up? `marketswarm logs board`"),
    "gate": ("gate", "`marketswarm logs sources`; the board's page of sources says which series failed"),
    "oldest_series": ("series", "`marketswarm source refresh` loads them again"),
    "newest_bar": ("newest bar", "`marketswarm logs bars`"),
    "signals_tick": ("signals", "`marketswarm health signals` says why; `marketswarm logs signals`"),
    "signals_checkpoint": ("checkpoint", "`marketswarm health signals` says why nothing is signed"),
    "signals_witness": ("witness", "docs/services/signals-operating.md says what each refusal means"),
    "signals_gap": ("gap", "nobody can fill it; `marketswarm logs signals` says what happened then"),
}
"""By the part of the board's health: what it is called, and the remedy. Buses and backups are read here."""
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
class ArchiveReading:
    """What archive says on system-redis of its backups and its database; None is what it does not say.

    `reason` is why that may not be read, None if it may; `now` is in epoch seconds.
    """

    now: float
    reason: str | None = None
    backups: BackupReport | None = None
    database: DatabaseReport | None = None


@dataclass(frozen=True, slots=True)
class BoardPart:
    """A part of `GET /health` as the board judges it: `ok`, `off`, `degraded` or `down`, and why.

    `age_sec` is the age of what is known; `name` is what exactly it is about, such as a series.
    """

    status: Literal["ok", "off", "degraded", "down"]
    age_sec: float | None = None
    why: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class BoardReading:
    """What the board at `url` answered; `reason` is why it did not, None if it did.

    `is_named` says that the fleet here or the environment names that address. `parts` are those of its
    health, None if it does not show them to us. `symbol` is the one whose chart was asked for, None if no
    symbol has a bar; `chart_why` is why that chart did not come, None if it came, within `chart_sec`.
    """

    url: str
    is_named: bool
    reason: str | None = None
    parts: Mapping[str, BoardPart] | None = None
    symbol: str | None = None
    chart_why: str | None = None
    chart_sec: float = 0.0


@dataclass(frozen=True, slots=True)
class FleetReading:
    """What was read of the fleet as a whole.

    `leader` is the boot of the healer that leads, and `lapsed_sec` for how long its lease has been expired, 0
    while it is valid. `down` and `degraded` are services, the latter with what they say. `channels` are those
    that the truth names. `recorded_ago_sec` is the age of the board's history, None without one.
    `archive` and `board` are None for a truth without that service.
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
    archive: ArchiveReading | None = None
    board: BoardReading | None = None


_right: Final = partial(CheckResult, Level.RIGHT)
_note: Final = partial(CheckResult, Level.NOTE)
_wrong: Final = partial(CheckResult, Level.WRONG)


def judge_all(buses: Sequence[BusReading], fleet: FleetReading | None) -> list[CheckResult]:
    found = [*chain.from_iterable(map(judge_bus, buses)), *judge_truth(buses)]
    return found if fleet is None else [*found, *judge_fleet(fleet)]


def judge_bus(bus: BusReading) -> Iterator[CheckResult]:
    name = bus.name
    if bus.reason is not None:
        remedy = f"start the server, or look at the address: it was asked at {bus.where}"
        yield _wrong(name, f"does not answer: {bus.reason}", remedy)
        return
    yield _right(name, f"answers at {bus.where}")
    if abs(bus.ahead_sec) > SKEW_SEC:
        way = "ahead of" if bus.ahead_sec > 0 else "behind"
        text = f"its clock is {format_duration(abs(bus.ahead_sec))} {way} the one here"
        yield _note(name, text, "have both machines keep their clocks by NTP")
    if bus.info is None:
        yield _not_asked(name, "INFO", "its persistence and memory")
    else:
        yield from _judge_persistence(name, bus.info)
        yield from _judge_memory(name, bus.info)
    yield from _judge_buffers(bus)
    yield from _judge_listeners(bus)
    yield from _judge_log(bus)


def _not_asked(name: str, command: str, what: str) -> CheckResult:
    remedy = "log in as a user who may, or look on the server"
    return _note(name, f"{what} could not be looked at: {command} is refused", remedy)


def _judge_persistence(name: str, info: Mapping[str, Any]) -> Iterator[CheckResult]:
    disk = "look at the disk of the server"
    if info.get("aof_enabled") in (1, "1"):
        is_written = info.get("aof_last_write_status", "ok") == "ok"
        kept = _right(name, "keeps its data over a restart (appendonly)")
        yield kept if is_written else _wrong(name, "its last write to disk failed", disk)
        return
    remedy = f"CONFIG SET appendonly yes, and in its file; {SETTINGS_PAGE}"
    yield _wrong(name, "loses data at a restart: appendonly is off", remedy)
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield _wrong(name, "its last save to disk failed", disk)


def _judge_memory(name: str, info: Mapping[str, Any]) -> Iterator[CheckResult]:
    policy, most, used = (info.get(key) for key in ("maxmemory_policy", "maxmemory", "used_memory"))
    if policy is not None and policy != "noeviction":
        remedy = f"CONFIG SET maxmemory-policy noeviction, and in its file; {SETTINGS_PAGE}"
        yield _wrong(name, f"forgets keys when it is full (maxmemory-policy {policy})", remedy)
    if most == 0:
        remedy = f"set maxmemory to half of the machine's memory; {SETTINGS_PAGE}"
        yield _note(name, "may take all memory of its machine: maxmemory is 0", remedy)
    elif isinstance(most, int) and isinstance(used, int) and used > FULL_SHARE * most:
        text = f"is {100 * used // most} % full: it refuses writes at maxmemory"
        yield _wrong(name, text, "raise maxmemory, or shorten the streams of your services")


def _judge_buffers(bus: BusReading) -> Iterator[CheckResult]:
    if bus.config is None:
        yield _not_asked(bus.name, "CONFIG GET", "its output buffers")
        return
    hard = parse_pubsub_limit(bus.config.get("client-output-buffer-limit", ""))
    if hard is not None and 0 < hard < MIN_PUBSUB_BYTES:
        text = f"cuts subscribers off at {hard >> 20} MB: a burst of beats may cut off the healer"
        remedy = f'CONFIG SET client-output-buffer-limit "pubsub 256mb 64mb 60"; {SETTINGS_PAGE}'
        yield _note(bus.name, text, remedy)
    if bus.config.get("timeout", "0") not in ("0", ""):
        text = f"cuts off clients that are idle for {bus.config['timeout']} s"
        yield _note(bus.name, text, "CONFIG SET timeout 0, and in its file")


def parse_pubsub_limit(setting: str) -> int | None:
    """Return the hard limit of subscribers in bytes, 0 for none; None if the setting does not have it."""
    words = setting.split()
    for word, limit in pairwise(words):
        if word == "pubsub" and limit.isascii() and limit.isdigit():
            return int(limit[:18])
    return None


def _judge_listeners(bus: BusReading) -> Iterator[CheckResult]:
    if bus.listeners is None:
        yield _not_asked(bus.name, "PUBSUB", "who subscribes")
        return
    deaf = [svc for svc, count in bus.listeners.items() if not count]
    if deaf:
        text = f"nobody listens to {format_names(deaf)}, {len(deaf)} of {len(bus.listeners)} services"
        remedy = "is the healer up? `marketswarm status`; with users, renew them: `marketswarm acl`"
        yield _wrong(bus.name, text, remedy)
    elif bus.listeners:
        yield _right(bus.name, f"somebody listens to each of its {len(bus.listeners)} services")
    if bus.truth_followers == 0:
        remedy = "is any agent up? `marketswarm status`"
        yield _note(bus.name, "no agent follows changes of the truth here", remedy)


def _judge_log(bus: BusReading) -> Iterator[CheckResult]:
    if bus.log_entries is None:
        return
    text = f"the alert log has {bus.log_entries} entries"
    if bus.notifier_lag is None:
        remedy = "start a notifier, or nobody gets a message"
        yield _wrong(bus.name, f"{text}, and no notifier has ever read it", remedy)
        return
    text += f", the notifier is {bus.notifier_lag} behind"
    is_late = bus.notifier_lag > LAG_ENTRIES
    late = _wrong(bus.name, text, "is the notifier up? `marketswarm logs notifier`")
    yield late if is_late else _right(bus.name, text)


def judge_truth(buses: Sequence[BusReading]) -> Iterator[CheckResult]:
    remedy = (
        "`marketswarm seed` writes your truth.json to all buses; first see what that changes: "
        "`marketswarm truth diff truth.json`"
    )
    holders = list[BusReading]()
    for bus in buses:
        if bus.reason is None and bus.truth_reason is None:
            holders.append(bus)
        elif bus.reason is None:
            yield _wrong(bus.name, f"has no valid truth: {bus.truth_reason}", remedy)
    if not holders:
        return
    if len({(bus.revision, bus.sha256) for bus in holders}) == 1:
        revision = holders[0].revision
        number = "one whose revision is unknown" if revision is None else f"revision {revision}"
        yield _right("truth", f"{number} on {format_names([bus.name for bus in holders])}")
    else:
        told = ", ".join(f"{bus.name} has {bus.revision or 'an unknown revision'}" for bus in holders)
        yield _wrong("truth", f"the buses differ: {told}", remedy)


def judge_fleet(fleet: FleetReading) -> Iterator[CheckResult]:
    if fleet.leader is None:
        yield _wrong("healer", "none leads: no alert is published", "start a healer")
    elif fleet.lapsed_sec:
        text = f"the lease of {fleet.leader} ran out {format_duration(fleet.lapsed_sec)} ago"
        yield _wrong("healer", f"{text}: no alert is published", "start a healer")
    else:
        yield _right("healer", f"{fleet.leader} leads")
    if fleet.down:
        text = f"{len(fleet.down)} not up: {format_names(fleet.down)}"
        yield _wrong("services", text, "`marketswarm status` says since when, and why")
    else:
        yield _right("services", "all are up")
    for svc, detail in list(fleet.degraded.items())[:MAX_DEGRADED]:
        yield _note(svc, f"is degraded: {detail}", f"`marketswarm logs {svc}`")
    yield from _judge_messages(fleet)
    if fleet.has_board:
        yield _judge_history(fleet.recorded_ago_sec)
    if fleet.archive is not None:
        yield from judge_archive(fleet.archive)
    if fleet.board is not None:
        yield from judge_board(fleet.board)


def _judge_messages(fleet: FleetReading) -> Iterator[CheckResult]:
    about = "messages"
    if not fleet.has_notifier:
        remedy = "add a section `notifier` to the truth"
        yield _wrong(about, "the truth has no notifier: nobody gets a message", remedy)
        return
    if fleet.channels:
        yield _right(about, f"the truth names {len(fleet.channels)} channels: {format_names(fleet.channels)}")
    else:
        text = "the truth names no channel; only the environment of the notifier may have some"
        yield _note(about, text, "`marketswarm notify test` tries it")
    if fleet.stuck:
        remedy = "`marketswarm dead` says which, and why"
        yield _wrong(about, f"{fleet.stuck} wait for a receiver that fails", remedy)
    if fleet.dead:
        remedy = "`marketswarm dead` shows them, and how to send them"
        yield _note(about, f"{fleet.dead} could not be delivered", remedy)


def _judge_history(ago_sec: float | None) -> CheckResult:
    if ago_sec is not None and ago_sec <= MAX_RECORD_AGE_SEC:
        return _right("history", "is recorded")
    since = "" if ago_sec is None else f" for {format_duration(ago_sec)}"
    return _note("history", f"nothing is recorded{since}", "is the board up? `marketswarm logs board`")


def judge_archive(archive: ArchiveReading) -> Iterator[CheckResult]:
    if archive.reason is not None:
        yield _note("archive", f"its reports could not be read: {archive.reason}", "read them as operator")
        return
    yield _judge_database(archive.database)
    yield from _judge_backups(archive.backups, archive.now)


def _judge_database(report: DatabaseReport | None) -> CheckResult:
    remedy = "is archive up, and PostgreSQL? `marketswarm logs archive`"
    if report is None:
        return _wrong("archive", "says nothing of its database", remedy)
    if report.lag_sec is None:
        return _note("archive", "does not know how far it is behind", remedy)
    text = f"is {format_duration(report.lag_sec)} behind"
    is_late = report.lag_sec > MAX_ARCHIVE_LAG_SEC
    return _wrong("archive", text, remedy) if is_late else _right("archive", text)


def _judge_backups(report: BackupReport | None, now: float) -> Iterator[CheckResult]:
    logs = "`marketswarm logs archive` says more"
    if report is None:
        yield _note("backup", "archive says nothing of backups", logs)
        return
    if report.state is BackupState.OFF:
        yield _note("backup", "none is made", "set ARCHIVE_BACKUP_FOLDER")
        return
    if report.damaged:
        yield _wrong("backup", f"{report.damaged} is not what was saved", "look at its disk, and remove it")
    if report.state is BackupState.FAILED:
        yield _wrong("backup", f"the last one failed: {report.why}", logs)
    elif report.find_late_sec(now) > MAX_BACKUP_LATE_SEC:
        yield _wrong("backup", f"is due for {format_duration(report.find_late_sec(now))}", logs)
    elif report.made_at is not None:
        yield _right("backup", f"the newest is {format_duration(max(0.0, now - report.made_at))} old")
    if report.verify_why:
        yield _wrong("restore", f"the newest backup could not be restored: {report.verify_why}", logs)
    elif report.verified_at is not None:
        ago = format_duration(max(0.0, now - report.verified_at))
        yield _right("restore", f"a backup was restored and compared {ago} ago")


def judge_board(board: BoardReading) -> Iterator[CheckResult]:
    """Judge the board's answers; the parts of its health are judged by itself."""
    if board.reason is not None:
        text, remedy = f"does not answer at {board.url}: {escape_text(board.reason)}", "is it up?"
        if board.is_named:
            yield _wrong("board", text, f"{remedy} `marketswarm logs board`")
        else:
            yield _note("board", text, f"{remedy} BOARD_HOST and BOARD_PORT name another address")
        return
    yield _right("board", f"answers at {board.url}")
    if board.parts is None:
        yield _note("market", "the board does not show its parts to this machine", "ask on the board's own")
        return
    for name, (about, remedy) in MARKET_PARTS.items():
        if (part := board.parts.get(name)) is not None and part.status != "off":
            yield _judge_part(about, part, remedy)
    if board.symbol is None:
        return
    if board.chart_why is not None:
        text = f"that of {board.symbol} did not come: {escape_text(board.chart_why)}"
        yield _wrong("chart", text, "`marketswarm logs board`")
    elif board.chart_sec > MAX_CHART_SEC:
        yield _note("chart", f"that of {board.symbol} took {board.chart_sec:.1f} s", "is the machine busy?")
    else:
        yield _right(
            "chart", f"that of {board.symbol} came within {max(1, round(board.chart_sec * 1000))} ms"
        )


def _judge_part(about: str, part: BoardPart, remedy: str) -> CheckResult:
    age = "" if part.age_sec is None else f"{format_duration(max(0.0, part.age_sec))} ago"
    text = ", ".join(escape_text(each) for each in (part.why, part.name, age) if each)
    return _right(about, text or "in order") if part.status == "ok" else _wrong(about, text, remedy)
