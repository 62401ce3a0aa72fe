"""What corporate actions may be, and what becomes of several of one day."""

from datetime import date
from itertools import permutations

import pytest

from services.market.actions import find_action_fault, find_day, find_day_ms, merge_actions, restore_amounts
from services.market.records import ActionKind, CorporateAction

DAY = date(2020, 8, 31)
PAID = date(2020, 8, 7)


def split(ratio, day=DAY):
    return CorporateAction("AAPL", ActionKind.SPLIT, day, ratio=ratio)


def dividend(amount, day=PAID):
    return CorporateAction("AAPL", ActionKind.DIVIDEND, day, amount=amount)


def rename(new_symbol, day=DAY):
    return CorporateAction("AAPL", ActionKind.RENAME, day, new_symbol=new_symbol)


def given(kind, day=DAY, **values):
    return CorporateAction("AAPL", kind, day, **values)


@pytest.mark.parametrize(
    ("action", "fault"),
    [
        (split(4.0), None),
        (split(1e-6), None),
        (dividend(1e-9), None),
        (rename("APLE"), None),
        (split(0.0), "ratio"),
        (split(-4.0), "ratio"),
        (split(1.0), "ratio: 1"),
        (split(1.0000000001), "ratio: 1"),
        (split(1e-7), "ratio"),
        (split(2e6), "ratio"),
        (split(float("nan")), "ratio"),
        (split(float("inf")), "ratio"),
        (dividend(0.0), "amount"),
        (dividend(-0.5), "amount"),
        (dividend(float("nan")), "amount"),
        (dividend(2e9), "amount"),
        (rename("AAPL"), "new_symbol"),
        (split(None), "kind"),
        (dividend(None), "kind"),
        (rename(None), "kind"),
        (CorporateAction("AAPL", ActionKind.SPLIT, DAY, ratio=4.0, amount=0.5), "kind"),
        (CorporateAction("AAPL", ActionKind.RENAME, DAY, ratio=4.0), "kind"),
        (given(ActionKind.SPIN_OFF, new_symbol="SRM"), None),
        (given(ActionKind.SPIN_OFF, new_symbol="SRM", ratio=1.0), None),
        (given(ActionKind.SPIN_OFF, ratio=1.0), "kind"),
        (given(ActionKind.SPIN_OFF, new_symbol="SRM", amount=1.0), "kind"),
        (given(ActionKind.SPIN_OFF, new_symbol="SRM", ratio=0.0), "ratio"),
        (given(ActionKind.RIGHTS, new_symbol="AAPL.RT", ratio=0.5), None),
        (given(ActionKind.RIGHTS), "kind"),
        (given(ActionKind.MERGER, amount=12.5), None),
        (given(ActionKind.MERGER, amount=7.8, ratio=0.7733, new_symbol="FRBA"), None),
        (given(ActionKind.MERGER, ratio=0.7733), "kind"),
        (given(ActionKind.MERGER, amount=-1.0), "amount"),
        (given(ActionKind.MERGER, new_symbol="AAPL"), "new_symbol"),
    ],
)
def test_an_action_has_the_value_of_its_kind_within_bounds(action, fault):
    found = find_action_fault(action)
    assert found is None if fault is None else found.startswith(fault)


def test_a_day_is_the_midnight_of_utc_and_back():
    assert find_day_ms(date(1970, 1, 2)) == 86_400_000
    for day in (date(1800, 1, 1), date(1969, 12, 31), DAY, date(2099, 12, 31)):
        assert find_day(find_day_ms(day)) == find_day(find_day_ms(day) + 86_399_999) == day


def test_a_regular_and_a_special_dividend_of_one_day_are_one_of_both():
    regular, special = dividend(0.1), dividend(0.2)
    for order in permutations([regular, special, regular]):  # the last is a row that was sent twice
        assert merge_actions(order) == [dividend(0.3)]


def test_splits_of_one_day_are_one_and_those_that_undo_each_other_are_none():
    assert merge_actions([split(3.0), split(2.0)]) == [split(6.0)]
    assert merge_actions([split(0.001), split(1000.0)]) == []


def test_of_one_day_each_kind_stays_and_all_are_in_the_order_of_days():
    mixed = [split(4.0), dividend(0.82, DAY), rename("X"), rename("Y"), dividend(0.5)]
    assert merge_actions(mixed) == [dividend(0.5), dividend(0.82, DAY), rename("Y"), split(4.0)]


def test_what_was_paid_before_splits_is_restored_with_all_of_them():
    """Apple paid 0.82 before its split of 4 for 1, and 2.65 before that and one of 7 for 1."""
    adjusted = [
        dividend(0.094643, date(2012, 8, 9)),
        split(7.0, date(2014, 6, 9)),
        dividend(0.205),
        split(4.0),
        dividend(0.205, date(2020, 11, 6)),
        rename("APLE", date(2021, 1, 4)),
    ]
    for order in (adjusted, adjusted[::-1]):
        restored, unknown = restore_amounts(order)
        assert unknown == []
        assert [each.ex_day for each in restored] == sorted(each.ex_day for each in adjusted)
        assert [each.amount for each in restored if each.amount] == [2.650004, 0.82, 0.205]
        assert [each.ratio for each in restored if each.ratio] == [7.0, 4.0]


def test_a_reverse_split_is_restored_too():
    restored, _ = restore_amounts([dividend(1.0), split(0.1)])
    assert restored == [dividend(0.1), split(0.1)]


def test_of_a_dividend_on_the_day_of_a_split_it_is_unknown_what_was_paid():
    same_day = dividend(0.82, DAY)
    assert restore_amounts([same_day, split(4.0), dividend(0.2)]) == ([dividend(0.8), split(4.0)], [same_day])


def test_spin_offs_and_mergers_of_a_day_are_not_added_nor_do_they_restore_a_dividend():
    spin_offs = [given(ActionKind.SPIN_OFF, new_symbol=name, ratio=1.0) for name in ("SRM", "SRN")]
    assert merge_actions(spin_offs) == spin_offs[1:]
    later = given(ActionKind.SPIN_OFF, new_symbol="SRM", ratio=0.05)
    merger = given(ActionKind.MERGER, date(2021, 1, 4), amount=12.5, ratio=2.0, new_symbol="X")
    assert restore_amounts([dividend(0.5), later, merger]) == ([dividend(0.5), later, merger], [])
