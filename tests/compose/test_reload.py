"""`make up DEV=1`: a fleet in containers runs the code of this folder, and begins anew when it is written."""

import os

import pytest

from support.rig.compose import AGENTS, ROOT, Project, patiently

pytestmark = pytest.mark.nightly("tests/tools/test_reload.py has the script without an engine")
CODE = ROOT / "services/mesh/__init__.py"


def test_each_agent_begins_anew_when_code_is_written_and_all_are_well_again(engine, tmp_path):
    with Project(tmp_path) as fleet:
        fleet.make("up", "DEV=1", within=280)
        fleet.env["COMPOSE_FILE"] = "compose.yaml:compose.dev.yaml"
        found = fleet.containers()
        assert not [str(found[name]) for name in AGENTS if found[name].restarts]
        mounted = fleet.compose("exec", "-T", "mesh", "cat", "/app/services/mesh/__init__.py")
        assert mounted == CODE.read_text(encoding="utf-8")
        os.utime(CODE)  # as saving it does, without a change
        patiently(
            lambda: all(fleet.containers()[name].restarts == 1 for name in AGENTS), 90, "each agent to end"
        )
        fleet.healthy()
        assert {fleet.containers()[name].restarts for name in AGENTS} == {1}, "nobody ends without a reason"
