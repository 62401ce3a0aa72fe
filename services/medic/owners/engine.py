"""Ask a container engine, by its Unix socket: what runs, and to restart one container.

Three requests of the Docker Engine API are made, and no others: the list of the fleet's containers,
`GET /containers/json`, one container, `GET /containers/{id}/json`, and `POST /containers/{id}/restart`.

A container is that of a service by its label `marketswarm.service`, or by the name that Compose gives it,
`com.docker.compose.service`, within the project that the environment names. A list shows no start and no
count of restarts, so each container is inspected as well: a new one and one in another state at once, all
others a few at a time.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote

from marketswarm.agent.lease import is_in_time
from marketswarm.fleet_control import RestartAnswer
from marketswarm.net.http import HttpClient, HttpError, HttpResponse
from marketswarm.text import escape_text, format_duration
from services.medic.facts import RestartOwner
from services.medic.owners.container import (
    BadAnswerOfEngineError,
    ContainerState,
    InspectedContainer,
    ListedContainer,
    find_complaint,
    make_filters,
    parse_identity,
    parse_inspected,
    parse_listing,
)
from services.medic.owners.owner import NoOwnerError, OwnedProcess, ProcessOwner

API: Final = "http://engine/v1.44"
"""The version of the API: that of Docker Engine 25, which later ones know. The host's name means nothing."""
LOOK_SEC: Final = 5.0
"""The longest time of one look at all containers, in seconds."""
RESTART_SEC: Final = 45.0
"""The longest time of a restart: a container has ten seconds to end, if it does not say otherwise."""
INSPECTED_AT_ONCE: Final = 8
INSPECTED_AGAIN: Final = 10
"""How many containers in the same state are inspected in one look."""
SEEN_AGAIN_SEC: Final = 5.0
"""After how long a container that seems to be as it was is inspected again."""
MAX_LIST_BYTES: Final = 4 * 1024 * 1024
MAX_INSPECT_BYTES: Final = 512 * 1024
MAX_COMPLAINT_BYTES: Final = 16 * 1024
MAX_SAID: Final = 120
"""How much of an engine's complaint is on record, in characters."""
_NOT_DONE: Final = frozenset({400, 401, 403, 405, 409})
"""The answers after which nothing was done; an engine that fails (500) may have ended the container."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A container as it was when it was inspected last, at `at` by the monotonic clock."""

    listed: ListedContainer
    container: InspectedContainer
    at: float
    age_sec: float


