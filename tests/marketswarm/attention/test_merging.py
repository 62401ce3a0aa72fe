"""Silences on several buses: the latest version counts, and a bus that was away is given it."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from marketswarm.attention import Silence, behind, merged

NOW = 1_762_433_458.0
ONE = Silence(
    id="one", starts_at=NOW, ends_at=NOW + 60, author="kim", reason="why", changed_at=NOW, services=("a",)
)
TWO = replace(ONE, id="two", starts_at=NOW - 5)
ENDED = ONE.ended(NOW + 10)


def held(*silences: Silence) -> dict[bytes, bytes]:
    return {each.id.encode(): each.encode() for each in silences}


def test_what_is_on_one_bus_alone_counts():
    assert merged([held(ONE), held(TWO)]) == {"two": TWO, "one": ONE}


def test_they_come_in_the_order_in_which_they_start():
    assert list(merged([held(ONE, TWO)])) == ["two", "one"]


def test_a_bus_that_missed_its_end_does_not_bring_a_silence_back():
    assert merged([held(ONE), held(ENDED)]) == merged([held(ENDED), held(ONE)]) == {"one": ENDED}


def test_of_two_that_changed_at_one_time_the_shorter_counts():
    longer = replace(ONE, ends_at=NOW + 99)
    assert merged([held(longer), held(ONE)]) == merged([held(ONE), held(longer)]) == {"one": ONE}


def test_what_is_no_silence_hides_no_other():
    another = replace(ONE, reason="not its own", changed_at=NOW + 1)
    rubbish = {b"x": b"{", b"two": another.encode(), b"\xff": b"\xff", b"one": ONE.encode()}
    assert merged([rubbish, {}]) == {"one": ONE}


def test_a_bus_is_given_what_it_lacks_and_what_it_has_in_an_older_version_or_as_rubbish():
    latest = merged([held(ENDED, TWO)])
    assert behind(held(ENDED, TWO), latest) == {}
    assert behind(held(ONE, TWO), latest) == {"one": ENDED.encode()}
    assert behind({b"one": b"?", b"two": TWO.encode()}, latest) == {"one": ENDED.encode()}
    assert behind({}, latest) == {"one": ENDED.encode(), "two": TWO.encode()}


versions = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["x", "y"])).map(
        lambda each: replace(ONE, changed_at=NOW + each[0], ends_at=NOW + 1 + each[1], reason=each[2])
    ),
    max_size=4,
)


@given(st.lists(versions, max_size=3))
def test_the_order_of_the_buses_does_not_matter(buses):
    hashes = [held(*each) for each in buses]
    assert merged(hashes) == merged(reversed(hashes))


@given(st.lists(versions, min_size=1, max_size=3))
def test_a_bus_that_was_given_what_it_lacked_is_not_behind(buses):
    hashes = [held(*each) for each in buses]
    latest = merged(hashes)
    for each in hashes:
        each |= {key.encode(): raw for key, raw in behind(each, latest).items()}
        assert behind(each, latest) == {}
        assert merged([each]) == latest
