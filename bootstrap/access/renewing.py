"""A server that runs reads its users anew when they changed; one that does not will read them at its start.

`ACL LOAD` cuts off who is connected, so it is said once a change: `renewed` beside the file has the digest of
what the server was last told of.
"""

import asyncio
import hashlib
from pathlib import Path
from typing import Final

from marketswarm import log as logs
from marketswarm.agent import Code, Exit, usable_bus
from marketswarm.bus import Bus, BusError

_NOTE: Final = "renewed"
_WAIT_SEC: Final = 10.0
_PAUSE_SEC: Final = 0.3
_AWAY: Final = ("refused", "dns")  # no server, or no container of that name

log = logs.get("access")


async def renew(name: str, url: str, users: Path) -> None:
    """Has the bus at `url`, an operator's, read the file `users` if it changed since it last did.

    Raises:
        Exit: code 2, when the server does not know this operator: it runs with other passwords.
    """
    note, digest = users.with_name(_NOTE), hashlib.sha256(_bytes(users)).hexdigest().encode()
    if _bytes(note) == digest:
        return
    bus = usable_bus(name, url)
    try:
        if await _told(bus):
            note.write_bytes(digest)
    finally:
        await bus.aclose()


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


async def _told(bus: Bus) -> bool:
    """Whether the server has these users now, or will have them when it starts."""
    clock = asyncio.get_running_loop().time
    until = clock() + _WAIT_SEC
    while True:
        try:
            await bus.ask(bus.client.acl_load())
        except BusError as error:
            if error.reason in _AWAY:
                return True
            if error.reason == "auth":
                raise Exit(Code.CONFIGURATION, _other_passwords(bus.name)) from None
            if clock() >= until:
                log.warning("access.not_renewed", bus=bus.name, reason=error.reason, detail=error.detail)
                return False
        else:
            log.info("access.renewed", bus=bus.name)
            return True
        await asyncio.sleep(_PAUSE_SEC)


def _other_passwords(bus: str) -> str:
    return f"{bus} runs with other passwords than those in ACCESS_DIR: restart it, then the agents"
