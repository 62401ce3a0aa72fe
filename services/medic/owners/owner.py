"""Define what the medic asks of whatever runs the processes of services: what runs, and to restart one."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Container
from dataclasses import dataclass
from typing import ClassVar, Final

from marketswarm.fleet_control import RestartAnswer
from services.medic.facts import ProcessFacts, RestartOwner
from services.medic.metric import Readings
from services.medic.owners.log_source import LogSource

LOOK_SEC: Final = 5.0
"""The longest time of one look at all that an owner runs, in seconds."""
RESTART_SEC: Final = 45.0
"""The longest time of a restart, in seconds: a process has ten to end, if it does not say otherwise."""
ASKED_AT_ONCE: Final = 8
"""How many processes are asked about at once: a D-Bus lets a client wait for 128 answers, a few of each."""
INSPECTED_AGAIN: Final = 10
"""How many processes in the same state are inspected in one look."""
SEEN_AGAIN_SEC: Final = 5.0
"""After how long a process that seems to be as it was is inspected again."""
MAX_SAID: Final = 120
"""How much of what an owner says is on record, in characters."""


class NoOwnerError(Exception):
    """An owner did not answer, or not as it should; the message says which one, and why."""


@dataclass(frozen=True, slots=True)
class OwnedProcess:
    """One process of a service as its owner reports it.

    `restarts` is how often the owner started it again, `pid` is None where that says nothing on this machine.
    """

    svc: str
    owner: RestartOwner
    facts: ProcessFacts
    restarts: int
    pid: int | None = None


class ProcessOwner(ABC):
    """One owner of processes. To add one: a word in `RestartOwner`, a module here, and `make_owners`.

    Attributes:
        restarts_for: what the facts of a target may name as its owner if this one runs its process.
        requests: what it was asked, where that is counted, by the request and its outcome: `ok`,
            `unusable` (an answer that can't be used), another status, or the reason why no answer came.
        logs: the logs of its processes; None if it keeps none.
    """

    restarts_for: ClassVar[frozenset[RestartOwner]]
    requests: Counter[tuple[str, str]]
    logs: LogSource | None = None

    @abstractmethod
    async def read(self, services: Container[str]) -> tuple[OwnedProcess, ...]:
        """Return the processes of these services that it runs, or would run. Raises NoOwnerError.

        A service of which not all can be told is left out: what is left of it could seem to be the only one.
        """

    @abstractmethod
    async def restart(self, svc: str, identity: str, until: float | None) -> tuple[RestartAnswer, str]:
        """Restart the process with this identity, and no other; return what was done, and a sentence.

        `until` is when the request ends, by the clock of leases. Raises NoOwnerError: then it may have been
        done.
        """

    async def measure(self, services: Collection[str]) -> Readings:
        """Return what the processes of these services take of memory and processors, as far as it is known.

        An owner whose processes have a pid on this machine need not: they are measured by it.
        """
        del services
        return {}

    async def end(self) -> None:
        """Close what is open; the next request opens it again."""
        return