class ContainerEngine(ProcessOwner):
    """The engine behind one Unix socket, or what a proxy before it lets through.

    Args:
        project: the project of Compose; without it, containers are found by `marketswarm.service` alone.
    """

    restarts_for: ClassVar = frozenset({RestartOwner.ENGINE})

    def __init__(self, socket: Path, project: str | None, log: Any) -> None:
        self._socket, self._project, self._log = socket, project, log
        self._http: HttpClient | None = None
        self._known: dict[str, _Known] = {}
        self._complained = set[str]()
        self.requests = Counter()

    async def end(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def read(self, services: Container[str]) -> tuple[OwnedProcess, ...]:
        ends_at = time.monotonic() + LOOK_SEC
        path = f"/containers/json?all=true&filters={quote(make_filters(self._project), safe='')}"
        answer = await self._ask("list", "GET", path, LOOK_SEC, MAX_LIST_BYTES)
        if answer.status != 200:
            raise _make_error("list", f"it answers {answer.status}")
        try:
            listed = parse_listing(answer.body, services, self._project)
        except BadAnswerOfEngineError as error:
            self.requests["list", "unusable"] += 1
            raise _make_error("list", str(error)) from None
        ids = {each.id for each in listed}
        self._known = {name: each for name, each in self._known.items() if name in ids}
        self._complained &= ids
        unusable = await self._inspect_all(self._choose(listed), ends_at)
        return tuple(
            self._make_owned(each) for each in listed if each.id in self._known and each.svc not in unusable
        )

    async def restart(self, svc: str, identity: str, until: float | None) -> tuple[RestartAnswer, str]:
        """Restart one container by its id, if it runs and was started when the identity says.

        The engine knows nothing of a lease: it follows whatever reaches it. So the lease is looked at once
        more, after the engine has shown that it answers.
        """
        container_id = parse_identity(identity)
        if container_id is None:
            return RestartAnswer.REFUSED, "the intent names no container"
        self._known.pop(container_id, None)
        try:
            found = await self._inspect(container_id, LOOK_SEC)
        except (NoOwnerError, BadAnswerOfEngineError) as error:
            return RestartAnswer.REFUSED, f"not done: {error}"
        if found is None or found.identity != identity:
            return RestartAnswer.CHANGED, "the container was started anew, or is gone"
        if found.state is not ContainerState.RUNNING:
            return RestartAnswer.REFUSED, f"the container is {found.state}"
        if not is_in_time(until):
            return RestartAnswer.REFUSED, "the request came too late"
        began = time.monotonic()
        path = f"/containers/{container_id}/restart"
        answer = await self._ask("restart", "POST", path, RESTART_SEC, MAX_COMPLAINT_BYTES)
        if answer.status == 204:
            took = format_duration(time.monotonic() - began)
            return RestartAnswer.DONE, f"{svc}: container {container_id[:12]} restarted in {took}"
        if answer.status == 404:
            return RestartAnswer.CHANGED, "the container is gone"
        said = f"the engine answers {answer.status}: {escape_text(find_complaint(answer.body))[:MAX_SAID]}"
        if answer.status in _NOT_DONE:
            return RestartAnswer.REFUSED, said.removesuffix(": ")
        raise NoOwnerError(said.removesuffix(": "))

    # --- what is inspected ---

    def _choose(self, listed: Iterable[ListedContainer]) -> list[ListedContainer]:
        """Return the containers to inspect: those in another state, and a few others.

        A status in words is another one after each start, and by itself as time passes: those come first,
        then what was inspected longest ago.
        """
        now = time.monotonic()
        changed, others = list[ListedContainer](), list[tuple[bool, float, ListedContainer]]()
        for each in listed:
            known = self._known.get(each.id)
            if known is None or known.container.state is not each.state:
                changed.append(each)
            elif known.listed != each or now - known.at >= SEEN_AGAIN_SEC:
                others.append((known.listed == each, known.at, each))
        others.sort(key=lambda each: each[:2])
        return changed + [each for _, _, each in others[:INSPECTED_AGAIN]]

    async def _inspect_all(self, chosen: Iterable[ListedContainer], ends_at: float) -> set[str]:
        """Inspect containers; return the services of those that can't be used. Raises NoOwnerError."""
        unusable, limit = set[str](), asyncio.Semaphore(INSPECTED_AT_ONCE)

        async def inspect(each: ListedContainer) -> None:
            async with limit:
                left_sec = ends_at - time.monotonic()
                if left_sec <= 0:
                    raise NoOwnerError("the engine does not answer: timeout")
                try:
                    container = await self._inspect(each.id, left_sec)
                except BadAnswerOfEngineError as error:
                    unusable.add(each.svc)
                    self._known.pop(each.id, None)  # it is inspected again in the next look
                    self._complain(each, str(error))
                    return
            if container is None:
                self._known.pop(each.id, None)
                return
            self._complained.discard(each.id)
            age_sec = max(0.0, time.time() - container.started) if container.started else 0.0
            known = self._known.get(each.id)
            if known is not None and known.container.identity == container.identity:
                age_sec = known.age_sec + time.monotonic() - known.at  # the clock may have been set
            self._known[each.id] = _Known(each, container, time.monotonic(), age_sec)

        results = await asyncio.gather(*map(inspect, chosen), return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException):
                raise error
        return unusable

    async def _inspect(self, container_id: str, within_sec: float) -> InspectedContainer | None:
        """Return a container; None if it is gone. Raises NoOwnerError and BadAnswerOfEngineError."""
        path = f"/containers/{container_id}/json"
        answer = await self._ask("inspect", "GET", path, within_sec, MAX_INSPECT_BYTES)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise _make_error("inspect", f"it answers {answer.status}")
        return parse_inspected(answer.body, container_id)

    def _make_owned(self, each: ListedContainer) -> OwnedProcess:
        known = self._known[each.id]
        facts = known.container.make_facts(known.age_sec + time.monotonic() - known.at)
        return OwnedProcess(each.svc, RestartOwner.ENGINE, facts, known.container.restarts)

    # --- one request ---

    async def _ask(self, kind: str, method: str, path: str, within_sec: float, most: int) -> HttpResponse:
        """Send a request; return the answer, whatever its status is. Raises NoOwnerError."""
        if self._http is None:
            self._http = HttpClient("medic", by_proxy=False, socket=self._socket)
        try:
            answer = await self._http.fetch(method, API + path, within_sec=within_sec, max_bytes=most)
        except HttpError as error:
            self.requests[kind, error.reason] += 1
            raise NoOwnerError(f"the engine does not answer: {error.reason}") from error
        is_ok = answer.status in (200, 204)
        self.requests[kind, "ok" if is_ok else str(answer.status)] += 1
        return answer

    def _complain(self, each: ListedContainer, why: str) -> None:
        """Count a container that can't be used, and log it once until it can be."""
        self.requests["inspect", "unusable"] += 1
        if each.id not in self._complained:
            self._complained.add(each.id)
            self._log.warning("medic.container_unusable", svc=each.svc, container=each.id[:12], reason=why)


def _make_error(kind: str, why: str) -> NoOwnerError:
    return NoOwnerError(f"the engine's answer can't be used ({kind}): {why}")
