# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm simulate`: a failure from beginning to end, as the operator's document tells it."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marketswarm.cli.control import Svc, act
from marketswarm.cli.options import DATA, Data

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from marketswarm.truth import Truth

_SLACK_SEC = 10.0


def simulate(
    svc: Svc,
    by_hand: Annotated[
        bool, typer.Option("--by-hand", help="Say when to stop it and when to start it; somebody else does.")
    ] = False,
    data: Data = DATA,
) -> None:
    """Stop an agent, wait for its miss, start it, wait for its ok. Ctrl-C starts it again."""
    import asyncio

    from marketswarm.exit import Code, Exit

    if "/" in svc:
        raise Exit(
            Code.CONFIGURATION,
            f"{svc} is one of several: it is not missed while another one beats. `marketswarm simulate "
            f"{svc.partition('/')[0]}` stops them all, `marketswarm stop {svc}` this one alone",
        )
    asyncio.run(_simulate(svc, data, _asked if by_hand else act))


async def _simulate(svc: str, data: Path, do: "Callable[[str, str, Path], str]") -> None:
    import time

    from marketswarm.cli import paper
    from marketswarm.cli.log_stream import follow
    from marketswarm.cli.sight import sight
    from marketswarm.cli.words import seconds, sentence

    async with sight(data) as fleet:
        truth = fleet.truth
        _need_watched(svc, truth)
        timeout_sec = truth.timeout_of(svc)
        told = await follow([fleet.bus(truth.alert_target("")[0])])
        async with contextlib.aclosing(told):
            begun = time.monotonic()
            paper.line(do("stop", svc, data))
            try:
                paper.line(f"the healer misses it after {seconds(timeout_sec)} of silence")
                miss = await _await(told, svc, "_miss", 2 * timeout_sec + _SLACK_SEC)
                paper.line(f"{sentence(miss)}   [{seconds(time.monotonic() - begun)} after the stop]")
            finally:
                again = time.monotonic()
                paper.line(do("start", svc, data))
            ok = await _await(told, svc, "_ok", 2 * timeout_sec + _SLACK_SEC)
            paper.line(f"{sentence(ok)}   [{seconds(time.monotonic() - again)} after the start]")


def _asked(action: str, svc: str, _data: Path) -> str:
    """What a person, or tools/fleet.sh, is to do."""
    return f"{action} {svc} now"


def _need_watched(svc: str, truth: "Truth") -> None:
    """Raises Exit, code 2, for what nobody would miss."""
    from marketswarm.exit import Code, Exit
    from marketswarm.truth import nearest

    if svc not in truth.services:
        hint = nearest(svc, truth.services)
        known = f"did you mean {hint}?" if hint else f"it names {', '.join(truth.services) or 'none'}"
        raise Exit(Code.CONFIGURATION, f"the truth names no {svc}; {known}")


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
