"""Open a fleet for a command, embedded or not: its truth, and its buses, found as agents find them."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from marketswarm.agent.truth_source import (
    FoundTruth,
    create_bus,
    find_first_valid,
    find_truth_buses,
    format_reasons,
    read_all_truths,
)
from marketswarm.bus import Bus, BusError, NoBusError, find_bus_url, get_url_variable
from marketswarm.bus_url import has_bus_as_host
from marketswarm.cli import event_loop
from marketswarm.cli.data_folder import suggest_command
from marketswarm.exit import Code, Exit, Mistake
from marketswarm.fleet import data_folder
from marketswarm.fleet.joined import read_joined_buses
from marketswarm.settings import CommonSettings, is_variable_set, read_settings
from marketswarm.truth import MARKET, SYSTEM, Service, Truth

T = TypeVar("T")

_READ_WITHIN_SEC = 2.0
_REMEDIES: Final = {
    "auth": "a user and a password with the right to do this are needed:"
    " {variable}=redis://USER:PASSWORD@HOST:6379, or go to the fleet's folder, or --data DIR;"
    " in containers, `make status` and the like have them",
    "dns": "this machine does not know that name: {variable}=redis://HOST:6379 says where the server is;"
    " the names of containers are known among containers alone, where `make status` asks",
}
"""By the reason of a `BusError`. The other reasons are of servers and networks, and have no one remedy."""
_START_ONE = "Start a fleet here:  marketswarm up"
_OTHER_FLEETS = (
    _START_ONE,
    "In another folder:   --data DIR",
    "In containers:       make status",
    "Elsewhere:           SYSTEM_REDIS_URL=redis://HOST:6379 MARKET_REDIS_URL=redis://HOST:6380",
)


@dataclass(slots=True)
class FleetView:
    """Hold the open buses and the truth of one fleet.

    `found` is its truth, None while no bus holds a valid one; `why` is then the reason.
    """

    environ: Mapping[str, str]
    found: FoundTruth | None
    why: str
    data: Path
    _buses: dict[str, Bus] = field(default_factory=dict)

    @property
    def truth(self) -> Truth:
        if self.found is None:
            raise Exit(
                Code.NO_TRUTH,
                f"no bus has a valid truth ({self.why}): {suggest_command('seed', self.data)} puts one there",
            )
        return self.found.loaded.truth

    @property
    def revision(self) -> int | None:
        return self.found.revision if self.found else None

    def require_section(self, svc: str, more: str = "") -> Service:
        """Return the section of a service. Raises Exit, with `more` in the message, if the truth has none."""
        section = self.truth.services.get(svc)
        if section is None:
            raise Mistake(f"the truth has no section for {svc}{more}")
        return section

    def bus(self, name: str, truth: Truth | None = None) -> Bus:
        """Return a bus by its name, at the URL that `truth`, or otherwise the fleet's own, gives."""
        truth = truth or (self.found.loaded.truth if self.found else None)
        if name not in self._buses:
            self._buses[name] = create_bus(name, find_url(name, self.environ, truth))
        return self._buses[name]

    def buses(self) -> list[Bus]:
        names = self.found.loaded.truth.bus_names() if self.found else (SYSTEM, MARKET)
        return [self.bus(name) for name in names]

    async def aclose(self) -> None:
        await asyncio.gather(*(bus.aclose() for bus in self._buses.values()))


@contextlib.asynccontextmanager
async def open_fleet(data: Path) -> AsyncIterator[FleetView]:
    """Find and open a fleet: by the environment, by the truth, and last the embedded one in folder `data`.

    Raises Exit: code 3 if no bus answers now, or one fails in the block; code 2 if a given URL is invalid.
    """
    settings = read_settings(CommonSettings)
    running = data_folder.find_fleet(data)
    embedded = running.buses if running else read_joined_buses(data)
    environ = with_embedded_buses(os.environ, embedded, None)
    buses = [create_bus(name, url) for url, name in find_truth_buses(settings, environ).items()]
    try:
        seen = await read_all_truths(buses, settings.truth_redis_key, None, _READ_WITHIN_SEC)
        found = find_first_valid(seen)
        tried = [f"{each.bus.name} at {each.bus.where}: {each.reason}" for each in seen]
        if not any(each.has_answered for each in seen):
            where = f"a fleet runs there, pid {running.pid}" if running else "no fleet runs there"
            lines = (f"folder {data}: {where}", *tried)
            remedies = suggest_remedies((each.bus.name, each.reason) for each in seen)
            is_refused = any(each.reason == "auth" for each in seen)  # then a fleet runs already
            ways = [each for each in _OTHER_FLEETS if not (is_refused and each is _START_ONE)]
            raise Exit(
                Code.NO_BUS,
                "\n".join(["no bus answered. Tried:", *(f"  {each}" for each in lines), *remedies, *ways]),
            )
        if found is None and any(each.is_cluster for each in seen):
            raise Mistake(", ".join(tried))
        if found:
            environ = with_embedded_buses(os.environ, embedded, found.loaded.truth)
            truth = found.loaded.truth.with_default_timeout(settings.default_timeout_sec)
            found = replace(found, loaded=replace(found.loaded, truth=truth))
        view = FleetView(environ, found, ", ".join(format_reasons(seen)), data)
        try:
            yield view
        except BusError as error:
            raise Exit(Code.NO_BUS, add_remedy(str(error), error.bus, error.reason)) from None
        except NoBusError as error:
            remedies = suggest_remedies(error.failed.items())
            raise Exit(Code.NO_BUS, "\n".join([str(error), *remedies])) from None
        finally:
            await view.aclose()
    finally:
        await asyncio.gather(*(bus.aclose() for bus in buses))


