"""Ask `marketswarm up` of this machine, by its control socket, and read the log files of its processes."""

import asyncio
from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from marketswarm import log as logs
from marketswarm.fleet_control import (
    FleetProcess,
    NoFleetError,
    ProcessState,
    RestartAnswer,
    read_processes,
    request_restart,
)
from marketswarm.log_follower import LogFollower, find_log_files
from marketswarm.packed_log import LOG_LINES
from services.medic.facts import ProcessFacts, RestartOwner
from services.medic.owners.log_source import LogSource, NewLines, ReadLines
from services.medic.owners.owner import NoOwnerError, OwnedProcess, ProcessOwner

MAX_BYTES: Final = 65_536
"""How much of a log file is read in one look: its end."""

log = logs.get("medic")


class EmbeddedFleet(ProcessOwner):
    """The fleet behind one control socket; the truth may make the medic the owner of its processes."""

    restarts_for: ClassVar = frozenset({RestartOwner.UP, RestartOwner.MEDIC})

    def __init__(self, socket: Path) -> None:
        self._address, self.requests = str(socket), Counter()

    async def read(self, services: Container[str]) -> tuple[OwnedProcess, ...]:
        try:
            found = await asyncio.to_thread(read_processes, self._address)
        except NoFleetError as error:
            raise NoOwnerError(f"the fleet does not answer: {error}") from error
        return tuple(make_owned(each) for each in found if each.svc in services)

    async def restart(self, svc: str, identity: str, until: float | None) -> tuple[RestartAnswer, str]:
        try:
            return await asyncio.to_thread(request_restart, self._address, svc, identity, until)
        except NoFleetError as error:
            raise NoOwnerError(f"the fleet did not answer: {error}") from error


def make_owned(process: FleetProcess) -> OwnedProcess:
    facts = ProcessFacts(
        process.identity,
        is_waiting=process.is_wanted and process.state is not ProcessState.RUNNING,
        is_stopped=not process.is_wanted,
        age_sec=process.age_sec,
        is_restarting=process.is_restarting,
    )
    return OwnedProcess(process.svc, RestartOwner.UP, facts, process.restarts, process.pid)


class FleetLogs(LogSource):
    """The files of a folder; a service may have several processes, each with its own file.

    What is no regular file is not read and logged once; all other files are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._followers: dict[str, dict[str, LogFollower]] = {}
        self._refused = dict[str, dict[Path, str]]()

    def list_logs(self, services: Collection[str]) -> Mapping[str, ReadLines]:
        files = self._find_files()
        self._followers = {svc: each for svc, each in self._followers.items() if svc in files}
        self._refused = {svc: each for svc, each in self._refused.items() if svc in files}
        return {svc: partial(self._read, svc, files[svc]) for svc in services if svc in files}

    async def read_end(self, svc: str) -> Sequence[Sequence[bytes]]:
        def read() -> list[list[bytes]]:
            followers = [LogFollower(path) for path in self._find_files().get(svc, {}).values()]
            found = [each.read_new(MAX_BYTES)[-LOG_LINES:] for each in followers]
            self._note_refused(svc, followers)
            return found

        return await asyncio.to_thread(read)

    def find_problem(self) -> str | None:
        refused = [item for each in list(self._refused.values()) for item in each.items()]
        return None if not refused else f"log not read: {refused[0][0].name}: {refused[0][1]}"

    def _note_refused(self, svc: str, followers: Collection[LogFollower]) -> bool:
        """Keep which files can't be read, log each once, and return True if there is one."""
        refused = {path: why for each in followers for path, why in each.refused.items()}
        for path in refused.keys() - self._refused.get(svc, {}).keys():
            log.warning("medic.log_unreadable", svc=svc, reason=refused[path], file=path.name, logs=1)
        self._refused[svc] = refused
        return bool(refused)

    def _find_files(self) -> dict[str, dict[str, Path]]:
        files = dict[str, dict[str, Path]]()
        for name, path in find_log_files(self._folder).items():
            files.setdefault(name.partition("/")[0], {})[name] = path
        return files

    def _read(self, svc: str, files: Mapping[str, Path]) -> NewLines:
        known = self._followers.get(svc, {})
        followers = {name: known.get(name) or LogFollower(path) for name, path in files.items()}
        self._followers[svc] = followers
        before = sum(each.skipped_bytes for each in followers.values())
        lines = [line for each in followers.values() for line in each.read_new(MAX_BYTES)]
        skipped_bytes = sum(each.skipped_bytes for each in followers.values()) - before
        is_refused = self._note_refused(svc, followers.values())
        if is_refused and all(each.path in each.refused for each in followers.values()):
            raise OSError("no log of it can be read")
        return NewLines(lines, is_refused or skipped_bytes > 0, skipped_bytes)
