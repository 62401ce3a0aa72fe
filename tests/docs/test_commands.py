"""Holds every command that the pages show to the Makefile and to the command line."""

import re
import shlex

import pytest
from typer.exceptions import TyperException

from marketswarm.cli.app import load_all_commands
from support.pages import PAGES, ROOT, commands, every_page

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
NOT_OURS = {"pytest", "services.prices"}  # the latter is what `marketswarm new prices` writes
OF_CONTAINERS = ("up", "down", "ps", "logs")  # what follows is docker's
OVERRIDES = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "compose.yaml").read_text(encoding="utf-8")))
RECIPES = dict(re.findall(r"^([a-z]+):.*\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE))


def names() -> list[str]:
    group = load_all_commands()
    return list(group.commands)


def parse(words: list[str]) -> None:
    """Parse a `marketswarm` command as it would be, without running it; raises what the parser raises."""
    group = load_all_commands()
    name, *rest = words
    assert name in group.commands, f"marketswarm {name}: there is no such command"
    group.commands[name].make_context(name, rest)


def of_make(line: str) -> tuple[str, dict[str, str]] | None:
    """Target and variables of a `make` command, None for any other."""
    words = [word for word in shlex.split(line, comments=True) if not re.match("[A-Z_]+=redis:", word)]
    if words[:1] != ["make"] or len(words) < 2:
        return None
    return words[1], dict(word.split("=", 1) for word in words[2:])


@every_page
def test_each_make_command_that_is_shown_does_what_it_says(page):
    for target, given in filter(None, map(of_make, commands(page))):
        assert target in RECIPES, f"make {target}: there is no such target"
        assert given.keys() <= {"ARGS", "SVC", "PYTHON", "TIMES"} | OVERRIDES
        calls = re.search(r"\$\((?:marketswarm|fleet)\) (.+)", RECIPES[target])
        if calls and target not in OF_CONTAINERS:
            filled = calls[1]
            for name in ("ARGS", "SVC"):
                filled = filled.replace(f"$({name})", given.get(name, ""))
            parse(shlex.split(filled))


@every_page
def test_each_command_of_marketswarm_that_is_shown_parses(page):
    if page.name == "CHANGELOG.md":  # which tells of options, not of command lines
        return
    for line in commands(page):
        words = shlex.split(line, comments=True)
        if words[:1] == ["marketswarm"] and len(words) == 2:  # the name of a command, in a sentence
            assert words[1] in names() or words[1].startswith("--"), line
        elif words[:1] == ["marketswarm"]:
            parse([word for word in words[1:] if word != "--help"])


@every_page
def test_commands_have_one_spelling(page):
    """`marketswarm …`, after `. .venv/bin/activate`."""
    assert ".venv/bin/marketswarm" not in page.read_text(encoding="utf-8")


@every_page
def test_each_module_that_is_shown_can_be_run(page):
    for module in set(re.findall(r"python -m ([\w.]+)", page.read_text(encoding="utf-8"))) - NOT_OURS:
        place = ROOT / module.replace(".", "/")
        assert (place / "__main__.py").is_file() or place.with_suffix(".py").is_file(), module


def test_commands_are_found_and_a_wrong_one_is_not_let_through():
    found = [line for page in PAGES for line in commands(page)]
    assert len([line for line in found if line.startswith("make")]) > 20
    assert of_make('SYSTEM_REDIS_URL=redis://h:1 make run ARGS="--port 7379"') == (
        "run",
        {"ARGS": "--port 7379"},
    )
    with pytest.raises(TyperException, match="no-such-option"):
        parse(["up", "--no-such-option"])


def test_every_make_command_is_in_its_help_and_phony():
    silent = set(re.findall(r"^([a-z]+):(?!.*## )", MAKEFILE, re.MULTILINE))
    assert silent == {"environment"}
    assert set(re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)[0].split()) == set(RECIPES)
