"""Holds the tables of variables, exit codes, reasons and events to the code: none missing, none made up."""

import importlib
import re
from pathlib import Path
from typing import Any

import typer
from pages import ROOT, section, table
from typer.core import TyperGroup

from marketswarm.bus import errors
from marketswarm.cli.app import app
from marketswarm.event import Kind
from marketswarm.exit import Code
from marketswarm.liveness import Reason
from marketswarm.settings import Common
from sentinel.drift import Why


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(sub) for sub in kind.__subclasses__()))


def variables() -> dict[str, Any]:
    """Each variable that settings or the command line read, with its default."""
    for loop in ROOT.glob("services/*/loop.py"):
        importlib.import_module(f"services.{loop.parent.name}.loop")
    kinds = [kind for kind in subclasses(Common) if not kind.__module__.startswith(("test", "tests."))]
    fields = {name.upper(): field.default for kind in kinds for name, field in kind.model_fields.items()}
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    options = [option for command in group.commands.values() for option in command.params if option.envvar]
    return fields | {str(option.envvar): option.default for option in options}


def test_each_variable_that_is_read_is_in_the_table_and_each_in_the_table_is_read():
    rows = table("docs/operating.md", "Environment")
    shown = {name for row in rows for name in re.findall("`([A-Z_]+)`", row[0])}
    assert shown - {"SYSTEM_REDIS_URL", "MARKET_REDIS_URL"} == set(variables())


def test_the_defaults_in_the_table_are_those_in_force():
    rows = table("docs/operating.md", "Environment")
    shown = {name: row[1].strip("`") for row in rows for name in re.findall("`([A-Z_]+)`", row[0])}
    for name, default in variables().items():
        if isinstance(default, int | float | str | Path):
            said = str(default).lower() if isinstance(default, bool) else str(default)
            assert shown[name] == (f"{default:g}" if isinstance(default, float) else said), name


def test_the_exit_codes_are_all_there():
    assert [int(row[0]) for row in table("docs/operating.md", "Exit codes")] == sorted(Code)


def test_each_reason_is_explained():
    of_buses = {reason for _, reason in errors._BY_TYPE + errors._BY_WORD} | {"refused", "error", "deaf"}
    shown = {row[0].strip("`") for row in table("docs/detection.md", "Reasons")}
    assert shown == {*Reason, *of_buses, *Why}


def test_each_event_is_explained():
    shown = set(re.findall(r"^\| .*", section("docs/operating.md", "Read alerts"), re.MULTILINE))
    named = {name for row in shown for name in re.findall("`([a-z]+_(?:miss|ok|unwatched|drift|gap))`", row)}
    assert named == set(Kind)
