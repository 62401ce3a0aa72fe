"""Define what the medic asks of whatever runs the processes of services: what runs, and to restart one."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Generic, TypeVar

from marketswarm.fleet_control import RestartAnswer
from marketswarm.tasks import gather_all
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

ListedT = TypeVar("ListedT")
InspectedT = TypeVar("InspectedT")


class NoOwnerError(Exception):
    """An owner did not answer, or not as it should; the message says which one, and why."""


class UnusableAnswerError(Exception):
    """What an owner says can't be used; the message says why."""


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


@dataclass(frozen=True, slots=True)
class SeenProcess(Generic[ListedT, InspectedT]):
    """A process as it was when it was inspected last, at `at` by the monotonic clock."""

    listed: ListedT
    found: InspectedT
    at: float


class InspectingOwner(ProcessOwner, Generic[ListedT, InspectedT]):
    """An owner whose list does not say enough: each process is inspected as well, a few of them in a look.

    Args:
        get_key: returns what tells a process of a list from all others.

    Attributes:
        inspecting: the word for an inspection in `requests`.
        known: the processes of the last look that were inspected, by their keys; none before `has_read`.
    """

    inspecting: ClassVar[str]

    def __init__(self, get_key: Callable[[ListedT], str]) -> None:
        self.requests = Counter()
        self.known: dict[str, SeenProcess[ListedT, InspectedT]] = {}
        self.has_read = False
        self._get_key, self._complained = get_key, set[str]()

    @abstractmethod
    def warn_unusable(self, listed: ListedT, why: str) -> None:
        """Log a process that can't be used. This is called once until it can be."""

    def has_changed(self, known: SeenProcess[ListedT, InspectedT], listed: ListedT) -> bool:
        """Return True if a list shows that this is another start, or another state, than was inspected."""
        return known.listed != listed

    async def inspect_some(
        self, listed: Sequence[ListedT], inspect: Callable[[ListedT], Awaitable[InspectedT | None]]
    ) -> list[ListedT]:
        """Inspect what has changed, and a few others; return those that can't be used.

        `inspect` returns None for a process that is gone. Raises what it raises, but for UnusableAnswerError:
        a process that can't be used is counted, and logged once until it can be.
        """
        keys = set(map(self._get_key, listed))
        self.known = {key: each for key, each in self.known.items() if key in keys}
        self._complained &= keys
        unusable, limit = list[ListedT](), asyncio.Semaphore(ASKED_AT_ONCE)

        async def inspect_one(each: ListedT) -> None:
            key = self._get_key(each)
            async with limit:
                try:
                    found = await inspect(each)
                except UnusableAnswerError as error:
                    unusable.append(each)
                    self.known.pop(key, None)  # it is inspected again in the next look
                    self.requests[self.inspecting, "unusable"] += 1
                    if key not in self._complained:
                        self._complained.add(key)
                        self.warn_unusable(each, str(error))
                    return
            self._complained.discard(key)
            if found is None:
                self.known.pop(key, None)
            else:
                self.known[key] = SeenProcess(each, found, time.monotonic())

        await gather_all(map(inspect_one, self._choose(listed)))
        self.has_read = True
        return unusable

    def _choose(self, listed: Iterable[ListedT]) -> list[ListedT]:
        """Return what to inspect: what has changed, and a few others.

        Of the others, those that a list shows otherwise than before come first, then what was inspected
        longest ago.
        """
        now = time.monotonic()
        changed, others = list[ListedT](), list[tuple[bool, float, ListedT]]()
        for each in listed:
            known = self.known.get(self._get_key(each))
            if known is None or self.has_changed(known, each):
                changed.append(each)
            elif known.listed != each or now - known.at >= SEEN_AGAIN_SEC:
                others.append((known.listed == each, known.at, each))
        others.sort(key=lambda each: each[:2])
        return changed + [each for _, _, each in others[:INSPECTED_AGAIN]]
