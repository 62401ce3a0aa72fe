"""Something asked of the notifier, and its answers as they come."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import typer

from marketswarm.bus import Bus, BusError
from marketswarm.cli.everywhere import everywhere, missing
from marketswarm.cli.facts import facts
from marketswarm.cli.rows import rows
from marketswarm.cli.sight import Sight, sight
from marketswarm.cli.words import seconds
from marketswarm.exit import Exit
from marketswarm.operator import ASKS, Answer, Ask, Do, answers_key
from marketswarm.operator.keys import ASKS_KEPT
from marketswarm.text import escape_text

REFUSED: Final = 1
"""The exit code when the notifier, or a receiver, did not do it."""
_NOTIFIER = "notifier"
_LOOK_EVERY_SEC = 0.05
_ANSWERS = 1_000


def made(do: Do, what: str, by: str) -> Ask:
    """An ask of this moment. Raises BadParameter when `what` can't be anything that there is."""
    try:
        return Ask(id=secrets.token_hex(6), do=do, what=what, by=by, ts=time.time())
    except ValueError:
        raise typer.BadParameter("it has 1 to 200 letters") from None


async def ask(made: Ask, within_sec: float, data: Path, say: Callable[[str], None]) -> None:
    """Asks the notifier of a fleet; says each answer as it comes, and which bus did not take the ask.

    Raises:
        Exit: code 1, when it was refused or not answered within `within_sec`; 3, when no bus takes the ask.
    """
    async with sight(data) as fleet:
        taken, away = await everywhere(
            fleet.buses(),
            lambda bus: bus.client.xadd(ASKS, {"ask": made.encode()}, maxlen=ASKS_KEPT, approximate=True),
        )
        for line in missing(away):
            say(line)
        there = [bus for bus in fleet.buses() if bus.name in taken]
        answers = await _answers(there, made.id, within_sec, lambda answer: _say(answer, say))
        if not answers or not answers[-1].done:
            raise Exit(REFUSED, await _why_not(fleet, made, within_sec, answers))
    if not all(answer.ok for answer in answers):
        raise Exit(REFUSED, "")


async def _answers(
    buses: Sequence[Bus], ask_id: str, within_sec: float, show: Callable[[Answer], None]
) -> list[Answer]:
    """The answers, up to the last one or for `within_sec` at most."""
    found: list[Answer] = []
    deadline = time.monotonic() + within_sec
    while True:
        for answer in _new(await _look(buses, ask_id), found):
            found.append(answer)
            show(answer)
        # from several buses, the last one may come before another
        found.sort(key=lambda answer: answer.done)
        if (found and found[-1].done) or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(_LOOK_EVERY_SEC)


def _new(parts: Sequence[Sequence[Answer]], known: Sequence[Answer]) -> list[Answer]:
    """The answers beyond those known: each bus has all of them, or some; several may be the same words."""
    counted, new = Counter(known), list[Answer]()
    for part in parts:
        here = Counter[Answer]()
        for answer in part:
            here[answer] += 1
            if here[answer] > counted[answer]:
                counted[answer] += 1
                new.append(answer)
    return new


async def _look(buses: Sequence[Bus], ask_id: str) -> list[list[Answer]]:
    async def one(bus: Bus) -> list[Answer]:
        try:
            lines = await bus.ask(bus.client.lrange(answers_key(ask_id), 0, _ANSWERS))
        except BusError:
            return []  # it took the ask, and another one may have the answer
        return [answer for answer in map(Answer.parse, lines) if answer is not None]

    return await asyncio.gather(*map(one, buses))


def _say(answer: Answer, say: Callable[[str], None]) -> None:
    """One line an answer: `✓ slack (hooks.slack.com): 200 ok`."""
    if not answer.said and not answer.channel:
        return
    where = f" ({answer.where})" if answer.where and answer.where != answer.channel else ""
    head = f"{answer.channel}{where}: " if answer.channel else ""
    say(escape_text(f"{'✓' if answer.ok else '✗'} {head}{answer.said}"))


async def _why_not(fleet: Sight, made: Ask, within_sec: float, answers: Sequence[Answer]) -> str:
    """Why there is no answer, or not the last one, as far as can be seen."""
    late = f"within {seconds(within_sec)}"
    stays = "" if made.do is Do.TEST else ". It stays asked: one that runs again within a day does it"
    if answers:
        return f"the notifier did not finish {late}"
    if fleet.found is None or _NOTIFIER not in fleet.truth.services:
        return f"no notifier answered {late}, and no truth names one{stays}"
    known, _ = await facts(fleet)
    row = next(row for row in rows(fleet.truth, known) if row.svc == _NOTIFIER)
    if row.silence_sec is None or row.silence_sec > row.timeout_sec or row.status == "stopping":
        return f"no notifier runs: `python -m notifier` is one, and `make run` starts it{stays}"
    beat = f"its last beat was {seconds(row.silence_sec)} ago"
    return f"the notifier did not answer {late}, though it runs ({beat}){stays}"
