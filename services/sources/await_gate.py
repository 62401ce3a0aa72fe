"""Wait until the gate of sources is open, or until there are bars, so that a restarted reader starts at once.

`python -m services.sources.await_gate [COMMAND…]` runs before bars, archive and signals start, in containers
and under systemd, with their own URL: the file that MARKET_REDIS_URL_FILE names. A truth on that bus that
names no `sources` has no gate, so nothing is waited for. In the end it becomes the command, if there is one.
While it waits for one that ends in the module of a service, `services.bars`, it beats `degraded` for that
service: a gate may take minutes, and who waits for it is not missed.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from marketswarm.agent.truth_source import read_truth
from marketswarm.bus import Bus, BusError, find_bus_url
from marketswarm.exit import Exit
from marketswarm.keys import CHECKED_BARS, PRELOAD_STATUS
from marketswarm.settings import CommonSettings, read_settings
from marketswarm.truth import ParsedTruth

NAME = "market-redis"
SOURCES = "sources"
OPEN = "open"
EVERY_SEC = 2.0
MAX_STATUS_BYTES = 1024 * 1024


class Gate:
    """The gate of sources, as a bus shows it; `truth_key` is where the truth is."""

    def __init__(self, bus: Bus, truth_key: str) -> None:
        self._bus, self._truth_key = bus, truth_key
        self._truth: ParsedTruth | None = None

    async def find_state(self) -> str:
        """Return its state, or why it is not known; `open` if there are bars already, or there is no gate."""
        bus = self._bus
        try:
            state = parse_state(await bus.ask(bus.client.get(PRELOAD_STATUS), max_bytes=MAX_STATUS_BYTES))
            return OPEN if state != OPEN and (await has_bars(bus) or not await self._exists()) else state
        except BusError as error:
            return str(error)

    async def _exists(self) -> bool:
        """Return False if the truth is known to name no `sources`; then no gate ever opens."""
        found = (await read_truth(self._bus, self._truth_key, self._truth)).found
        self._truth = None if found is None else found.loaded
        return self._truth is None or SOURCES in self._truth.truth.services


def parse_state(status: bytes | None) -> str:
    try:
        document = json.loads(status or b"{}")
    except ValueError:
        return f"{PRELOAD_STATUS}: no JSON"
    state = document.get("state") if isinstance(document, dict) else None
    return state if isinstance(state, str) else "unknown"


async def has_bars(bus: Bus) -> bool:
    """Return True if there are bars on the usual stream. Raise BusError.

    A truth may name another one; then its services may not ask for this one, and the gate alone decides.
    """
    try:
        return bool(await bus.ask(bus.client.exists(CHECKED_BARS)))
    except BusError as error:
        if error.reason != "auth":
            raise
        return False


async def main() -> None:
    """Print each change of the state, and return when it is `open`. Raise Exit for a wrong variable."""
    try:
        bus = Bus(NAME, find_bus_url(NAME, os.environ))
    except BusError as error:
        sys.exit(str(error))
    gate = Gate(bus, read_settings(CommonSettings).truth_redis_key)
    state = ""
    while state != OPEN:
        if state:
            await asyncio.sleep(EVERY_SEC)
        found = await gate.find_state()
        if found != state:
            sys.stderr.write(f"the gate of sources: {found[:200]}\n")
        state = found
    await bus.aclose()


@asynccontextmanager
async def beating(command: Sequence[str]) -> AsyncIterator[None]:
    """Beat for the service of a command inside the block, by a child process that ends with a goodbye."""
    found = re.fullmatch(r"services\.(\w+)", command[-1]) if command else None
    if found is None:
        yield
        return
    how = ("--every", "5s", "--status", "degraded", "--detail", "waits for the gate of sources")
    beats = await asyncio.create_subprocess_exec(sys.executable, "-m", "marketswarm", "beat", found[1], *how)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it ended already
            beats.terminate()
        await beats.wait()


async def wait_for(command: Sequence[str]) -> None:
    """Return when the gate is open; beat for the service of the command until then."""
    async with beating(command):
        await main()


if __name__ == "__main__":
    try:
        asyncio.run(wait_for(sys.argv[1:]))
    except Exit as refusal:  # a variable of the service is wrong
        sys.stderr.write(f"{refusal.message}\n")
        sys.exit(refusal.code)
    if sys.argv[1:]:
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the command line's own
