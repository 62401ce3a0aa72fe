"""What a command imports before it does anything: people, cron and shell loops wait for that each time."""

import subprocess
import sys
from typing import Final

import pytest

pytestmark = pytest.mark.live

SCRIPT = """
import sys
import marketswarm.cli
try:
    marketswarm.cli.main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
PLUGINS = """
import sys
import marketswarm.cli
try:
    marketswarm.cli.main()
finally:
    from pydantic.plugin import _loader
    print(*(name for name in vars(_loader) if not name.startswith("__")), file=sys.stderr)
"""
BUILT = """
import sys
from pydantic import TypeAdapter
import marketswarm.cli.status, marketswarm.cli.beat, marketswarm.cli.notifier
for module in [module for name, module in sys.modules.items() if name.startswith("marketswarm.")]:
    for name, value in vars(module).items():
        if isinstance(value, TypeAdapter) and value.pydantic_complete:
            print(name)
        elif isinstance(value, type) and vars(value).get("__pydantic_complete__"):
            print(name)
"""
BUILTINS = """
import inspect
import marketswarm.cli
def refuse(_cls, function, *args, **kwargs):
    raise AssertionError(f"{function} is called through a function of ours")
inspect._signature_fromstr = refuse
marketswarm.cli.main()
"""
NO_TABLE = {"rich", "pygments", "attr"}
"""Packages that only tables and help need."""
NEVER = {
    "structlog",  # nothing is logged
    "email",
    "zipfile",
    "redis.cluster",
    "redis.sentinel",
    "redis.keyspace_notifications",
    "opentelemetry",  # what redis-py loads of it, and uses only if it is asked to
    "rich.live",
    "rich.traceback",  # what structlog loads of rich
    "pygments",
    "httpx",
    "prometheus_client",
    "marketswarm.agent.lifecycle",
    "marketswarm.channels.registry",
    "marketswarm.detector.detector",
    "marketswarm.detector.service",
    "marketswarm.fleet.plan",
    "marketswarm.fleet.supervisor",
    "marketswarm.monitor.monitor",
    "marketswarm.monitor.store",
    "marketswarm.pings",
    "marketswarm.settings.programs",
}
NOT_FOR: Final = {
    "status": {"marketswarm.cli.notifier", "marketswarm.cli.silence", "marketswarm.operator.requests"},
    "beat": {"marketswarm.status", "marketswarm.operator", "marketswarm.detector"},
    "ack": {"marketswarm.status", "marketswarm.detector"},
}
"""By command, what others need of the parts that it asks the buses with."""


AWAY: Final = {"SYSTEM_REDIS_URL": "redis://127.0.0.1:1", "MARKET_REDIS_URL": "redis://127.0.0.1:1"}


def run_script(shell, script, *words, away=AWAY):
    """Run a script for which no bus answers, or with other variables."""
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=shell.folder,
        env={name: value for name, value in shell.env.items() if not name.startswith("OTEL_")} | away,
        capture_output=True,
        text=True,
        check=False,
    )


def load_modules(shell, *words, script=SCRIPT, away=AWAY):
    """Return the code of a command, and what it has imported at its end."""
    ended = run_script(shell, script, *words, away=away)
    return ended.returncode, set(ended.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("command", "is_table"), [(["status"], True), (["beat", "mesh"], False), (["ack", "mesh"], False)]
)
def test_what_is_typed_often_imports_nothing_that_it_does_not_need(shell, command, is_table):
    code, loaded = load_modules(shell, *command)
    assert code == 3  # it has asked the buses
    assert f"marketswarm.cli.{'notifier' if command[0] == 'ack' else command[0]}" in loaded
    assert ("rich.table" in loaded) is is_table
    assert not (NEVER if is_table else NEVER | NO_TABLE) & loaded
    assert not NOT_FOR[command[0]] & loaded


@pytest.mark.parametrize(("command", "code"), [(["status"], 0), (["beat", "mesh"], 0)])
def test_a_command_that_finds_its_fleet_needs_no_more(shell, seeded, command, code):
    ended, loaded = load_modules(shell, *command, away={})
    assert ended == code
    assert not (NEVER | NOT_FOR[command[0]]) & loaded


@pytest.mark.parametrize("command", [["status"], ["beat", "mesh"]])
def test_no_field_is_checked_by_a_function_whose_signature_is_a_text(shell, seeded, command):
    """pydantic asks for the signature, and tokenizing the text costs more than all other checks."""
    ended = run_script(shell, BUILTINS, *command, away={})
    assert (ended.returncode, ended.stderr) == (0, "")


def test_no_command_reads_the_entry_points_of_all_packages_for_plugins_of_pydantic(shell):
    assert load_modules(shell, "beat", "mesh", script=PLUGINS) == (3, {"get_plugins"})


def test_importing_what_is_typed_often_builds_no_model_that_it_may_not_need(shell):
    ended = run_script(shell, BUILT)
    assert ended.returncode == 0, ended.stderr
    # a default is one of the first, and the second is the library's
    assert set(ended.stdout.split()) <= {"AccessPoints", "BaseSettings"}


def test_the_version_needs_no_client_no_models_and_no_tables(shell):
    code, loaded = load_modules(shell, "--version")
    assert code == 0
    assert not {"redis", "pydantic", "structlog", "rich", "marketswarm.cli.status"} & loaded
