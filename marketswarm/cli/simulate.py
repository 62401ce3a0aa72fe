# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm simulate`: a failure from beginning to end, as the operator's document tells it."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marketswarm.cli.control import Svc, act
from marketswarm.cli.options import DATA, Data

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

_SLACK_SEC = 10.0


def simulate(svc: Svc, data: Data = DATA) -> None:
    """Stop an agent, wait for its miss, start it, wait for its ok. Ctrl-C starts it again."""
    import asyncio

    asyncio.run(_simulate(svc, data))


async def _simulate(svc: str, data: Path) -> None:
    import time

    from marketswarm.cli import paper
    from marketswarm.cli.log_stream import follow
    from marketswarm.cli.sight import sight
    from marketswarm.cli.words import seconds, sentence

    async with sight(data) as fleet:
        truth = fleet.truth
        timeout_sec = truth.timeout_of(svc)
        told = await follow([fleet.bus(truth.alert_target("")[0])])
        async with contextlib.aclosing(told):
            begun = time.monotonic()
            paper.line(act("stop", svc, data))
            try:
                paper.line(f"the healer misses it after {seconds(timeout_sec)} of silence")
                miss = await _await(told, svc, "_miss", 2 * timeout_sec + _SLACK_SEC)
                paper.line(f"{sentence(miss)}   [{seconds(time.monotonic() - begun)} after the stop]")
            finally:
                again = time.monotonic()
                paper.line(act("start", svc, data))
            ok = await _await(told, svc, "_ok", timeout_sec + _SLACK_SEC)
            paper.line(f"{sentence(ok)}   [{seconds(time.monotonic() - again)} after the start]")


async def _await(
    told: "AsyncGenerator[tuple[bytes, dict[str, Any]], None]", svc: str, ending: str, within_sec: float
) -> dict[str, Any]:
    """The next event on that service with such a type.

    Raises:
        Exit: code 5, when there is none within the time.
    """
    import asyncio

    from marketswarm.exit import Code, Exit

    try:
        async with asyncio.timeout(within_sec):
            async for _, event in told:
                if event.get("svc") == svc and str(event.get("type")).endswith(ending):
                    return event
    except TimeoutError:
        pass
    raise Exit(Code.DIED, f"no {ending} of {svc} within {within_sec:.0f} s; does the healer run?")
