"""Which actions of an answer are published, and which that were published are withdrawn."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.actions import find_day_ms
from services.market.records import DAY_MS, ActionKind, AssetClass, CorporateAction, RecordKind
from services.sources.cascade.published_actions import choose_actions, encode_identity, parse_bucket
from services.sources.cascade.series import Series
from services.sources.cascade.state import WAITING, Attempt, SeriesState, SourceFinding, SourceVerdict
from services.sources.catalog.answer import AnswerStatus, Misfit, SourceAnswer

SERIES = Series(
    "AAPL", RecordKind.ACTIONS, "", AssetClass.STOCKS, "XNYS", ("massive", "yahoo"), 172_800.0, 7305.0
)
FIRST = date(2020, 1, 1)


def dividend(number, amount=0.5):
    return CorporateAction("AAPL", ActionKind.DIVIDEND, FIRST + timedelta(days=90 * number), amount=amount)


def key_of(action):
    return action.ex_day, action.kind


def served_by(source, *actions, since=FIRST, **more):
    since_ms = None if since is None else find_day_ms(since)
    answer = SourceAnswer(source, AnswerStatus.OK, records=actions, since_ms=since_ms, **more)
    return SourceFinding(source, SourceVerdict.FRESH, records=actions, answer=answer)


def published_by(source, *numbers):
    return {key_of(dividend(number)): source for number in numbers}


def withdrawn_of(chosen):
    return [(each.ex_day - FIRST).days // 90 for each in chosen.withdrawn]


def test_what_an_answer_does_not_name_any_more_is_withdrawn():
    served = served_by("massive", *map(dividend, (0, 1, 3, 4, 5)))
    chosen = choose_actions(SERIES, WAITING, served, published_by("massive", 0, 1, 2, 3, 4))
    assert (chosen.records, withdrawn_of(chosen), chosen.unexplained) == (served.records, [2], 0)
    assert chosen.withdrawn[0].amount is None


@pytest.mark.parametrize("named", [(), (0, 1)])
def test_an_answer_that_lacks_most_of_what_is_known_withdraws_nothing(named):
    served = served_by("massive", *map(dividend, named))
    chosen = choose_actions(SERIES, WAITING, served, published_by("massive", 0, 1, 2, 3, 4))
    assert (withdrawn_of(chosen), chosen.unexplained) == ([], 5 - len(named))


@pytest.mark.parametrize(
    "served",
    [
        served_by("massive", *map(dividend, (0, 1, 3)), misfits=(Misfit(2, "amount", "is not a number"),)),
        served_by("massive", *map(dividend, (0, 1, 3)), since=None),
        served_by("massive", *map(dividend, (0, 1, 3)), lacks_optional=True),
        served_by("massive", dividend(3), since=FIRST + timedelta(days=200)),  # after the third
    ],
)
def test_an_answer_that_is_not_whole_withdraws_nothing_of_what_it_may_lack(served):
    chosen = choose_actions(SERIES, WAITING, served, published_by("massive", 0, 1, 2, 3))
    assert (withdrawn_of(chosen), chosen.unexplained) == ([], 0)
    assert chosen.records == served.records


def test_what_a_later_source_dated_otherwise_is_withdrawn_by_the_one_before_it():
    published = published_by("massive", 0, 1, 2) | {(date(2020, 1, 2), ActionKind.DIVIDEND): "yahoo"}
    chosen = choose_actions(SERIES, WAITING, served_by("massive", *map(dividend, (0, 1, 2))), published)
    assert [each.ex_day for each in chosen.withdrawn] == [date(2020, 1, 2)]
    published = published_by("yahoo", 0, 1, 2) | published_by("", 3)  # the last is of a source that is gone
    chosen = choose_actions(SERIES, WAITING, served_by("massive", dividend(9)), published)
    assert (withdrawn_of(chosen), chosen.unexplained) == ([0, 1, 2, 3], 0)
    chosen = choose_actions(SERIES, WAITING, served_by("massive"), published)
    assert (withdrawn_of(chosen), chosen.unexplained) == ([], 4)


def test_a_later_source_adds_only_what_came_after_the_last_answer_of_one_before_it():
    settled = dividend(2).ex_day
    attempt = Attempt(SourceVerdict.FAILED, newest_ms=find_day_ms(settled) + DAY_MS // 2)
    state = SeriesState(attempts={"massive": attempt})
    served = served_by("yahoo", *map(dividend, (0, 1, 2, 3)))
    chosen = choose_actions(SERIES, state, served, published_by("massive", 0, 1))
    assert chosen.records == (dividend(2), dividend(3))
    assert withdrawn_of(chosen) == []
    assert choose_actions(SERIES, WAITING, served, {}).records == served.records


@given(st.dates(date(1800, 1, 1), date(2099, 12, 31)), st.sampled_from(ActionKind))
def test_what_is_stored_of_an_action_is_read_back(day, kind):
    width_ms = 256 * 30 * DAY_MS
    action = CorporateAction("AAPL", kind, day)
    name = str(find_day_ms(day) // width_ms).encode()
    stored = f"junk;{encode_identity(action, width_ms)}|YWJj|ZGln;0|;|;".encode()
    assert list(parse_bucket(name, stored, width_ms)) == [((day, kind), "YWJj", "ZGln")]
    assert list(parse_bucket(b"x", stored, width_ms)) == []


@pytest.mark.parametrize(
    "kind", [ActionKind.RENAME, ActionKind.SPIN_OFF, ActionKind.MERGER, ActionKind.RIGHTS]
)
def test_a_source_that_has_no_such_kind_withdraws_none_that_a_source_after_it_named(kind):
    published = published_by("massive", 0, 1, 2) | {(dividend(1).ex_day, kind): "yahoo"}
    chosen = choose_actions(SERIES, WAITING, served_by("massive", *map(dividend, (0, 1, 2))), published)
    assert chosen.withdrawn == ()
    own = published_by("massive", 0, 1, 2) | {(dividend(1).ex_day, kind): "massive"}
    chosen = choose_actions(SERIES, WAITING, served_by("massive", *map(dividend, (0, 1, 2))), own)
    assert [each.kind for each in chosen.withdrawn] == [kind], "its own it has taken back"
