"""Holds docs/your-own-service.md to what a service and its test really have, and to what `new` writes."""

import ast
import re
import shutil

from marketswarm.agent import Agent
from marketswarm.testing import Fleet
from support.pages import ROOT, blocks
from support.rig.shell import Shell

PAGE = ROOT / "docs" / "your-own-service.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_what_is_shown_of_an_agent_and_of_a_test_fleet_is_there():
    for name, kind in (("me", Agent), ("fleet", Fleet)):
        shown = set(re.findall(rf"\b{name}\.(\w+)\(", TEXT))
        assert shown
        assert {each for each in shown if not hasattr(kind, each)} == set()


def test_what_new_says_is_what_the_page_shows(tmp_path):
    shell = Shell(tmp_path)
    for name in ("Makefile", "truth.json", "compose.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    said = shell("new", "prices").stdout
    [shown] = [block for block in blocks(PAGE, "text") if "marketswarm new" in block]
    assert shown == "$ marketswarm new prices\n" + said


def test_the_tests_that_are_shown_are_python():
    shown = blocks(PAGE, "python")
    assert len(shown) == 3
    for block in shown:
        compile(block, "a test", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
