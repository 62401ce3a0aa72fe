"""Ask a container engine, by its Unix socket: what runs, and to restart one container.

Five requests of the Docker Engine API are made, and no others: the list of the fleet's containers,
`GET /containers/json`, one container, `GET /containers/{id}/json`, what one takes of the machine,
`GET /containers/{id}/stats`, the end of its log, `GET /containers/{id}/logs`, and
`POST /containers/{id}/restart`.

A container is that of a service by its label `marketswarm.service`, or by the name that Compose gives it,
`com.docker.compose.service`, within the project that the environment names. A name in Compose alone may be
that of a bus or a database, whatever a truth says: such a container is restarted only if it has the label
`marketswarm.agent`, or if there is an agent of that name in this installation. A list shows no start and no
count of restarts, so each container is inspected as well: a new one and one in another state at once, all
others a few at a time.
"""

import asyncio
import os
import time
from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote

from marketswarm.agent.lease import is_in_time
from marketswarm.agent.service_modules import find_modules
from marketswarm.fleet_control import RestartAnswer
from marketswarm.text import escape_text, format_duration
from services.medic.facts import RestartOwner
from services.medic.metric import Metric, Readings, find_most
from services.medic.owners.container import (
    ContainerState,
    ContainerUsage,
    InspectedContainer,
    ListedContainer,
    find_complaint,
    make_filters,
    parse_identity,
    parse_inspected,
    parse_listing,
    parse_log,
    parse_usage,
)
from services.medic.owners.log_source import MAX_LOG_BYTES, LogEntry, LogError, LogTooLongError, PolledLogs
from services.medic.owners.owner import (
    ASKED_AT_ONCE,
    LOOK_SEC,
    MAX_SAID,
    RESTART_SEC,
    InspectingOwner,
    NoOwnerError,
    OwnedProcess,
    SeenProcess,
    UnusableAnswerError,
)
from services.medic.owners.socket_http import TOO_LONG, SocketAnswer, SocketHttpClient, SocketHttpError

API: Final = "/v1.44"
"""The version of the API: that of Docker Engine 25, which later ones know."""
MAX_LIST_BYTES: Final = 4 * 1024 * 1024
MAX_INSPECT_BYTES: Final = 512 * 1024
MEASURE_SEC: Final = 3.0
"""The longest time of one measurement of all containers: the medic waits for it between two rounds."""
MEASURED_AGAIN_SEC: Final = 5.0
"""The least time from one measurement of a container to the next; before that, the last one holds."""
MAX_USAGE_BYTES: Final = 128 * 1024
MAX_COMPLAINT_BYTES: Final = 16 * 1024
_NOT_DONE: Final = frozenset({400, 401, 403, 405, 409})
"""The answers after which nothing was done; an engine that fails (500) may have ended the container."""


# a type alone: its values are made by `SeenProcess`, since a frozen value with slots keeps no parameters
KnownContainer = SeenProcess[ListedContainer, InspectedContainer]


@dataclass(frozen=True, slots=True)
class _Measured:
    """What a container took at `at` by the monotonic clock; `identity` is the start that was measured.

    `cpu_percent` is None until there was an earlier measurement of the same start.
    """

    identity: str
    at: float
    cpu_ns: int | None
    memory_percent: float | None
    cpu_percent: float | None


