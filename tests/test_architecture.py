"""Holds the tree to its layers, and the checker to its purpose: each rule is shown a breach to see."""

import ast
from functools import cache
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

from support.architecture import (
    LAYERS,
    ONLY_FOR,
    ONLY_IN,
    SHOWS,
    Module,
    broken,
    find_circle,
    find_doubled_classes,
    find_late_constants,
    imports,
    list_classes,
    modules,
    parse,
)
from support.parametrized import find_unordered

ROOT = Path(__file__).parent.parent
PACKAGES = ["marketswarm", "bootstrap", "healer", "sentinel", "notifier", "services"]


@cache
def read_tree() -> list[Module]:
    return list(modules(ROOT, PACKAGES))


@pytest.mark.slow
def test_every_module_keeps_to_its_layer_and_to_the_other_rules():
    """All rules in one test, so that each module is parsed once."""
    found = []
    for module in read_tree():
        found += [*broken(module), *find_late_constants(module)]
        list_classes(module)  # is kept, as its imports are, for what looks at all modules
    assert found == []
    assert find_circle(read_tree()) == []
    assert find_doubled_classes(read_tree()) == []


def test_no_folders_of_a_package_are_in_a_circle(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == 0, capsys.readouterr().out


def test_each_package_says_what_enters_what_leaves_and_what_must_never_happen():
    packages = [
        each for each in read_tree() if each.is_package and each.name not in ("marketswarm", "services")
    ]
    docs = {each.name: ast.get_docstring(parse(each)) or "" for each in packages}
    assert [name for name, text in docs.items() if not is_door(text)] == []
    assert len(docs) > 50


def is_door(text: str) -> bool:
    """Return True for a docstring of two to ten lines that begins a line with each of the three words."""
    lines = text.splitlines()
    words = ("Enters: ", "Leaves: ", "Never: ")
    return 2 <= len(lines) <= 10 and all(any(line.startswith(word) for line in lines) for word in words)


def test_a_package_that_does_not_say_it_is_seen():
    said = ["A door.", "", "Enters: a.", "Leaves: b.", "Never: c."]
    assert is_door("\n".join(said))
    assert is_door("\n".join(said + ["more"] * 5))
    assert not is_door("\n".join(said + ["more"] * 6))
    assert not any(is_door("\n".join(said[:at] + said[at + 1 :])) for at in (2, 3, 4))


def test_the_tree_that_is_checked_is_the_whole_tree():
    assert {module.name.partition(".")[0] for module in read_tree()} == set(PACKAGES)
    assert {"marketswarm.beat", "healer", "services"} <= {module.name for module in read_tree()}


def test_each_name_in_the_tables_is_there():
    """A name that went would let in whatever takes it next."""
    there = {module.part for module in read_tree()}
    named = {f"marketswarm.{part}" for layer in ("thinks", "touches", "lives") for part in LAYERS[layer]}
    assert named <= there
    assert {place for places in ONLY_IN.values() for place in places} <= there
    assert set(ONLY_FOR) <= there
    names = {module.name for module in read_tree()}
    assert {*SHOWS, *(each for shown in SHOWS.values() for each in shown)} <= names


def test_a_circle_is_seen_and_named():
    for first, second in (
        ("from a.y import Y", "from a.x import X"),
        ("import a.y", "from a import x"),
        ("from . import y", "try:\n    from a.x import X\nexcept ImportError:\n    X = None"),
        ("class X:\n    from a.y import Y", "import os\nif os.name:\n    import a.x"),
        ("from a.y import Y", "def late():\n    from a.x import X"),
        ("from a.y import Y", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.x import X"),
    ):
        tree = [Module("a", "", is_package=True), Module("a.x", first), Module("a.y", second)]
        assert set(find_circle(tree)) == {"a.x", "a.y"}, (first, second)
    tree = [Module("a", "from a.x import X", is_package=True), Module("a.x", "from a import Y")]
    assert set(find_circle(tree)) == {"a", "a.x"}, "a package that its own parts import"


def test_two_classes_of_one_name_are_seen():
    tree = [Module("a.x", "class Lease: ..."), Module("a.y", "class Lease: ..."), Module("a", "class B: ...")]
    assert find_doubled_classes(tree) == ["Lease: a.x, a.y"]


def test_a_constant_below_a_class_is_seen():
    source = "A = 1\nclass B: ...\nC: int = A\nD = B()\nE = D\nf = C\nG = f"
    assert list(find_late_constants(Module("a.x", source))) == ["a.x:3: C"]


BREACHES = [
    ("marketswarm.beat", "from marketswarm.bus import Bus", "arrows point down"),
    ("marketswarm.truth.models", "import marketswarm.settings", "arrows point down"),
    ("marketswarm.fleet.run", "def go():\n    from services.mesh import loop", "arrows point down"),
    (
        "marketswarm.fleet.run",
        "import importlib\nimportlib.import_module('healer.watch')",
        "arrows point down",
    ),
    ("healer.watch", "from sentinel.watch import Watch", "another agent"),
    ("services.mesh.loop", "from ..rss_agg import feeds", "another agent"),
    ("services.board.market.site", "from services.signals.report import BacktestReport", "another agent"),
    ("services.board.backtests.api", "from services.signals.run import run_backtest", "another agent"),
    ("services.mesh.loop", "from marketswarm.cli import output", "marketswarm.__main__ only"),
    ("services.mesh.loop", "import typer", "typer, which is known in"),
    ("services.mesh", "from services import rss_agg", "another agent"),
    ("marketswarm.truth.models", "from services.market.records import Bar", "arrows point down"),
    ("marketswarm.web.guard", "from services.board.board import KEYS", "arrows point down"),
    ("marketswarm.web.server", "from marketswarm.agent import agent", "arrows point down"),
    ("services.market.records", "from marketswarm.bus import Bus", "arrows point down"),
    ("services.market.records", "from services.bars import builder", "arrows point down"),
    ("services.market.records", "import time", "only thinks"),
    ("services.signals.engine.engine", "import time", "only thinks"),
    (
        "services.signals.engine.ledger",
        "from services.market.records import Bar",
        "nothing of ours but itself",
    ),
    ("services.market.records", "import asyncpg", "only thinks"),
    ("services.market.records", "from marketswarm.postgres.pool import ConnectionPool", "arrows point down"),
    ("services.market.records", "from services.tables.rows import BarRow", "arrows point down"),
    ("services.tables.rows", "from marketswarm.postgres.pool import ConnectionPool", "arrows point down"),
    ("services.tables.tables", "import asyncpg", "only thinks"),
    ("services.bars.worker", "import asyncpg", "asyncpg, which is known in"),
    ("marketswarm.postgres.pool", "from services.tables import rows", "arrows point down"),
    ("healer.watch", "import marketswarm.testing", "for tests only"),
    (
        "marketswarm.agent.lifecycle",
        "from marketswarm import fleet",
        "for marketswarm.cli, marketswarm.testing",
    ),
    ("marketswarm.detector.clock", "import time", "only thinks"),
    ("marketswarm.truth.models", "from os import environ", "only thinks"),
    ("marketswarm.truth.models", "import urllib.request", "only thinks"),
    ("marketswarm.event", "async def encode(): ...", "async in what only thinks"),
    ("marketswarm.event", "open('x')", "open() in what only thinks"),
    ("healer.watch", "import signal", "known in marketswarm.agent"),
    ("services.rss_agg", "print('here')", "prints"),
    ("marketswarm.agent", "import argparse", "known in services.signals only"),
    ("marketswarm.utils", "", "says nothing"),
    ("healer.core.watch", "", "says nothing"),
    ("marketswarm.weather", "", "in no layer"),
    ("marketswarm.bus", "import marketswarm.weather", "in no layer"),
    ("services", "import services.mesh", "the bare package imports"),
    ("healer.watch", "LOG = 'healer:alerts:log'", "writes the key 'healer:alerts:log'"),
    ("healer.watch", "key = f'beat:{svc}'", "writes the key 'beat:{}'"),
    ("sentinel.watch", "key = f'{listener}:roster'", "writes the key '{}:roster'"),
    ("services.mesh", "name.removesuffix(b':heartbeat')", "writes the key ':heartbeat'"),
]


def test_a_breach_is_seen_and_named():
    for name, source, said in BREACHES:
        found = broken(Module(name, source))
        assert found, (name, source)
        assert said in found[0]
        assert found[0].startswith(f"{name}:")


RIGHT = [
    (
        "healer.watch",
        "from marketswarm.detector import tick\nfrom marketswarm.agent import agent\nfrom healer import tell",
    ),
    ("healer.watch", "from . import tell\nimport asyncio, time"),
    (
        "marketswarm.truth.models",
        "import re\nfrom urllib.parse import urlsplit\nfrom collections.abc import Mapping",
    ),
    ("marketswarm.truth", "from marketswarm.truth.models import Truth"),
    ("services.mesh", "from services.market.records import Bar"),
    ("services.mesh", "from services.tables.rows import BarRow"),
    ("services.tables.rows", "from services.market.records import Bar"),
    ("services.mesh.commands", "import typer\nfrom marketswarm.cli import output"),
    ("marketswarm.cli.up", "import signal\nfrom marketswarm.fleet import up\nprint('ready')"),
    (
        "healer.watch",
        "from marketswarm.keys import health_key\nspawn(tell(), name=f'lease:{bus}')\nkey = health_key('a')",
    ),
    ("healer.watch", "'What health:a holds.'\nlog('Entries of healer:alerts:log that were skipped.')"),
    (
        "marketswarm.bus",
        "from redis.asyncio import Redis\nfrom marketswarm import __version__\nasync def go(): ...",
    ),
]


def test_what_is_right_is_left_alone():
    assert [rule for name, source in RIGHT for rule in broken(Module(name, source))] == []


def test_a_relative_import_is_read_from_where_it_stands():
    for module, found in (
        (Module("a.b.c", "from . import x"), "a.b.x"),
        (Module("a.b", "from . import x", is_package=True), "a.b.x"),
        (Module("a.b.c", "from ..y import x"), "a.y.x"),
    ):
        assert [name for _, name in imports(module)] == [found]


def test_no_test_is_parametrized_over_a_set():
    """Each process has another order of it: workers that don't agree on the tests run none."""
    texts = {path: path.read_text("utf-8") for path in sorted((ROOT / "tests").rglob("*.py"))}
    found = {path: find_unordered(text) for path, text in texts.items() if "parametrize" in text}
    assert {str(path.relative_to(ROOT)): lines for path, lines in found.items() if lines} == {}
    assert len(found) > 100


@pytest.mark.parametrize(
    ("values", "is_found"),
    [
        ("{1, 2}", True),
        ("{one for one in (1, 2)}", True),
        ("set(X)", True),
        ("frozenset((1, 2))", True),
        ("SOME", True),
        ("SOME - {1}", True),
        ("SOME.union([1])", True),
        ("[*SOME]", True),
        ("list(SOME)", True),
        ("[one for one in SOME]", True),
        ("SOME if X else []", True),
        ("sorted(SOME)", False),
        ("[{1, 2}]", False),
        ("[1, 2]", False),
        ("{1: 2}.items()", False),
        ("Kind", False),
    ],
)
@pytest.mark.parametrize("call", ["parametrize('a', {})", "parametrize('a', argvalues={})"])
def test_a_set_is_seen_however_it_is_written(values, is_found, call):
    text = f"SOME = {{1, 2}} | X\n@pytest.mark.{call.format(values)}\ndef test(a): ...\n"
    assert bool(find_unordered(text)) == is_found
