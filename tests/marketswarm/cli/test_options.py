"""Options that commands take together become one value, in the place of the parameter for them."""

from dataclasses import dataclass
from inspect import signature
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from marketswarm.cli.options import OptionGroup, expand_groups, option, require_yes
from marketswarm.exit import Exit


@dataclass(frozen=True)
class Size:
    width: Annotated[int, option("--width", "N", "How wide.")] = 3
    height: Annotated[int, option("--height", "N", "How high.")] = 4


def draw(
    name: Annotated[str, typer.Argument()],
    size: Annotated[Size, OptionGroup.of(Size)],
    color: Annotated[str, option("--color", "WORD", "Which.")] = "red",
) -> None:
    print(name, size.width, size.height, color)  # noqa: T201 - that is what the command does


def run(*words: str) -> str:
    app = typer.Typer()
    app.command()(expand_groups(draw))
    ended = CliRunner().invoke(app, list(words))
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_a_group_stands_for_its_options_and_becomes_one_value():
    assert list(signature(expand_groups(draw)).parameters) == ["name", "width", "height", "color"]
    assert run("a") == "a 3 4 red\n"
    assert run("a", "--height", "9", "--color", "blue") == "a 3 9 blue\n"


def test_a_command_without_a_group_is_called_as_it_is():
    called = []

    def plain(*, name: str = "x") -> None:
        called.append(name)

    expand_groups(plain)(name="y")
    assert called == ["y"]


@pytest.mark.parametrize(
    ("options", "code"), [({"yes": True}, None), ({"yes": False}, 2), ({"yes": False, "may_ask": False}, 2)]
)
def test_without_a_terminal_only_yes_is_a_yes(options, code):
    if code is None:
        require_yes("Do it?", "not done", **options)
        return
    with pytest.raises(Exit, match="not done: no terminal; pass --yes to confirm") as end:
        require_yes("Do it?", "not done", **options)
    assert end.value.code == code