class ContainerEngine(InspectingOwner[ListedContainer, InspectedContainer]):
    """The engine behind one Unix socket, or what a proxy before it lets through.

    `known` are the containers by their ids, running or not.

    Args:
        project: the project of Compose; without it, containers are found by `marketswarm.service` alone.
    """

    restarts_for: ClassVar = frozenset({RestartOwner.ENGINE})
    inspecting: ClassVar = "inspect"

    def __init__(self, socket: Path, project: str | None, log: Any) -> None:
        super().__init__(attrgetter("id"))
        self._project, self._log = project, log
        self._http = SocketHttpClient(socket)
        self._listing: tuple[bytes, Container[str], list[ListedContainer]] = (b"", (), [])
        self._unusable: Collection[str] = ()
        self._measured: dict[str, _Measured] = {}
        self._is_unmeasured = False
        self.logs = ContainerLogs(self, log)

    async def end(self) -> None:
        self._http.close()

    async def read(self, services: Container[str]) -> tuple[OwnedProcess, ...]:
        ends_at = time.monotonic() + LOOK_SEC
        path = f"/containers/json?all=true&filters={quote(make_filters(self._project), safe='')}"
        answer = await self.ask("list", "GET", path, LOOK_SEC, MAX_LIST_BYTES)
        if answer.status != 200:
            raise _make_error("list", f"it answers {answer.status}")
        listed = self._parse_listing(answer.body, services)
        left_out = await self.inspect_some(listed, partial(self._inspect_listed, ends_at=ends_at))
        self._unusable = unusable = {each.svc for each in left_out}
        owned = list[OwnedProcess]()
        for each in listed:
            if (known := self.known.get(each.id)) is not None and each.svc not in unusable:
                facts = known.found.make_facts(known.found.age_sec + time.monotonic() - known.at)
                facts = replace(facts, is_protected=_is_protected(each))
                owned.append(OwnedProcess(each.svc, RestartOwner.ENGINE, facts, known.found.restarts))
        return tuple(owned)

    def _parse_listing(self, body: bytes, services: Container[str]) -> list[ListedContainer]:
        """Parse a list, unless it is that of the last look. Raises NoOwnerError."""
        if body != self._listing[0] or services is not self._listing[1]:
            try:
                self._listing = body, services, parse_listing(body, services, self._project)
            except UnusableAnswerError as error:
                self.requests["list", "unusable"] += 1
                raise _make_error("list", str(error)) from None
        return self._listing[2]

    async def measure(self, services: Collection[str]) -> Readings:
        """Return memory and processor time, in percent, of services whose containers ran in the last look.

        A container that can't be measured is not known. That is counted, and logged once until all can be. It
        does not cut the medic off, because a measurement that is missing makes no rule hold.
        """
        running = [
            each
            for each in self.known.values()
            if each.found.state is ContainerState.RUNNING
            and each.listed.svc in services
            and each.listed.svc not in self._unusable
        ]
        ids = {each.found.id for each in running}
        self._measured = {name: each for name, each in self._measured.items() if name in ids}
        await self._measure_all(running, time.monotonic() + MEASURE_SEC)
        memory, busy = dict[str, list[float | None]](), dict[str, list[float | None]]()
        for each in running:
            measured = self._measured.get(each.found.id)
            memory.setdefault(each.listed.svc, []).append(measured.memory_percent if measured else None)
            busy.setdefault(each.listed.svc, []).append(measured.cpu_percent if measured else None)
        return {
            Metric.PROCESS_MEMORY: {svc: find_most(values) for svc, values in memory.items()},
            Metric.PROCESS_CPU: {svc: find_most(values) for svc, values in busy.items()},
        }

    async def restart(self, svc: str, identity: str, until: float | None) -> tuple[RestartAnswer, str]:
        """Restart one container by its id, if it runs and was started when the identity says.

        The engine knows nothing of a lease: it follows whatever reaches it. So the lease is looked at once
        more, after the engine has shown that it answers.
        """
        container_id = parse_identity(identity)
        if container_id is None:
            return RestartAnswer.REFUSED, "the intent names no container"
        known = self.known.pop(container_id, None)
        if known is not None and _is_protected(known.listed):
            return RestartAnswer.REFUSED, "the container runs no agent that may be restarted"
        try:
            found = await self._inspect(container_id, LOOK_SEC)
        except (NoOwnerError, UnusableAnswerError) as error:
            return RestartAnswer.REFUSED, f"not done: {error}"
        if found is None or found.identity != identity:
            return RestartAnswer.CHANGED, "the container was restarted, or is gone"
        if found.state is not ContainerState.RUNNING:
            return RestartAnswer.REFUSED, f"the container is {found.state}"
        if not is_in_time(until):
            return RestartAnswer.REFUSED, "the request came too late"
        began = time.monotonic()
        path = f"/containers/{container_id}/restart"
        answer = await self.ask("restart", "POST", path, RESTART_SEC, MAX_COMPLAINT_BYTES)
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

    def has_changed(self, known: KnownContainer, listed: ListedContainer) -> bool:
        """Return True if its state is another one: its status in words changes by itself as time passes."""
        return known.found.state is not listed.state

    def warn_unusable(self, listed: ListedContainer, why: str) -> None:
        """Log a container that can't be used, once until it can be."""
        svc, short_id = listed.svc, listed.id[:12]
        self._log.warning("medic.container_unusable", svc=svc, container=short_id, reason=why)

    async def _inspect_listed(self, each: ListedContainer, ends_at: float) -> InspectedContainer | None:
        """Return a container with its age; None if it is gone. Raises as `_inspect` does."""
        found = await self._inspect(each.id, ends_at - time.monotonic())
        known = self.known.get(each.id)
        if found is None:
            return None
        age_sec = max(0.0, time.time() - found.started) if found.started else 0.0
        if known is not None and known.found.identity == found.identity:
            age_sec = known.found.age_sec + time.monotonic() - known.at  # the clock may have been set
        return replace(found, age_sec=age_sec)

    async def _inspect(self, container_id: str, within_sec: float) -> InspectedContainer | None:
        """Return a container; None if it is gone. Raises NoOwnerError and UnusableAnswerError."""
        if within_sec <= 0:
            raise NoOwnerError("the engine does not answer: timeout")
        path = f"/containers/{container_id}/json"
        answer = await self.ask("inspect", "GET", path, within_sec, MAX_INSPECT_BYTES)
        if answer.status == 404:
            return None
        if answer.status == 500:  # the engine answers, and can't show this one: what is left of it is broken
            raise UnusableAnswerError("it answers 500")
        if answer.status != 200:
            raise _make_error("inspect", f"it answers {answer.status}")
        return parse_inspected(answer.body, container_id)

    # --- what is measured ---

    async def _measure_all(self, running: Iterable[KnownContainer], ends_at: float) -> None:
        """Measure containers, but for those that just were. Those that can't be are not in `_measured`."""
        limit = asyncio.Semaphore(ASKED_AT_ONCE)
        # of this machine, also where /proc shows nothing of it
        machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        failed = list[tuple[str, str]]()

        async def measure_one(each: KnownContainer) -> None:
            identity, now = each.found.identity, time.monotonic()
            before = self._measured.get(each.found.id)
            if before is not None and before.identity != identity:
                before = None
            if before is not None and now - before.at < MEASURED_AGAIN_SEC:
                return
            self._measured.pop(each.found.id, None)
            async with limit:
                try:
                    usage = await self._read_usage(each.found.id, ends_at - time.monotonic())
                except (NoOwnerError, UnusableAnswerError) as error:
                    failed.append((each.listed.svc, str(error)))
                    return
            if usage is not None:
                found = make_measured(identity, usage, machine_bytes, before, time.monotonic())
                self._measured[each.found.id] = found

        await asyncio.gather(*map(measure_one, running))
        if failed and not self._is_unmeasured:
            svc, why = failed[0]
            self._log.warning("medic.container_not_measured", svc=svc, reason=why, containers=len(failed))
        self._is_unmeasured = bool(failed)

    async def _read_usage(self, container_id: str, within_sec: float) -> ContainerUsage | None:
        """Return what a container takes; None if it is gone. Raises as `_inspect` does."""
        if within_sec <= 0:
            raise NoOwnerError("the engine does not answer: timeout")
        path = f"/containers/{container_id}/stats?stream=false&one-shot=true"
        answer = await self.ask("stats", "GET", path, within_sec, MAX_USAGE_BYTES)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise _make_error("stats", f"it answers {answer.status}")
        try:
            return parse_usage(answer.body, container_id)
        except UnusableAnswerError:
            self.requests["stats", "unusable"] += 1
            raise

    # --- one request ---

    async def ask(self, kind: str, method: str, path: str, within_sec: float, most: int) -> SocketAnswer:
        """Send a request; return the answer, whatever its status is. Raises NoOwnerError."""
        try:
            answer = await self._http.fetch(method, API + path, within_sec=within_sec, max_bytes=most)
        except SocketHttpError as error:
            self.requests[kind, error.reason] += 1
            raise NoOwnerError(f"the engine does not answer: {error.reason}") from error
        is_ok = answer.status in (200, 204)
        self.requests[kind, "ok" if is_ok else str(answer.status)] += 1
        return answer


