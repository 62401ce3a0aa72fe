"""Serve the control socket, by which others stop, start, kill and restart agents of the fleet in this folder.

`marketswarm/fleet_control.py` has the form of requests and answers, and sends them. The name of a service
means all its processes; `rss_agg/2` is the second alone, `rss_agg/1` the first. A restart is for one process
alone, and names its identity: it is done to that process, or not at all. It may have an end, `until`, by the
clock of leases. Only the user who runs the fleet may open the socket. Servers can't be stopped here, because
the agents need them.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from marketswarm.agent.lease import is_in_time
from marketswarm.bus.stored_values import parse_number
from marketswarm.fleet.child import Child
from marketswarm.fleet.plan import PlanError
from marketswarm.truth import suggest_name

ACTIONS = ("stop", "start", "kill")
RESTART, STATE = "restart", "state"


@dataclass(frozen=True, slots=True)
class ControlledAgents:
    """Hold the agents of the fleet by name, and how to add those of a service that it doesn't run.

    `add_service` adds them to the fleet and to `children`, or raises PlanError. `data_option` is
    ` --data DIR` for commands in answers, or empty.
    """

    children: Mapping[str, Child]
    add_service: Callable[[str], Awaitable[None]]
    data_option: str = ""


@contextlib.asynccontextmanager
async def serve_control_socket(address: str, agents: ControlledAgents) -> AsyncIterator[None]:
    """Answer requests on a Unix socket at the path `address` while the context lasts.

    A socket that a killed fleet left there is deleted, and this one at the end.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            if line := await reader.readline():
                writer.write(orjson.dumps(await answer_request(line, agents)) + b"\n")
                await writer.drain()
        writer.close()

    _remove_socket(address)  # a fleet that was killed left it; we have claimed the folder
    before = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(serve, address)
    finally:
        os.umask(before)
    try:
        yield
    finally:
        server.close()
        _remove_socket(address)
        with contextlib.suppress(OSError):  # a folder made for the socket alone is empty now
            Path(address).parent.rmdir()


def _remove_socket(address: str) -> None:
    """Delete the socket, if there is one."""
    Path(address).unlink(missing_ok=True)


def find_processes(name: str, children: Mapping[str, Child]) -> list[Child]:
    """Return the processes of a service, or one of them if the name has a number: `rss_agg/2`."""
    svc, slash, number = name.partition("/")
    if slash:
        found = children.get(svc if number == "1" else name)
        return [found] if found is not None else []
    return [child for each, child in children.items() if each.partition("/")[0] == svc]


async def answer_request(line: bytes, agents: ControlledAgents) -> dict[str, Any]:
    """Do what a request asks for, and return the answer; a service to start is added if it does not run."""
    try:
        request = orjson.loads(line)
        action, svc = request["do"], request["svc"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return _refuse('a request is {"do":"stop","svc":"rss_agg"}')
    if action == STATE:
        processes = [each.describe().to_json() for each in agents.children.values()]
        return {"done": True, "said": f"{len(processes)} processes", "processes": processes}
    if action == RESTART and isinstance(svc, str):
        return await _restart(svc, request, agents)
    if action not in ACTIONS or not isinstance(svc, str):
        return _refuse(f"{action}: what can be done is {', '.join(ACTIONS)}")
    found = find_processes(svc, agents.children)
    if not found and action == "start" and "/" not in svc:
        try:
            await agents.add_service(svc)
        except PlanError as error:
            return _refuse(str(error))
        found = find_processes(svc, agents.children)
    if not found:
        return _refuse(f"this fleet runs no {svc}; {suggest_name(svc, agents.children, 'it runs')}")
    return await _do_action(action, svc, found, agents.data_option)


async def _restart(name: str, request: Mapping[str, Any], agents: ControlledAgents) -> dict[str, Any]:
    until, identity = request.get("until"), request.get("identity")
    if until is not None:
        # its sender may have stood still since, and no longer hold the lease under which it was meant
        ends_at = parse_number(until, 0.0, float("inf"))
        if ends_at is None or not is_in_time(ends_at):
            return _refuse(f"{name}: the request came too late")
    found = find_processes(name, agents.children)
    if len(found) != 1 or not isinstance(identity, str):
        return _refuse(f"{name}: a restart is of one process, with its identity")
    result, said = await found[0].restart(identity)
    return {"done": result == "done", "result": result, "said": said}


async def _do_action(action: str, svc: str, children: list[Child], data_option: str) -> dict[str, Any]:
    """Stop, start or kill these processes of a service; return the answer."""
    if action == "stop":
        return {"done": True, "said": "; ".join(await asyncio.gather(*(each.stop() for each in children)))}
    if action == "start":
        return {"done": True, "said": "; ".join(each.start() for each in children)}
    runs = any(each.pid is not None for each in children)
    text = "; ".join(each.kill() for each in children)
    return {"done": runs, "said": text + (f", or by `marketswarm start {svc}{data_option}`" if runs else "")}


def _refuse(why: str) -> dict[str, Any]:
    return {"done": False, "said": why}
