"""Implement `marketswarm init` and `new`: write a first truth.json, or a service or strategy, with its test.

Only new files are written, all of them or none. Text for files that were written by hand, truth.json and
compose.yaml, is printed to be pasted; a missing truth.json is written.
"""

import contextlib
import json
import keyword
import os
import re
import shlex
import textwrap
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated, Any, Final

import typer

from marketswarm.agent.service_modules import find_modules
from marketswarm.cli import output
from marketswarm.cli.options import TRUTH, argument, option, require_service_name
from marketswarm.cli.validate import read_truth_file
from marketswarm.exit import Mistake
from marketswarm.fleet.preflight import is_in_our_tree
from marketswarm.keys import heartbeat_channel
from marketswarm.truth import TruthError, parse_truth

STARTER_TRUTH: Final[dict[str, Any]] = {
    "version": 1,
    "services": {"healer": {"threshold": {"heartbeat_cadence": 30}}, "sentinel": {}, "notifier": {}},
}
"""A truth with which `marketswarm up` runs at once: only the agents that watch others."""

_TRUTH_SUMMARY: Final = """
What it says, key by key:

  services.healer      hears the beats of all services, and reports one that falls silent
    heartbeat_cadence  after 30 s of silence, unless the service has a timeout_sec of its own
  services.sentinel    watches the healer
  services.notifier    sends messages to people; WEBHOOK_URL names the first receiver

What is not said has a default, so {} is a whole section. To watch a program of yours, put its name, and how
often it beats, into "services":

  "my_svc": {"heartbeat": {"interval_sec": 10}}

What to type next:
"""
_NEXT_COMMANDS: Final = (
    ("up{truth}", "starts two Redis servers and these services; Ctrl-C ends them"),
    ("new prices{truth}", "writes a service in Python, with its test, and its section for this file"),
    ("add job backup --every 1d{truth}", "puts a job of yours into it, and prints the lines to paste"),
    ("validate{file}", "checks the file after an edit"),
    ("seed{file}", "gives the edited file to a fleet that runs"),
    ("beat my_svc --every 10s", "sends the beats of my_svc from a terminal"),
)
_FILES: Final = {  # template: the file that it becomes
    "__init__.py": "services/{0}/__init__.py",
    "__main__.py": "services/{0}/__main__.py",
    "settings.py": "services/{0}/settings.py",
    "loop.py": "services/{0}/loop.py",
    "test.py": "tests/services/{0}/test_{0}.py",
}
_STRATEGY: Final = "strategy"
"""The word before the name of a strategy, which so is the name of no service."""
_STRATEGY_FILES: Final = {
    "strategy.py": "strategies/{0}.py",
    "strategy_test.py": "tests/strategies/test_{0}.py",
}
_STRATEGY_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_DEFAULT_INTERVAL_SEC: Final = 10
_OTHER_PROGRAMS: Final = ("healer", "sentinel", "notifier", "bootstrap")
_OUR_COMPOSE_ANCHOR: Final = "x-agent: &agent"


def init(
    truth: Annotated[Path, option("--truth", "FILE", "The file to write.", envvar="TRUTH_PATH")] = TRUTH,
) -> None:
    """Write a truth.json to begin with, and explain it. A file that is there is never changed."""
    file = shlex.quote(str(truth))
    if os.path.lexists(truth):
        check = f"`marketswarm validate {file}` checks it"
        raise Mistake(f"{truth} is there already: it is not touched. {check}")
    _write_files({truth: _to_json(STARTER_TRUTH)}, makes_folders=False)
    output.print_lines([f"wrote {truth}", *_TRUTH_SUMMARY.splitlines()])
    named = {"file": "", "truth": ""}
    if truth != TRUTH:
        named = {"file": f" {file}", "truth": f" --truth {file}"}
    output.print_pairs((f"marketswarm {words.format(**named)}", what) for words, what in _NEXT_COMMANDS)


def new(
    svc: Annotated[
        str, argument("NAME", "The name of the service: prices. Or `strategy`, before the name of one.")
    ],
    strategy: Annotated[
        str | None, argument("STRATEGY", "The name of a strategy to write, after `strategy`.")
    ] = None,
    truth: Annotated[Path, option("--truth", "FILE", "The truth it is for.", envvar="TRUTH_PATH")] = TRUTH,
) -> None:
    """Write a service and its test, and print its section of the truth and its compose entry.

    Where there is no truth.json, one is written that has the section. `marketswarm new strategy NAME` writes
    a strategy for `marketswarm backtest run` instead, and its test.
    """
    if svc == _STRATEGY:
        _write_strategy(strategy)
        return
    if strategy is not None:
        raise typer.BadParameter(
            f"{strategy}: only `new {_STRATEGY}` has a second name", param_hint="STRATEGY"
        )
    module = _module_name(svc)
    if svc in find_modules([svc]):
        raise Mistake(f"{svc}: there is a services.{module} already")
    drafts = _draft_files(_FILES, svc, module)
    section = None
    if truth.exists():
        section = _make_section_for_file(svc, truth)
    else:
        drafts[truth] = _to_json(_add_section(STARTER_TRUTH, svc, _make_section(svc, _DEFAULT_INTERVAL_SEC)))
    _write_files(drafts)
    output.print_lines(f"wrote {path}" for path in drafts)
    if section is not None:
        _print_snippet(f'put this into "services" of {truth}:', _to_json({svc: section})[2:-3])
    compose = Path("compose.yaml")
    if compose.is_file():
        _print_snippet(
            f"to run it in containers, put this into {compose}:", compose_entry(compose, svc, module)
        )
    _print_next_steps(svc, module)


