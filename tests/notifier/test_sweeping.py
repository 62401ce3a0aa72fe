"""Silences of several buses are one set, and each bus gets what it lacks."""

from marketswarm.attention import Silence
from notifier.sweeping import Silences


def silence(ident="q1", changed_at=10.0, ends_at=100.0):
    return Silence(
        id=ident,
        starts_at=0.0,
        ends_at=ends_at,
        author="ops",
        reason="move",
        changed_at=changed_at,
        services=("a",),
    )


def held(*silences):
    return {each.id.encode(): each.encode() for each in silences}


def test_a_bus_is_told_what_it_lacks_and_changes_are_told_once():
    told = []
    silences = Silences(told.append)
    one = silence()
    assert silences.saw("a", held(one)) == {}
    assert silences.saw("b", {}) == {"q1": one.encode()}
    assert told == [[one]]
    assert silences.saw("b", held(one)) == {}
    assert told == [[one]]


def test_the_later_version_counts():
    told = []
    silences = Silences(told.append)
    old, new = silence(), silence(changed_at=20.0, ends_at=50.0)
    silences.saw("a", held(old))
    assert silences.saw("b", held(new)) == {}
    assert told[-1] == [new]
    assert silences.saw("a", held(old)) == {"q1": new.encode()}


def test_a_silence_that_no_bus_holds_any_more_is_gone_and_one_that_was_seen_once_counts():
    told = []
    silences = Silences(told.append)
    silences.saw("a", held(silence("q1")))
    silences.saw("b", held(silence("q2")))
    silences.saw("b", {})
    assert [each.id for each in told[-1]] == ["q1"]
