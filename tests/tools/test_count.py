"""Each package keeps to its budget of code, and nothing of what `make count` lists grows in number."""

import functools

import grimp
import pytest

from tools.count import (
    EFFECTS,
    PRODUCT,
    ROOT,
    count_code,
    count_functions,
    count_packages,
    find_callbacks,
    find_excesses,
    find_folder_circles,
    find_small_modules,
    find_unsaid_effects,
    list_findings,
    read_budgets,
    read_limits,
    read_sources,
    report,
)


@functools.cache
def read_product():
    return read_sources(ROOT, PRODUCT)


@pytest.mark.slow
def test_each_package_keeps_to_its_budget():
    """One above it raises the number in tools/budgets.toml in the same commit, with the reason."""
    assert find_excesses(count_packages(read_product()), read_budgets()) == []


@pytest.mark.slow
def test_what_is_listed_does_not_grow():
    found = list_findings(read_product())
    more = {kind: found[kind] for kind, limit in read_limits().items() if len(found[kind]) > limit}
    assert more == {}


def test_words_are_no_code():
    text = '''"""A module.

Of three lines.
"""
# a comment
import os

A = """a value

of code"""
"""What A is."""

def f():
    """Do."""
    return os  # and why
'''
    assert count_code(text) == 5


def test_a_package_above_its_budget_is_named():
    counted = count_packages({"healer/a.py": "a = 1\nb = 2\n", "services/b/c/d.py": "x = 1\n"})
    assert counted == {"healer": 2, "services/b": 1}
    assert find_excesses(counted, {"healer": 2, "services/b": 1}) == []
    assert find_excesses(counted, {"healer": 1, "services/c": 1}) == [
        "healer: 2 lines of code, its budget is 1",
        "services/b: 1 lines of code, its budget is 0",
        "services/c: a budget without code",
    ]


def test_functions_of_one_name_are_counted():
    sources = {
        "healer/a.py": "def run():\n    pass\n",
        "services/b/c.py": "class X:\n    async def run(self): ...\n    def __init__(self): ...\n",
    }
    assert count_functions(sources) == {"run": 2}


def make_graph(*arrows: tuple[str, str]) -> grimp.ImportGraph:
    graph = grimp.ImportGraph()
    for name in {name for arrow in arrows for name in arrow}:
        steps = name.split(".")
        for depth in range(1, len(steps) + 1):
            graph.add_module(".".join(steps[:depth]))
    for importer, imported in arrows:
        graph.add_import(importer=importer, imported=imported)
    return graph


def test_a_circle_of_folders_is_found_though_no_files_are_in_one():
    graph = make_graph(("a.b.x", "a.c.x"), ("a.c.y", "a.b.y"), ("a.b.x", "a.b.y"))
    assert list(find_folder_circles(graph, "a")) == ["a"]
    assert find_folder_circles(make_graph(("a.b.x", "a.c.x"), ("a.b.y", "a.c.x")), "a") == {}


def test_a_small_module_with_one_user_in_its_folder_is_found():
    graph = make_graph(("a.x", "a.y"), ("a.x", "a.z"), ("b.x", "a.z"), ("a.x", "a.long"), ("b.x", "a.far"))
    sources = {"a/y.py": "Y = 1\n", "a/z.py": "", "a/long.py": "X = 1\n" * 100, "a/far.py": ""}
    assert find_small_modules(graph, sources) == {"a.y": "a.x"}


def test_a_constructor_with_two_functions_is_found():
    text = """
Wake = Callable[[], None]
class One:
    def __init__(self, a: Callable[[], int], b: int): ...
class Two:
    def __init__(self, a: Callable[[], int] | None, *, wake: Wake | None = None): ...
@dataclass(frozen=True)
class Three:
    a: Callable[[], Awaitable[int]]
    b: Wake
    c: Wake
class Four:
    a: Wake
    b: Wake
"""
    assert find_callbacks({"a.py": text}) == {"a.py: Two": 2, "a.py: Three": 3}


@pytest.mark.parametrize(
    ("body", "said", "effect"),
    [
        ("path.unlink()", "Delete the file.", "deletes"),
        ("await bus.client.delete(key)", "Remove it.", "deletes"),
        ("hub.leave(one)", "Disconnect a slow follower.", "drops"),
        ("return [Grant(key)]", "Grant it to the service.", "grants"),
        ("os.kill(pid, 9)", "Kill the process.", "kills"),
        ("wait = self._limiter.take(key)", "Spend one request of the limit.", "spends"),
    ],
)
def test_a_function_that_does_not_say_what_it_does_to_the_world_is_found(body, said, effect):
    silent, speaking = f"def f():\n    {body}\n", f'def f():\n    """{said}"""\n    {body}\n'
    inner = f"def f():\n    def g():\n        '''{said}'''\n        {body}\n"
    assert effect in EFFECTS
    assert find_unsaid_effects({"a.py": "def f():\n    os.kill(pid, 0)\n"}) == {}, "it only asks"
    assert find_unsaid_effects({"a.py": silent}) == {"a.py:1 f": [effect]}
    assert find_unsaid_effects({"a.py": speaking}) == {}
    assert find_unsaid_effects({"a.py": inner}) == {}, "what a function in it does is its own"


@pytest.mark.slow
def test_the_report_has_all_of_it():
    text = "\n".join(report(read_product()))
    for part in (
        "lines of code",
        "arrows between folders",
        "functions of one name",
        "places of each mechanism",
    ):
        assert part in text
