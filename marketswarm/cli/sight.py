"""What a command sees of a fleet, embedded or not: its buses, found as agents find them, and its truth."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from marketswarm.agent.truth_source import Found, first, look_at_all, reasons, truth_places, usable_bus
from marketswarm.bus import Bus, BusError, find_url, variable_of
from marketswarm.bus_url import leads_to
from marketswarm.exit import Code, Exit
from marketswarm.fleet import folder
from marketswarm.fleet.plan import is_told
from marketswarm.settings import Common, read
from marketswarm.truth import MARKET, SYSTEM, Truth

_LOOK_SEC = 2.0
_WAYS_ON = (
    "`marketswarm up` (make run) starts a fleet here; one in containers (make up) is asked by `make status`. "
    "For one that runs elsewhere say where its buses are: "
    "SYSTEM_REDIS_URL=redis://127.0.0.1:6379 MARKET_REDIS_URL=redis://127.0.0.1:6380"
)


@dataclass(slots=True)
class Sight:
    """Open buses of one fleet. `found` is its truth, None while no bus has a valid one; then `why` not."""

    environ: Mapping[str, str]
    found: Found | None
    why: str
    _buses: dict[str, Bus] = field(default_factory=dict)

    @property
    def truth(self) -> Truth:
        """The truth. Raises Exit, code 4, when there is none."""
        if self.found is None:
            raise Exit(
                Code.NO_TRUTH, f"no bus has a valid truth ({self.why}): `marketswarm seed` puts one there"
            )
        return self.found.loaded.truth

    def bus(self, name: str, truth: Truth | None = None) -> Bus:
        """The bus of that name, as `truth` or else the fleet's has it. Raises Exit, code 2, for a bad URL."""
        truth = truth or (self.found.loaded.truth if self.found else None)
        if name not in self._buses:
            try:
                url = find_url(name, self.environ, truth)
            except BusError as error:
                raise Exit(Code.CONFIGURATION, str(error)) from None
            self._buses[name] = usable_bus(name, url)
        return self._buses[name]

    def buses(self) -> list[Bus]:
        """Every bus that there is: the two that always are, while no truth tells of more."""
        names = self.found.loaded.truth.bus_names() if self.found else (SYSTEM, MARKET)
        return [self.bus(name) for name in names]

    async def aclose(self) -> None:
        """Closes all buses."""
        await asyncio.gather(*(bus.aclose() for bus in self._buses.values()))


@contextlib.asynccontextmanager
async def sight(data: Path) -> AsyncIterator[Sight]:
    """Looks for a fleet: by the environment, by the truth, and last by the embedded one in folder `data`.

    Raises:
        Exit: code 3, when no bus answers; 2, when a place that was given is none.
    """
    settings = read(Common)
    embedded = folder.running(data)
    urls = embedded.buses if embedded else {}
    environ = told_also(os.environ, urls, None)
    buses = [usable_bus(name, url) for url, name in truth_places(settings, environ).items()]
    try:
        seen = await look_at_all(buses, settings.truth_redis_key, None, _LOOK_SEC)
        found = first(seen)
        tried = ", ".join(f"{each.bus.name} at {each.bus.where}: {each.why}" for each in seen)
        if not any(each.answered for each in seen):
            raise Exit(Code.NO_BUS, f"no bus answered ({tried}). {_WAYS_ON}")
        if found is None and any(each.hopeless for each in seen):
            raise Exit(Code.CONFIGURATION, tried)
        if found:
            environ = told_also(os.environ, urls, found.loaded.truth)
        here = Sight(environ, found, ", ".join(reasons(seen)))
        try:
            yield here
        finally:
            await here.aclose()
    finally:
        await asyncio.gather(*(bus.aclose() for bus in buses))


@contextlib.asynccontextmanager
async def opened(data: Path, truth: Truth) -> AsyncIterator[list[Bus]]:
    """Every bus that a truth names, not yet connected, found as in `sight`. Raises Exit, code 2."""
    embedded = folder.running(data)
    here = Sight(told_also(os.environ, embedded.buses if embedded else {}, truth), None, "")
    try:
        yield [here.bus(name, truth) for name in truth.bus_names()]
    finally:
        await here.aclose()


def told_also(environ: Mapping[str, str], urls: Mapping[str, str], truth: Truth | None) -> dict[str, str]:
    """The environment with the embedded fleet's buses added, where neither it nor the truth tells of them."""
    told = dict(environ)
    for name, url in urls.items():
        try:
            known = find_url(name, environ, truth)
        except BusError:  # it is told of, wrongly; whoever needs it will say so
            continue
        if leads_to(known, name) and not is_told(name, environ):
            told[variable_of(name)] = url
    return told