def _write_strategy(name: str | None) -> None:
    if name is None or not _STRATEGY_NAME.fullmatch(name) or keyword.iskeyword(name):
        given = "" if name is None else f"{name!r} is no name: "
        raise typer.BadParameter(
            f"{given}small letters, digits and _, such as my_idea", param_hint="STRATEGY"
        )
    drafts = _draft_files(_STRATEGY_FILES, name, name)
    _write_files(drafts)
    output.print_lines(f"wrote {path}" for path in drafts)
    file = _STRATEGY_FILES["strategy.py"].format(name)
    span = "--symbols SPY --from 2024-01-02 --to 2024-12-31"
    steps = [
        (
            f"marketswarm backtest run {file} {span}",
            "plays it over the archive's bars, or those of --bars FILE",
        ),
        (f"python -m pytest {_STRATEGY_FILES['strategy_test.py'].format(name)}", "its test, in seconds"),
        (file, "is where its rule goes"),
    ]
    output.print_line("")
    output.print_pairs(steps)


def _module_name(svc: str) -> str:
    require_service_name(svc, "NAME")
    module = svc.replace("-", "_")
    if not module.isidentifier() or keyword.iskeyword(module):
        raise typer.BadParameter(f"{svc}: {module} can't be the name of a Python package", param_hint="NAME")
    if svc in _OTHER_PROGRAMS:
        raise typer.BadParameter(f"{svc} is a program of its own here", param_hint="NAME")
    return module


def _draft_files(templates: Mapping[str, str], svc: str, module: str) -> dict[Path, str]:
    drafts = {}
    for template, name in templates.items():
        path = Path(name.format(module))
        if os.path.lexists(path):
            raise Mistake(f"{path} is there already: it is not touched")
        drafts[path] = _fill_template(template, svc, module)
    return drafts


def _fill_template(template: str, svc: str, module: str) -> str:
    text = files("marketswarm.cli").joinpath("templates", f"{template}.txt").read_text("utf-8")
    camel = "".join(word[:1].upper() + word[1:] for word in module.split("_"))
    return Template(text).substitute(svc=svc, module=module, camel=camel)


def _make_section_for_file(svc: str, path: Path) -> dict[str, Any]:
    raw, loaded = read_truth_file(path)
    if svc in loaded.truth.services:
        raise Mistake(f"{path}: {svc} has a section already")
    cadence_sec = loaded.truth.cadence_sec()
    most_sec = _DEFAULT_INTERVAL_SEC if cadence_sec is None else round(cadence_sec / 3, 3)
    section = _make_section(svc, min(_DEFAULT_INTERVAL_SEC, most_sec))
    try:
        parse_truth(json.dumps(_add_section(json.loads(raw), svc, section)).encode())
    except TruthError as error:
        raise Mistake(f"{path}: a section for {svc} does not fit in: {error}") from None
    return section


def _make_section(svc: str, interval_sec: float) -> dict[str, Any]:
    return {
        "description": f"What {svc} is for, in a sentence",
        "heartbeat": {"channel": heartbeat_channel(svc), "interval_sec": interval_sec},
        "access_points": {
            "publish_to": [
                {"bus": "market-redis", "key": f"{svc}:out"},
                {"bus": "system-redis", "key": heartbeat_channel(svc)},
            ]
        },
        "settings": {"every_sec": 5},
    }


def _add_section(document: Mapping[str, Any], svc: str, section: dict[str, Any]) -> dict[str, Any]:
    return {**document, "services": {**document["services"], svc: section}}


def _to_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _write_files(drafts: Mapping[Path, str], *, makes_folders: bool = True) -> None:
    """Write new files, all or none: after an error, delete those that were written, with their folders."""
    made: list[Path] = []
    try:
        for path, text in drafts.items():
            missing = [each for each in path.parents if not each.exists()]
            if makes_folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                made += reversed(missing)
            with path.open("x", encoding="utf-8") as file:
                made.append(path)
                file.write(text)
    except OSError as error:
        for each in reversed(made):
            with contextlib.suppress(OSError):
                each.rmdir() if each.is_dir() else each.unlink()
        why = f"{error.filename or path}: {error.strerror or error}"
        raise Mistake(f"{why}; nothing was written") from None


def compose_entry(compose: Path, svc: str, module: str) -> str:
    """Return the service's entry for a compose file: like its neighbours' in ours, a plain one elsewhere."""
    ours = _OUR_COMPOSE_ANCHOR in compose.read_text("utf-8", "replace")
    return _fill_template("compose-ours.yaml" if ours else "compose.yaml", svc, module)


def _print_snippet(head: str, text: str) -> None:
    output.print_lines(["", head, "", *textwrap.indent(textwrap.dedent(text), "  ").rstrip().splitlines()])


def _print_next_steps(svc: str, module: str) -> None:
    run, simulate = "marketswarm up", f"marketswarm simulate {svc}"
    if is_in_our_tree():
        run, simulate = "make run", f"make simulate SVC={svc}"
    steps = [
        (run, "starts it with all the others; a fleet that runs already, when it is started again"),
        (simulate, "its miss and its ok, while that runs"),
        (f"python -m pytest tests/services/{module}", "the same on real servers, in seconds"),
        (f"services/{module}/loop.py", "is where its work goes"),
    ]
    output.print_line("")
    output.print_pairs(steps)