def ask_fleet(
    data: Path,
    request: Callable[[FleetView], Awaitable[T]],
    run: Callable[[Coroutine[Any, Any, T]], T] = event_loop.run,
) -> T:
    """Open the fleet, return what `request` returns, and close it. Raises Exit as `open_fleet` does.

    `run` is `event_loop.run_until_signal` for a request that has something to clean up.
    """

    async def ask() -> T:
        async with open_fleet(data) as fleet:
            return await request(fleet)

    return run(ask())


async def ask_or_explain(
    data: Path, request: Callable[[FleetView], Awaitable[T]], explain: Callable[[str], T]
) -> T:
    """Return what `request` returns, for a look that goes on: what `explain` makes of the reason if it fails.

    Raises Exit, code 2, for a wrong configuration.
    """
    try:
        async with open_fleet(data) as fleet:
            return await request(fleet)
    except Exit as end:
        if end.code == Code.CONFIGURATION:
            raise
        return explain(end.message)


@contextlib.contextmanager
def needed(bus: Bus, why: str) -> Iterator[None]:
    """Make a failure of a bus in the block an Exit, code 3, that says why the bus is needed."""
    try:
        yield
    except BusError as error:
        message = f"bus {bus.name} at {bus.where} does not answer ({error.reason}): {why}"
        raise Exit(Code.NO_BUS, add_remedy(message, bus.name, error.reason)) from None


@contextlib.asynccontextmanager
async def open_buses(data: Path, truth: Truth) -> AsyncIterator[list[Bus]]:
    """Open every bus that `truth` names, found as in `open_fleet`; none is connected yet."""
    view = FleetView(with_embedded_buses(os.environ, embedded_buses(data), truth), None, "", data)
    try:
        yield [view.bus(name, truth) for name in truth.bus_names()]
    finally:
        await view.aclose()


def embedded_buses(data: Path) -> Mapping[str, str]:
    """Return the URLs of the fleet that runs in `data`, or that this machine has joined from there."""
    fleet = data_folder.find_fleet(data)
    return fleet.buses if fleet else read_joined_buses(data)


def with_embedded_buses(
    environ: Mapping[str, str], urls: Mapping[str, str], truth: Truth | None
) -> dict[str, str]:
    """Return the environment with `urls` of an embedded fleet added as <BUS>_URL, unless it is given."""
    extended = dict(environ)
    for name, url in urls.items():
        try:
            known = find_bus_url(name, environ, truth)
        except BusError:  # a URL is given and is wrong; the command that needs this bus will report it
            continue
        variable = get_url_variable(name)
        if has_bus_as_host(known, name) and not is_variable_set(variable, environ):
            extended[variable] = url
    return extended


def find_url(name: str, environ: Mapping[str, str], truth: Truth | None) -> str:
    """Return the URL of a bus as `find_bus_url` does. Raises Exit, code 2, if a given URL is wrong."""
    try:
        return find_bus_url(name, environ, truth)
    except BusError as error:
        raise Mistake(str(error)) from None


def describe_away(failed: Mapping[str, str]) -> list[str]:
    return [f"bus {bus} does not answer: {reason}" for bus, reason in failed.items()]


def describe_refusals(failed: Mapping[str, str]) -> list[str]:
    refused = [f"bus {bus} did not take it: {why}" for bus, why in failed.items()]
    return [*refused, *suggest_remedies(failed.items())]


def suggest_remedies(troubles: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each reason among these (bus, reason) that has a remedy, each reason once."""
    first: dict[str, str] = {}
    for bus, reason in troubles:
        if reason in _REMEDIES:
            first.setdefault(reason, bus)
    return [f"{reason}: {_format_remedy(reason, bus)}" for reason, bus in first.items()]


def add_remedy(message: str, bus: str, reason: str) -> str:
    """Return a message about a bus, on its one line also what to do about it if there is a remedy."""
    return f"{message}; {_format_remedy(reason, bus)}" if reason in _REMEDIES else message


def _format_remedy(reason: str, bus: str) -> str:
    return _REMEDIES[reason].format(variable=get_url_variable(bus))
