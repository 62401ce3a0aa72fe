"""Measure the machine on which the medic runs, and the processes of services on it.

What can't be read, such as a process that has just ended, is not known. In a container, percentages of memory
are of the memory of its host.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from marketswarm import log as logs
from services.medic.metric import HOST, Metric, Readings, find_most
from services.medic.rules.measurement import BlockingMeasurement

DISKS: Final = ("/", ".")
"""The folders whose disks matter: the system's, and the one in which the medic works."""
WITHIN_SEC: Final = 5.0
"""How long a measurement may take; the disk of a server that is away answers never."""

log = logs.get("medic")


class HostObserver:
    """Measure processors, memory and disks."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}
        self._has_cpu = self._is_hidden = False
        self._measurement = BlockingMeasurement()

    async def read(self, pids: Mapping[str, Iterable[int]]) -> Readings:
        """Return what was measured; nothing if it takes too long, or an earlier measurement still hangs.

        `pids` are the processes of each service.
        """
        copy = {svc: tuple(found) for svc, found in pids.items()}
        return await self._measurement.run(partial(self.measure, copy), WITHIN_SEC)

    def measure(self, pids: Mapping[str, Iterable[int]]) -> Readings:
        """Return what the machine takes, and the processes of each service, now; this blocks."""
        cpu = self._measure_host(psutil.cpu_percent)
        readings: Readings = {
            Metric.HOST_CPU: {HOST: cpu if self._has_cpu else None},  # the first call has nothing to compare
            Metric.HOST_MEMORY: {HOST: self._measure_host(lambda: psutil.virtual_memory().percent)},
            Metric.HOST_DISK_FREE: {HOST: _find_least_free(map(Path, DISKS))},
        }
        self._has_cpu = True
        running = {pid for found in pids.values() for pid in found}
        self._processes = {pid: each for pid, each in self._processes.items() if pid in running}
        # a full disk of the machine itself is said once, by its own metric
        own = {_find_device(Path(each)) for each in DISKS}
        return {
            **readings,
            Metric.PROCESS_MEMORY: {
                svc: find_most(map(self._measure_memory, found)) for svc, found in pids.items()
            },
            Metric.PROCESS_CPU: {
                svc: find_most(map(self._measure_cpu, found)) for svc, found in pids.items()
            },
            Metric.PROCESS_DISK_FREE: {svc: _measure_disk(found, own) for svc, found in pids.items()},
        }

    def _measure_host(self, measure: Callable[[], float]) -> float | None:
        """Return a value; None, and log it once, where /proc shows nothing of the machine."""
        try:
            return measure()
        except (psutil.Error, OSError) as error:
            if not self._is_hidden:
                log.warning("medic.host_unreadable", reason=str(error))
            self._is_hidden = True
            return None

    def _measure_memory(self, pid: int) -> float | None:
        with suppress(psutil.Error, OSError):
            return float(self._get_process(pid).memory_percent())
        return None

    def _measure_cpu(self, pid: int) -> float | None:
        is_new = pid not in self._processes
        with suppress(psutil.Error, OSError):
            process = self._get_process(pid)
            value = process.cpu_percent()
            self._processes[pid] = process
            return None if is_new else float(value)
        return None

    def _get_process(self, pid: int) -> psutil.Process:
        """Return the process with this pid; a new object if another process has it now."""
        known = self._processes.get(pid)
        if known is not None and known.is_running():
            return known
        self._processes.pop(pid, None)
        return psutil.Process(pid)


def _find_least_free(folders: Iterable[Path]) -> float | None:
    """Return how much is free, in percent, of the fullest disk; None if none can be read."""
    found = list[float]()
    for folder in folders:
        with suppress(OSError):
            found.append(100.0 - float(psutil.disk_usage(str(folder)).percent))
    return min(found, default=None)


def _measure_disk(pids: Iterable[int], own: Collection[int | None]) -> float | None:
    """Return how much is free, in percent, of the fullest disk on which processes work, but for `own`.

    None unless the disk of each is known, and without a process; 100 if none has a disk of its own.
    """
    folders = [Path(f"/proc/{pid}/cwd") for pid in pids]
    devices = {folder: _find_device(folder) for folder in folders}
    others = [folder for folder, device in devices.items() if device not in own]
    if not folders or None in devices.values():
        return None
    return _find_least_free(others) if others else 100.0


def _find_device(folder: Path) -> int | None:
    try:
        return folder.stat().st_dev
    except OSError:  # of another user, or gone; or a system without /proc
        return None
