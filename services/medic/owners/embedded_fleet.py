"""Ask `marketswarm up` of this machine, by its control socket."""

import asyncio
from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import ClassVar

from marketswarm.fleet_control import (
    FleetProcess,
    NoFleetError,
    ProcessState,
    RestartAnswer,
    read_processes,
    request_restart,
)
from services.medic.facts import ProcessFacts, RestartOwner
from services.medic.owners.owner import NoOwnerError, OwnedProcess, ProcessOwner


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
