"""The public names of `marketswarm.agent`, which are imported when they are first used."""

import inspect
import subprocess
import sys

import marketswarm.agent
from marketswarm.agent import member


def test_agent_is_the_function_whatever_was_imported_before():
    assert member.Agent is marketswarm.agent.Agent
    assert inspect.isfunction(marketswarm.agent.agent)


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    assert not hasattr(marketswarm.agent, "no_such_name")


def test_a_script_that_only_beats_imports_no_agent():
    """Most of what `marketswarm beat` costs is imports."""
    source = "import sys, marketswarm.cli.beat; print('marketswarm.agent.lifecycle' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
