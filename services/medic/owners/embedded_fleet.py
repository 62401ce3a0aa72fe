"""Ask `marketswarm up` of this machine, by its control socket, and read the log files of its processes."""

import asyncio
from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

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
    """The files of a folder; a service may have several processes, each with its own file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._followers: dict[str, dict[str, LogFollower]] = {}

    def list_logs(self, services: Collection[str]) -> Mapping[str, ReadLines]:
        files = self._find_files()
        self._followers = {svc: each for svc, each in self._followers.items() if svc in files}
        return {svc: partial(self._read, svc, files[svc]) for svc in services if svc in files}

    async def read_end(self, svc: str) -> Sequence[Sequence[bytes]]:
        def read() -> list[list[bytes]]:
            paths = self._find_files().get(svc, {}).values()
            return [LogFollower(path).read_new(MAX_BYTES)[-LOG_LINES:] for path in paths]

        return await asyncio.to_thread(read)

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
        return NewLines(lines, skipped_bytes > 0, skipped_bytes)
