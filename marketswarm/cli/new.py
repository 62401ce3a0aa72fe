# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm new`: a service to begin with, which runs and is proven to run before anything is in it.

All is looked at before anything is written, and what was written is taken back if something can't be.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from marketswarm.cli.drafts import Drafts

_FILES = {
    "__init__.py": "services/{}/__init__.py",
    "__main__.py": "services/{}/__main__.py",
    "section.py": "services/{}/section.py",
    "loop.py": "services/{}/loop.py",
    "test.py": "tests/services/{0}/test_{0}.py",
}
_INTERVAL_SEC = 10
_WATCHERS = ("healer", "sentinel", "notifier", "bootstrap")


def new(
    svc: Annotated[str, typer.Argument(metavar="NAME", help="The name of the service: prices.")],
    truth: Annotated[
        Path, typer.Option("--truth", envvar="TRUTH_PATH", metavar="FILE", help="The truth to put it into.")
    ] = Path("truth.json"),
) -> None:
    """Write a service, its section of the truth, its test and its compose entry, all of which run at once."""
    from marketswarm.cli import paper

    module = _module(svc)
    _need_free(svc, module)
    drafts = _drafts(svc, module, truth)
    drafts.write()
    for line in [*drafts.said, "", *_next_steps(svc, module)]:
        paper.line(line)


def _module(svc: str) -> str:
    """The package that is to run it. Raises BadParameter for what is no name for a service, or a package."""
    import keyword

    from marketswarm.cli.beat import need_a_name

    need_a_name(svc, "NAME")
    module = svc.replace("-", "_")
    if not module.isidentifier() or keyword.iskeyword(module):
        raise typer.BadParameter(f"{svc}: {module} can't be the name of a Python package", param_hint="NAME")
    if svc in _WATCHERS:
        raise typer.BadParameter(f"{svc} is a program of its own here", param_hint="NAME")
    return module


def _need_free(svc: str, module: str) -> None:
    """Raises Exit, code 2, when there is such a service, here or where marketswarm is installed."""
    from marketswarm.exit import Code, Exit
    from marketswarm.fleet.modules import modules_of

    if svc in modules_of([svc]):
        raise Exit(Code.CONFIGURATION, f"{svc}: there is a services.{module} already")


def _drafts(svc: str, module: str, truth: Path) -> "Drafts":
    """What is to be written, all of it."""
    from importlib.resources import files
    from string import Template

    from marketswarm.cli.compose_text import entry, with_service
    from marketswarm.cli.drafts import Drafts

    drafts = Drafts()
    for template, path in _FILES.items():
        text = files("marketswarm.cli").joinpath("templates", f"{template}.txt").read_text("utf-8")
        drafts.add(Path(path.format(module)), Template(text).substitute(svc=svc, module=module))
    _draft_truth(drafts, svc, truth)
    compose = Path("compose.yaml")
    raw = compose.read_bytes() if compose.is_file() else b""
    longer = with_service(raw.decode("utf-8", "surrogateescape"), svc, module)
    if longer is not None:
        drafts.replace(compose, raw, longer.encode("utf-8", "surrogateescape"), f"its service {svc}")
    else:
        why = "not plain enough to be added to" if raw else "not there yet"
        remark = f"compose.yaml is {why}; docker compose -f compose.yaml -f compose.{svc}.yaml up"
        drafts.add(Path(f"compose.{svc}.yaml"), "services:\n" + entry(svc, module), remark)
    return drafts


def _draft_truth(drafts: "Drafts", svc: str, path: Path) -> None:
    """The truth with its section. Raises Exit, code 2, when it has one, or is no valid truth with it."""
    import json

    from marketswarm.cli.document import read
    from marketswarm.cli.truth_text import with_section
    from marketswarm.exit import Code, Exit
    from marketswarm.truth import TruthError, load

    if not path.exists():
        drafts.add(path, with_section(_STARTER, svc, _section(svc, _INTERVAL_SEC)))
        return
    raw, loaded = read(path)
    if svc in loaded.truth.services:
        raise Exit(Code.CONFIGURATION, f"{path}: {svc} has a section already")
    section = _section(svc, _interval_sec(loaded.truth.cadence_sec()))
    try:
        text = with_section(raw.decode(), svc, section)
        load(text.encode())
        fits, why = (
            json.loads(text) == _extended(json.loads(raw), svc, section),
            "it would become another one",
        )
    except (TruthError, ValueError) as error:
        fits, why = False, str(error)
    if not fits:
        written = json.dumps({svc: section}, indent=2)
        by_hand = f"{path}: a section for {svc} does not fit in ({why}). By hand it would be:\n{written}"
        raise Exit(Code.CONFIGURATION, by_hand)
    drafts.replace(path, raw, text.encode(), f"its section {svc}")


def _extended(document: dict[str, Any], svc: str, section: dict[str, Any]) -> dict[str, Any]:
    document["services"][svc] = section
    return document


def _interval_sec(cadence_sec: float | None) -> float:
    """As often as others beat, or three times in a timeout that is shorter than theirs."""
    return _INTERVAL_SEC if cadence_sec is None else min(_INTERVAL_SEC, round(cadence_sec / 3, 3))


def _section(svc: str, interval_sec: float) -> dict[str, Any]:
    return {
        "description": f"What {svc} is for, in a sentence",
        "heartbeat": {"channel": f"{svc}:heartbeat", "interval_sec": interval_sec},
        "access_points": {
            "publish_to": [
                {"bus": "market-redis", "key": f"{svc}:out"},
                {"bus": "system-redis", "key": f"{svc}:heartbeat"},
            ]
        },
        "settings": {"every_sec": 5},
    }


_STARTER = """{
  "version": 1,
  "services": {
    "healer": {"threshold": {"heartbeat_cadence": 30}},
    "sentinel": {},
    "notifier": {}
  }
}
"""


def _next_steps(svc: str, module: str) -> list[str]:
    ours = Path("Makefile").is_file() and "simulate:" in Path("Makefile").read_text("utf-8", "replace")
    run, simulate = "marketswarm up", f"marketswarm simulate {svc}"
    if ours:
        run, simulate = "make run", f"make simulate SVC={svc}"
    hints = [
        (run, "starts it with all the others; a fleet that runs already, when it is started again"),
        (simulate, "its miss and its ok, while that runs"),
        (f"python -m pytest tests/services/{module}", "the same on real servers, in seconds"),
        (f"services/{module}/loop.py", "is where its work goes"),
    ]
    width = max(len(what) for what, _ in hints)
    return [f"  {what:<{width}}  {meaning}" for what, meaning in hints]
