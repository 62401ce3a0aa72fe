import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.board.market.cascade import find_fallbacks, is_fallback, list_skipped, sort_series, view_sources
from services.board.market.states import (
    BREAKER_FIELDS,
    StoredSeries,
    StoredSource,
    add_breakers,
    list_observations,
    parse_breaker,
)

NOW = 1_800_000_000.0


def series(name, serving, **attempts):
    tried = {each: {"verdict": verdict, "retry_at": NOW + 60} for each, verdict in attempts.items()}
    state = {"id": name, "symbol": name, "from": ["a", "b", "c"], "serving": serving, "attempts": tried}
    return StoredSeries.model_validate(state)


def breaker(**fields):
    return parse_breaker([str(fields[name]).encode() if name in fields else None for name in BREAKER_FIELDS])


def look(one, *several):
    (view,) = view_sources([one], several, NOW)
    return view.mark, view.word, view.again_at


def test_a_source_that_an_operator_pauses_is_paused_whatever_it_answered_before():
    ms = int(1000 * NOW)
    up = StoredSource(name="a", state="up", asked_at=NOW)
    assert look(up) == ("up", "up", None)
    assert look(up.model_copy(update={"breaker": breaker(paused=-1)})) == ("silent", "paused", None)
    timed = up.model_copy(update={"breaker": breaker(paused=ms + 90_000)})
    assert look(timed) == ("silent", "paused", NOW + 90)
    assert look(up.model_copy(update={"breaker": breaker(paused=ms - 1)})) == ("up", "up", None), "it is over"


def test_a_source_that_failed_waits_for_its_breaker():
    ms = int(1000 * NOW)
    down = StoredSource(name="a", state="down", asked_at=NOW, outcome="failed", reason="502")
    one = down.model_copy(update={"breaker": breaker(failures=4, opened=ms - 5000, open_ms=20_000)})
    (view,) = view_sources([one], (), NOW)
    assert (view.word, view.again_at, view.note) == ("breaker open", NOW + 15, "4 failures in a row: 502")
    few = down.model_copy(update={"breaker": breaker(failures=2)})
    (view,) = view_sources([few], (), NOW)
    assert (view.word, view.note) == ("down", "failed: 502"), "two failures do not open it"


def test_a_source_whose_limit_is_used_up_says_when_it_is_asked_again():
    up = StoredSource(name="a", state="up", asked_at=NOW)
    assert look(up, series("x", "b", a="limited")) == ("silent", "limited", NOW + 60)
    assert look(StoredSource(name="a")) == ("unknown", "not asked yet", None)


def test_a_source_that_serves_a_series_from_a_recording_is_a_replay_whatever_its_name():
    played = series("x", "a").model_copy(update={"replay": True})
    views = view_sources([StoredSource(name="a"), StoredSource(name="b")], [played, series("y", "b")], NOW)
    assert [view.is_replay for view in views] == [True, False]


def test_each_source_has_the_number_of_series_that_it_serves():
    sources = add_breakers([StoredSource(name="a")], {"a": None, "c": None, "b": None})
    views = view_sources(sources, [series("x", "a"), series("y", "b"), series("z", None)], NOW)
    assert [(one.source.name, one.serves, one.named) for one in views] == [
        ("a", 1, 3), ("b", 1, 3), ("c", 0, 3),
    ]  # fmt: skip


def test_a_fallback_is_explained_by_every_source_before_it():
    third, second, first, nobody = (
        series("x", "c", a="paused", b="late"),
        series("y", "b", a="paused"),
        series("z", "a"),
        series("w", None, a="failed"),
    )
    assert [is_fallback(one) for one in (third, second, first, nobody)] == [True, True, False, False]
    assert list_skipped(third) == ("a", "b")
    found = find_fallbacks([first, second, third, nobody])
    assert [(one.source, one.verdict, one.series) for one in found] == [("a", "paused", 2), ("b", "late", 1)]
    assert [one.id for one in sort_series([first, second, nobody, third])] == ["w", "y", "x", "z"]


@given(st.lists(st.none() | st.binary(max_size=20), min_size=4, max_size=4))
def test_any_breaker_is_read_without_an_accident(raw):
    found = parse_breaker(raw)
    assert (found is None) == all(value is None for value in raw)
    source = StoredSource(name="a", asked_at=1.0, breaker=found)
    view_sources([source], (), NOW)


@pytest.mark.parametrize("text", [b"1e9", b"--1", b"9" * 30, b"", b"nan"])
def test_a_number_that_is_none_counts_as_none(text):
    assert parse_breaker([None, None, None, text]) == parse_breaker([b"0", None, None, None])


def test_the_economy_has_the_observations_of_any_group_each_once():
    def make(name, kind, group):
        return StoredSeries.model_validate({"id": name + kind, "symbol": name, "kind": kind, "group": group})

    some = [
        make("US.10Y", "observations", "treasuries"),
        make("CPI", "observations", "economy"),
        make("SPY", "bars", "indices"),
    ]
    assert [one.symbol for one in list_observations([*some, *some])] == ["US.10Y", "CPI"]
