"""The list of commands: it fits the commands themselves, and each has an example that can be typed."""

import shlex

import pytest
from typer.core import TyperGroup

from marketswarm.cli.app import COMMANDS, load_all_commands, load_command

every_command = pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)


@every_command
def test_each_command_has_an_example_that_parses(entry):
    command = load_command(entry)
    assert entry.example in command.epilog
    program, *words = shlex.split(entry.example)
    name = entry.name.split()
    assert (program, words[: len(name)]) == ("marketswarm", name)
    command.make_context(name[-1], words[len(name) :])


@every_command
def test_an_option_without_a_value_is_shown_without_a_type(entry):
    command = load_command(entry)
    context = command.make_context(entry.name, [], resilient_parsing=True)
    for option in command.get_params(context):
        if getattr(option, "is_flag", False):
            assert not option.display_type_rich(context)


def test_all_commands_can_be_loaded_at_once():
    group = load_all_commands()
    assert isinstance(group.commands["notify"], TyperGroup)
    assert {entry.name.split()[0] for entry in COMMANDS} == set(group.commands)
