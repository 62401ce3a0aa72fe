"""One of each: a mechanism lives in its home, and in the files that have a reason."""

import functools

import pytest

from tools.count import PRODUCT, ROOT, find_homes, read_mechanisms, read_sources

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
