"""Ask systemd, by D-Bus: what runs, and to restart one unit.

Three calls of its documented interface are made, and no others: `ListUnitsByPatterns`, `Get` of a few
properties, and `TryRestartUnit`, which does nothing to a unit that does not run. What units log is in the
journal (`journal.py`).

A unit is that of a service by its name alone, which follows from the pattern that the environment gives. A
list shows no start and no count of restarts, so the properties of each unit are read as well: of a new one
and of one in another state at once, of all others a few at a time.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager, suppress
from operator import attrgetter
from typing import Any, ClassVar, Final

from dbus_fast import Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusFastError

from marketswarm.agent.lease import is_in_time
from marketswarm.fleet_control import RestartAnswer
from marketswarm.tasks import gather_all
from marketswarm.text import escape_text, format_duration
from services.medic.facts import RestartOwner
from services.medic.owners.journal import USER_BUS, JournalLogs
from services.medic.owners.owner import (
    LOOK_SEC,
    MAX_SAID,
    RESTART_SEC,
    InspectingOwner,
    NoOwnerError,
    OwnedProcess,
    SeenProcess,
    UnusableAnswerError,
)
from services.medic.owners.unit import (
    PLACE,
    PROPERTIES,
    InspectedUnit,
    ListedUnit,
    make_unit_name,
    parse_properties,
    parse_units,
)

SYSTEMD: Final = "org.freedesktop.systemd1"
CALL_SEC: Final = 5.0
"""The longest time until systemd says whether it takes a restart: polkit may have to decide on it."""
RESTART_POLL_SEC: Final = 0.25
CLOSE_SEC: Final = 1.0
_BUS_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_BUS: Final = "org.freedesktop.DBus.Error."
_DENIED: Final = frozenset({f"{_BUS}AccessDenied", f"{_BUS}InteractiveAuthorizationRequired"})
_GONE: Final = frozenset({f"{_BUS}UnknownObject", f"{SYSTEMD}.NoSuchUnit"})
_NOT_DONE: Final = _DENIED | {f"{_BUS}ServiceUnknown", f"{_BUS}NameHasNoOwner", f"{_BUS}UnknownMethod"}
"""The errors after which nothing was done, besides those of systemd itself."""
_LOST: Final = (OSError, EOFError, DBusFastError, ValueError, LookupError)
"""What ends a connection. The last two are what dbus-fast raises for bytes that are no message."""


class _RefusedCallError(Exception):
    """The bus, or systemd, answered with an error; the message is what it says."""

    def __init__(self, name: str, said: str) -> None:
        super().__init__(f"{name.rpartition('.')[2]}: {said}".removesuffix(": "))
        self.name = name


_SeenUnit = SeenProcess[ListedUnit, InspectedUnit]  # a type: its values are made by `SeenProcess`


class SystemdUnits(InspectingOwner[ListedUnit, InspectedUnit]):
    """The systemd behind one D-Bus: that of the machine, or that of a user.

    Args:
        address: where the bus is, such as `unix:path=/run/dbus/system_bus_socket`.
        pattern: the name of a service's unit, with `%s` in place of the service.
    """

    restarts_for: ClassVar = frozenset({RestartOwner.SYSTEMD})
    inspecting: ClassVar = "unit"

    def __init__(self, address: str, pattern: str, log: Any) -> None:
        super().__init__(attrgetter("svc"))
        self._address, self._pattern, self._log = address, pattern, log
        self._bus: MessageBus | None = None
        self._connecting = asyncio.Lock()
        self.logs = JournalLogs(self, pattern, log, is_user=address.startswith(USER_BUS))

    async def end(self) -> None:
        """Disconnect from the D-Bus."""
        bus, self._bus = self._bus, None
        if bus is None:
            return
        bus.disconnect()
        with suppress(TimeoutError, *_LOST):
            async with asyncio.timeout(CLOSE_SEC):
                await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    async def read(self, services: Container[str]) -> tuple[OwnedProcess, ...]:
        async with self._within(LOOK_SEC):
            listed = await self._list(self._pattern.replace(PLACE, "*"), services)
            await self.inspect_some(listed, self._inspect)
        now = time.monotonic()
        # one that was never started here is that of another machine, and one that can't be used is not known
        return tuple(_make_owned(self.known[each.svc], now) for each in listed if each.svc in self.known)

    async def restart(self, svc: str, identity: str, until: float | None) -> tuple[RestartAnswer, str]:
        """Restart the unit of a service, if the invocation runs that the identity says.

        systemd knows nothing of a lease: it follows whatever reaches it. So the lease is looked at once more,
        after systemd has shown that it answers. The mode `fail` cancels nothing that a person has begun.
        """
        name = make_unit_name(self._pattern, svc)
        self.known.pop(svc, None)
        try:
            async with self._within(LOOK_SEC):
                seen = await self._look(svc)
        except (NoOwnerError, UnusableAnswerError) as error:
            return RestartAnswer.REFUSED, f"not done: {error}"
        if seen is None or seen.found.identity != identity:
            return RestartAnswer.CHANGED, "the unit was restarted, or is gone"
        if not seen.listed.runs:
            return RestartAnswer.REFUSED, f"the unit is {_describe(seen.listed)}"
        if not is_in_time(until):
            return RestartAnswer.REFUSED, "the request came too late"
        began = time.monotonic()
        try:
            async with self._within(CALL_SEC):
                await self._call("restart", "TryRestartUnit", "ss", [name, "fail"])
        except _RefusedCallError as error:
            said = f"systemd refuses: {escape_text(str(error))[:MAX_SAID]}"
            if error.name in _NOT_DONE or error.name.startswith(f"{SYSTEMD}."):
                return RestartAnswer.REFUSED, said
            raise NoOwnerError(said) from error
        try:
            async with self._within(RESTART_SEC):
                answer = await self._await_start(svc, identity)
        except UnusableAnswerError as error:
            raise NoOwnerError(f"not known whether it was restarted: {error}") from error
        if answer is RestartAnswer.REFUSED:
            return answer, f"{svc}: unit {name} still runs: the restart was cancelled"
        return answer, f"{svc}: unit {name} restarted in {format_duration(time.monotonic() - began)}"

    async def _await_start(self, svc: str, identity: str) -> RestartAnswer:
        """Return DONE once another invocation began, REFUSED if nothing was done and nothing is about to be.

        Raises NoOwnerError, also if the unit ended and is not started again, and UnusableAnswerError.
        """
        while True:
            seen = await self._look(svc)
            if seen is None:
                raise NoOwnerError("the unit is gone")
            if seen.found.identity != identity:
                return RestartAnswer.DONE
            facts = seen.found.make_facts(seen.listed, time.monotonic())
            if facts.is_stopped:
                raise NoOwnerError(f"the unit is {_describe(seen.listed)}, and not started again")
            if not facts.is_waiting:
                return RestartAnswer.REFUSED
            await asyncio.sleep(RESTART_POLL_SEC)

    # --- what is inspected ---

    def warn_unusable(self, listed: ListedUnit, why: str) -> None:
        """Log a unit that can't be used, once until it can be."""
        self._log.warning("medic.unit_unusable", svc=listed.svc, reason=why)

    async def _look(self, svc: str) -> _SeenUnit | None:
        """Return the unit of one service as it is now; None if it is gone.

        Raises NoOwnerError and UnusableAnswerError.
        """
        listed = await self._list(make_unit_name(self._pattern, svc), {svc})
        unit = await self._inspect(listed[0]) if listed else None
        return None if unit is None else SeenProcess(listed[0], unit, time.monotonic())

    async def _list(self, pattern: str, services: Container[str]) -> list[ListedUnit]:
        try:
            answer = await self._call("list", "ListUnitsByPatterns", "asas", [[], [pattern]])
            return parse_units(answer.signature, answer.body, services, self._pattern)
        except UnusableAnswerError as error:
            self.requests["list", "unusable"] += 1
            raise _make_error("list", error) from None
        except _RefusedCallError as error:
            raise _make_error("list", error) from None

    async def _inspect(self, each: ListedUnit) -> InspectedUnit | None:
        """Return what the properties say; None if the unit is gone.

        Raises NoOwnerError and UnusableAnswerError.
        """
        if each.state is None:
            raise UnusableAnswerError("an invalid state")
        try:
            values = await gather_all(self._get(each.path, name) for name in PROPERTIES)
        except _RefusedCallError as error:
            if error.name in _GONE:
                return None
            raise _make_error("unit", error) from None
        return parse_properties(dict(zip(PROPERTIES, values, strict=True)))

    async def _get(self, path: str, name: str) -> tuple[str, Any]:
        """Return a property, and its type."""
        body = [f"{SYSTEMD}.{PROPERTIES[name][0]}", name]
        answer = await self._call("unit", "Get", "ss", body, path=path, interface=_BUS_PROPERTIES)
        if answer.signature != "v" or not isinstance(answer.body[0], Variant):
            raise UnusableAnswerError("no property")
        return answer.body[0].signature, answer.body[0].value

    # --- one call ---

    @asynccontextmanager
    async def _within(self, most_sec: float) -> AsyncIterator[None]:
        """Raise NoOwnerError if the block takes longer; the connection without an answer is given up."""
        try:
            async with asyncio.timeout(most_sec):
                yield
        except TimeoutError:
            self.requests["connection", "timeout"] += 1
            await self.end()
            raise NoOwnerError("systemd does not answer: timeout") from None

    async def _call(
        self,
        kind: str,
        member: str,
        signature: str,
        body: list[Any],
        *,
        interface: str = f"{SYSTEMD}.Manager",
        path: str = "/org/freedesktop/systemd1",
    ) -> Message:
        """Send a call; return the answer. Raises NoOwnerError, and _RefusedCallError."""
        try:
            bus = await self._connect()
            call = Message(
                destination=SYSTEMD,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=body,
                flags=MessageFlag.NO_AUTOSTART,
            )
            answer = await bus.call(call)
        except _LOST as error:
            self.requests[kind, "lost"] += 1
            raise NoOwnerError(f"systemd does not answer: {_shorten(error)}") from error
        if answer is None:
            self.requests[kind, "lost"] += 1
            raise NoOwnerError("systemd does not answer: the connection is closed")
        if answer.message_type is MessageType.METHOD_RETURN:
            self.requests[kind, "ok"] += 1
            return answer
        name = answer.error_name or ""
        self.requests[kind, "denied" if name in _DENIED else "error"] += 1
        said = answer.body[0] if answer.signature[:1] == "s" else ""
        raise _RefusedCallError(name, str(said))

    async def _connect(self) -> MessageBus:
        """Return the connection, a new one if the last one is lost. Raises one of `_LOST`."""
        async with self._connecting:
            if self._bus is None or not self._bus.connected:
                await self.end()
                self._bus = await MessageBus(bus_address=self._address).connect()
            return self._bus


def _make_owned(known: _SeenUnit, now_sec: float) -> OwnedProcess:
    facts = known.found.make_facts(known.listed, now_sec)
    return OwnedProcess(known.listed.svc, RestartOwner.SYSTEMD, facts, known.found.restarts, known.found.pid)


def _describe(listed: ListedUnit) -> str:
    """Return the state in words, `active (running), restart`."""
    words = "masked" if listed.is_masked else f"{listed.state} ({escape_text(listed.sub)[:MAX_SAID]})"
    return words + (f", {escape_text(listed.job)[:MAX_SAID]}" if listed.job else "")


def _make_error(kind: str, error: Exception) -> NoOwnerError:
    return NoOwnerError(f"systemd's answer can't be used ({kind}): {_shorten(error)}")


def _shorten(error: Exception) -> str:
    return escape_text(str(error) or type(error).__name__)[:MAX_SAID]