def _is_protected(listed: ListedContainer) -> bool:
    """Return True for a container that runs no agent which may be restarted, as far as is known here."""
    return not (_has_program(listed.svc) if listed.is_agent is None else listed.is_agent)


@cache
def _has_program(svc: str) -> bool:
    return bool(find_modules([svc]))


def _make_error(kind: str, why: str) -> NoOwnerError:
    return NoOwnerError(f"the engine's answer can't be used ({kind}): {why}")


def make_measured(
    identity: str, usage: ContainerUsage, machine_bytes: int, before: _Measured | None, now: float
) -> _Measured:
    """Return what a start of a container takes, by an earlier measurement of the same start."""
    percent = usage.find_memory_percent(machine_bytes)
    if before is None or before.cpu_ns is None or usage.cpu_ns is None or usage.cpu_ns < before.cpu_ns:
        return _Measured(identity, now, usage.cpu_ns, percent, None)
    busy_percent = 100.0 * (usage.cpu_ns - before.cpu_ns) / 1e9 / (now - before.at)
    return _Measured(identity, now, usage.cpu_ns, percent, busy_percent)


class ContainerLogs(PolledLogs):
    """The logs of the containers that an engine showed in the last look, by their ids."""

    at_once: ClassVar = ASKED_AT_ONCE
    per_look: ClassVar = 100

    def __init__(self, engine: ContainerEngine, log: Any) -> None:
        super().__init__(log)
        self._engine = engine

    def find_logs(self, svc: str) -> Sequence[str] | None:
        known = self._engine.known
        return [name for name in known if known[name].listed.svc == svc] if self._engine.has_read else None

    async def ask(self, name: str, since: int | None, lines: int, within_sec: float) -> Sequence[LogEntry]:
        known = self._engine.known.get(name)
        if known is None:
            return []
        options = f"stdout=true&stderr=true&timestamps=true&since={since or 0}&tail={lines}"
        path = f"/containers/{name}/logs?{options}"
        try:
            answer = await self._engine.ask("logs", "GET", path, within_sec, MAX_LOG_BYTES)
            if answer.status == 404:
                return []
            if answer.status != 200:
                raise _make_error("logs", f"it answers {answer.status}")
            return parse_log(answer.body, has_terminal=known.found.has_terminal)
        except (NoOwnerError, UnusableAnswerError) as error:
            cause = error.__cause__
            if isinstance(cause, SocketHttpError) and cause.reason == TOO_LONG:
                raise LogTooLongError from None
            raise LogError(str(error)) from None
