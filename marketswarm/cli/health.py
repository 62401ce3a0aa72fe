# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm health`: the latest word on each service."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from marketswarm.cli.options import DATA, Data, Json


def health(
    svc: Annotated[str | None, typer.Argument(metavar="[SVC]", help="One service; all without it.")] = None,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show the latest alert or ok of each service, as kept under health:<svc>."""
    import asyncio

    from marketswarm.cli import paper

    found = asyncio.run(_read(svc, data))
    if as_json:
        import orjson

        paper.raw(orjson.dumps(found if svc is None else found[svc]))
        return
    width = max(map(len, found), default=0)
    for name, word in found.items():
        paper.line(f"{name:<{width}}  {_said(word)}", _style(word))


async def _read(svc: str | None, data: Path) -> dict[str, Any]:
    """The objects by service; None for a service that nobody vouches for."""
    from marketswarm.cli.sight import sight
    from marketswarm.exit import Code, Exit
    from marketswarm.fleet.green import objects
    from marketswarm.truth import SYSTEM, nearest

    async with sight(data) as fleet:
        names = sorted({*fleet.truth.services, *(watch.svc for watch in fleet.truth.watched())})
        if svc is not None and svc not in names:
            hint = nearest(svc, names)
            raise Exit(
                Code.CONFIGURATION,
                f"the truth has no service {svc}; " + (f"did you mean {hint}?" if hint else ", ".join(names)),
            )
        wanted = names if svc is None else [svc]
        words = await objects(fleet.bus(SYSTEM), [f"health:{name}" for name in wanted])
    return {name: word or None for name, word in zip(wanted, words, strict=True)}


def _said(word: Mapping[str, Any] | None) -> str:
    from marketswarm.cli.words import seconds, sentence

    if word is None:
        return "-------- · nobody vouches for it"
    if "age_sec" in word:
        return f"{sentence(word)}, last beat {seconds(word['age_sec'])} before that"
    return sentence(word)


def _style(word: Mapping[str, Any] | None) -> str:
    return "2" if word is None else "32" if str(word.get("type")).endswith("_ok") else "31"
