"""Call methods of the client `healthchecks-io`, in its own environment, and print what they return.

Standard input has a JSON object: `is_async`, the arguments of the `client`, and the `calls`, each a name and
its arguments. A line is printed for each call: {"returned": …} or {"raised": name, "text": …}.
"""

import asyncio
import json
import sys
from typing import Any

from healthchecks_io import AsyncClient, CheckCreate, CheckTrap, Client

JOB_ENDED = "no space left"


def call_client(client: Client, name: str, arguments: dict[str, Any]) -> Any:
    """Call a method of the client, or run a job in its `CheckTrap`, and return what it returns."""
    if name != "trap":
        return getattr(client, name)(**make_arguments(arguments))
    with make_trap(client, arguments) as trap:
        run_job(trap, arguments)
    return None


async def call_async_client(client: AsyncClient, name: str, arguments: dict[str, Any]) -> Any:
    """Do the same with the client for asyncio."""
    if name != "trap":
        return await getattr(client, name)(**make_arguments(arguments))
    async with make_trap(client, arguments) as trap:
        run_job(trap, arguments)
    return None


def make_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a method; what a check shall be becomes the client's own type."""
    return {
        name: CheckCreate(**value) if name in ("new_check", "update_check") else value
        for name, value in arguments.items()
    }


def make_trap(client: Client | AsyncClient, arguments: dict[str, Any]) -> CheckTrap:
    """Return the context manager that reports a job."""
    return CheckTrap(client, slug=arguments["slug"])


def run_job(trap: CheckTrap, arguments: dict[str, Any]) -> None:
    """Run a job, which logs a line and ends by an error if it is told to."""
    trap.add_log(arguments["log"])
    if arguments.get("fails"):
        raise RuntimeError(JOB_ENDED)


def show(value: Any) -> Any:
    """Return a value that `json` can write."""
    if isinstance(value, dict):
        return {name: show(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [show(each) for each in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def describe(error: Exception) -> dict[str, str]:
    """Return an error as the test reads it."""
    return {"raised": type(error).__name__, "text": str(error)}


def say(found: dict[str, Any]) -> None:
    """Print what became of one call."""
    sys.stdout.write(f"{json.dumps(found)}\n")


def call_all(request: dict[str, Any]) -> None:
    """Make the calls with the client, one after another."""
    with Client(**request["client"]) as client:
        for name, arguments in request["calls"]:
            try:
                say({"returned": show(call_client(client, name, arguments))})
            except Exception as error:  # noqa: BLE001 - the test reads it
                say(describe(error))


async def call_all_async(request: dict[str, Any]) -> None:
    """Make the calls with the client for asyncio, one after another."""
    async with AsyncClient(**request["client"]) as client:
        for name, arguments in request["calls"]:
            try:
                say({"returned": show(await call_async_client(client, name, arguments))})
            except Exception as error:  # noqa: BLE001 - the test reads it
                say(describe(error))


if __name__ == "__main__":
    told = json.load(sys.stdin)
    asyncio.run(call_all_async(told)) if told["is_async"] else call_all(told)
