"""How other terminals stop, start and kill agents of the fleet in this folder: one line each way on a socket.

The request is `{"do":"stop","svc":"rss_agg"}`, the answer `{"done":true,"said":"rss_agg stopped in 0.2 s"}`.
The name of a service means all its processes; `rss_agg/2` is the second alone, `rss_agg/1` the first.
The socket is the user's alone. Servers are not for this: they are what the agents need.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from marketswarm.fleet.child import Child
from marketswarm.truth import nearest

ACTIONS = ("stop", "start", "kill")
_ANSWER_WITHIN_SEC = 15.0


class NoFleetError(Exception):
    """The fleet did not answer."""


@contextlib.asynccontextmanager
async def controlled(address: str, agents: Mapping[str, Child]) -> AsyncIterator[None]:
    """Serves the socket at `address` while the context lasts."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            if line := await reader.readline():
                writer.write(orjson.dumps(await _answer(line, agents)) + b"\n")
                await writer.drain()
        writer.close()

    _remove(address)  # of a fleet that was killed: the folder is ours now
    before = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(serve, address)
    finally:
        os.umask(before)
    try:
        yield
    finally:
        server.close()
        _remove(address)
        _leave_no_folder(address)


def ask(address: str, action: str, svc: str) -> tuple[bool, str]:
    """Asks the fleet at `address`; whether it was done, and what there is to say.

    Raises:
        NoFleetError: it does not answer.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_WITHIN_SEC)
        try:
            connection.connect(address)
            connection.sendall(orjson.dumps({"do": action, "svc": svc}) + b"\n")
            with connection.makefile("rb") as lines:
                answer = orjson.loads(lines.readline())
        except (OSError, orjson.JSONDecodeError) as error:
            raise NoFleetError(str(error)) from error
    return bool(answer["done"]), str(answer["said"])


def _remove(address: str) -> None:
    Path(address).unlink(missing_ok=True)


def _leave_no_folder(address: str) -> None:
    """Removes the folder that was made for the socket alone, see `choose_control_address`."""
    with contextlib.suppress(OSError):  # a data folder is not empty
        Path(address).parent.rmdir()


def meant(name: str, agents: Mapping[str, Child]) -> list[Child]:
    """The processes that are meant by the name of a service, or of one process of it."""
    svc, slash, number = name.partition("/")
    if slash:
        found = agents.get(svc if number == "1" else name)
        return [found] if found is not None else []
    return [child for each, child in agents.items() if each.partition("/")[0] == svc]


async def _answer(line: bytes, agents: Mapping[str, Child]) -> dict[str, Any]:
    try:
        request = orjson.loads(line)
        action, svc = request["do"], request["svc"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return {"done": False, "said": 'a request is {"do":"stop","svc":"rss_agg"}'}
    found = meant(svc, agents) if isinstance(svc, str) else []
    if not found:
        hint = nearest(str(svc), agents)
        known = f"did you mean {hint}?" if hint else f"it runs {', '.join(agents) or 'none'}"
        return {"done": False, "said": f"this fleet runs no {svc}; {known}"}
    match action:
        case "stop":
            return {"done": True, "said": "; ".join(await asyncio.gather(*(each.stop() for each in found)))}
        case "start":
            return {"done": True, "said": "; ".join(each.start() for each in found)}
        case "kill":
            runs = any(each.pid is not None for each in found)
            return {"done": runs, "said": "; ".join(each.kill() for each in found)}
        case _:
            return {"done": False, "said": f"{action}: what can be done is {', '.join(ACTIONS)}"}
