"""Read the log files of the embedded fleet, in the folder that `marketswarm up` names in the environment."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from marketswarm.log_follower import LogFollower, find_log_files
from marketswarm.packed_log import LOG_LINES
from services.medic.owners.log_source import LogSource, NewLines, ReadLines

MAX_BYTES: Final = 65_536
"""How much of a file is read in one look: its end."""


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
        return await asyncio.to_thread(self._read_end, svc)

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

    def _read_end(self, svc: str) -> list[list[bytes]]:
        paths = self._find_files().get(svc, {}).values()
        return [LogFollower(path).read_new(MAX_BYTES)[-LOG_LINES:] for path in paths]
