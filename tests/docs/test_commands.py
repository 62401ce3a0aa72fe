"""Holds every command that the pages show to the Makefile and to the command line."""

import re
import shlex

import pytest
from typer.exceptions import TyperException

from marketswarm.cli.app import load_all_commands
from support.pages import PAGES, ROOT, commands

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


def test_each_command_that_is_shown_does_what_it_says_and_is_spelt_the_same_way():
    wrong = []
    for page in PAGES:
        for check in (check_make, check_marketswarm, check_modules):
            try:
                check(page)
            except (AssertionError, TyperException, ValueError) as error:
                wrong.append(f"{page.relative_to(ROOT)}: {error}")
    assert wrong == []


SWITCHES = {"DEV", "HEALING", "TLS"}  # what `make up` adds to compose.yaml


def check_make(page):
    for target, given in filter(None, map(of_make, commands(page))):
        assert target in RECIPES, f"make {target}: there is no such target"
        switches = SWITCHES if target == "up" else set()
        assert given.keys() <= {"ARGS", "SVC", "PYTHON", "TIMES"} | switches | OVERRIDES, given
        calls = re.search(r"\$\((?:marketswarm|fleet)\) (.+)", RECIPES[target])
        if calls and target not in OF_CONTAINERS:
            filled = calls[1]
            for name in ("ARGS", "SVC"):
                filled = filled.replace(f"$({name})", given.get(name, ""))
            parse(shlex.split(filled))


def check_marketswarm(page):
    # activated by `. .venv/bin/activate`
    assert ".venv/bin/marketswarm" not in page.read_text(encoding="utf-8"), "the spelling is `marketswarm …`"
    for line in (
        commands(page) if page.name != "CHANGELOG.md" else ()
    ):  # which tells of options, not of command lines
        words = shlex.split(line, comments=True)
        if words[:1] == ["marketswarm"] and len(words) == 2:  # the name of a command, in a sentence
            assert words[1] in names() or words[1].startswith("--"), line
        elif words[:1] == ["marketswarm"]:
            parse([word for word in words[1:] if word != "--help"])


def check_modules(page):
    for module in set(re.findall(r"python -m ([\w.]+)", page.read_text(encoding="utf-8"))) - NOT_OURS:
        place = ROOT / module.replace(".", "/")
        assert (place / "__main__.py").is_file() or place.with_suffix(".py").is_file(), module


@pytest.mark.parametrize(
    ("text", "check", "words"),
    [
        ("`make nothing`", check_make, "no such target"),
        ('```bash\nmake status ARGS="--no-such-option"\n```', check_make, "no-such-option"),
        ("```bash\nmarketswarm up --no-such-option\n```", check_marketswarm, "no-such-option"),
        ("`marketswarm nothing`", check_marketswarm, "nothing"),
        ("`.venv/bin/marketswarm up`", check_marketswarm, "spelling"),
        ("python -m no.module", check_modules, "no.module"),
    ],
)
def test_a_wrong_command_on_a_page_is_found(tmp_path, text, check, words):
    page = tmp_path / "page.md"
    page.write_text(f"{text}\n", encoding="utf-8")
    with pytest.raises((AssertionError, TyperException), match=words):
        check(page)


def test_commands_are_found():
    found = [line for page in PAGES for line in commands(page)]
    assert len([line for line in found if line.startswith("make")]) > 20
    assert of_make('SYSTEM_REDIS_URL=redis://h:1 make run ARGS="--port 7379"') == (
        "run",
        {"ARGS": "--port 7379"},
    )


def test_every_make_command_is_in_its_help_and_phony():
    silent = set(re.findall(r"^([a-z]+):(?!.*## )", MAKEFILE, re.MULTILINE))
    assert silent == {"runnable", "stationed", "environment"}
    assert set(re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)[0].split()) == set(RECIPES)
