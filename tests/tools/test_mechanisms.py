"""One of each: a mechanism lives in its home, and in the files that have a reason."""

import functools

import pytest

from tools.mechanisms import (
    PRODUCT,
    ROOT,
    count_functions,
    count_lines,
    find_homes,
    read_mechanisms,
    read_sources,
    report,
)

MECHANISMS = read_mechanisms()


@functools.cache
def read_product():
    return read_sources(ROOT, PRODUCT)


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=[each["what"] for each in MECHANISMS])
def test_a_mechanism_is_where_the_table_says_and_nowhere_else(mechanism):
    others = mechanism.get("others", {})
    assert set(find_homes(mechanism, read_product())) == {mechanism["home"], *others}
    assert all(len(reason) > 20 for reason in others.values())


def test_a_second_one_is_seen():
    mechanism = {"mark": r"\.xread\("}
    assert find_homes(mechanism, {"a.py": "bus.xread(x)", "b.py": "xread()", "c.py": "me.xread(y)"}) == [
        "a.py",
        "c.py",
    ]


def test_lines_and_functions_are_counted():
    sources = {
        "healer/a.py": "def run():\n    pass\n",
        "services/b/c.py": "class X:\n    async def run(self): ...\n    def __init__(self): ...\n",
        "services/b/d/e.py": "x = 1\n",
    }
    assert count_lines(sources) == {"healer": 2, "services/b": 4}
    assert count_functions(sources) == {"run": 2}
    assert any(line.startswith("functions of one name") for line in "\n".join(report(sources)).splitlines())
