"""Check corporate actions, and make one of each day and kind of what a source says of a share. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from math import prod
from typing import Final

from services.market.records import DAY_MS, ActionKind, CorporateAction

MIN_RATIO: Final = 1e-6
MAX_RATIO: Final = 1e6
MAX_AMOUNT: Final = 1e9
SAME_RATIO: Final = 1e-9
"""How far, as a share of it, a ratio may be from 1 and still be no split."""
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_DIGITS: Final = 9
"""How many digits of a product of amounts and ratios are more than an error of rounding."""


_GIVEN: Final = (frozenset({"new_symbol"}), frozenset({"new_symbol", "ratio"}))
_VALUES: Final[Mapping[ActionKind, tuple[frozenset[str], frozenset[str]]]] = {
    ActionKind.SPLIT: (frozenset({"ratio"}), frozenset({"ratio"})),
    ActionKind.DIVIDEND: (frozenset({"amount"}), frozenset({"amount"})),
    ActionKind.RENAME: (frozenset({"new_symbol"}), frozenset({"new_symbol"})),
    ActionKind.SPIN_OFF: _GIVEN,
    ActionKind.MERGER: (frozenset({"new_symbol", "amount"}), frozenset({"new_symbol", "amount", "ratio"})),
    ActionKind.RIGHTS: _GIVEN,
}
"""By kind: the values of which an action has one at least, and all that it may have."""


def find_action_fault(action: CorporateAction) -> str | None:
    """Return the field that is wrong, and why; None for an action with a value of its kind and no other."""
    values = {"ratio": action.ratio, "amount": action.amount, "new_symbol": action.new_symbol}
    found = {name for name, value in values.items() if value is not None}
    needed, allowed = _VALUES[action.kind]
    if not found & needed or not found <= allowed:
        return f"kind: a {action.kind} without its value, or with that of another kind"
    if action.ratio is not None and not MIN_RATIO <= action.ratio <= MAX_RATIO:
        return f"ratio: not from {MIN_RATIO:g} to {MAX_RATIO:g}"
    if action.kind is ActionKind.SPLIT and action.ratio is not None and is_no_split(action.ratio):
        return "ratio: 1, which is no split"
    if action.amount is not None and not 0 < action.amount <= MAX_AMOUNT:
        return f"amount: not above 0, or above {MAX_AMOUNT:g}"
    return "new_symbol: the old one" if action.new_symbol == action.symbol else None


def is_no_split(ratio: float) -> bool:
    return abs(ratio - 1) <= SAME_RATIO


def find_day_ms(day: date) -> int:
    """Return the midnight of UTC with which a day begins, in epoch milliseconds: it stands for an ex day."""
    return (day.toordinal() - _EPOCH_DAY) * DAY_MS


def find_day(at_ms: int) -> date:
    """Return the date in UTC of a time in epoch milliseconds."""
    return date.fromordinal(_EPOCH_DAY + at_ms // DAY_MS)


def merge_actions(actions: Iterable[CorporateAction]) -> list[CorporateAction]:
    """Return one action of each day and kind, by day and kind.

    Of several, equal ones count once, as sources repeat rows. Of those that differ the amounts of dividends
    are added (a regular one and a special one), the ratios of splits are multiplied, and of every other kind
    the last one counts. Splits that undo each other are none.
    """
    found: dict[tuple[date, ActionKind], dict[CorporateAction, None]] = {}
    for action in actions:
        found.setdefault((action.ex_day, action.kind), {})[action] = None
    merged = [_merge(list(found[key])) for key in sorted(found)]
    return [
        each
        for each in merged
        if each.kind is not ActionKind.SPLIT or each.ratio is None or not is_no_split(each.ratio)
    ]


def _merge(actions: Sequence[CorporateAction]) -> CorporateAction:
    last = actions[-1]
    if len(actions) == 1:
        return last
    if last.kind is ActionKind.DIVIDEND:
        return replace(last, amount=_round(sum(each.amount or 0.0 for each in actions)))
    if last.kind is ActionKind.SPLIT:
        return replace(last, ratio=_round(prod(each.ratio or 1.0 for each in actions)))
    return last


def restore_amounts(
    actions: Iterable[CorporateAction],
) -> tuple[list[CorporateAction], list[CorporateAction]]:
    """Return actions whose dividends are as they were paid, and those dividends for which that is unknown.

    `actions` are all of a share from some day until now, by a source that divides a dividend by the ratio of
    each later split. Of a dividend on the day of a split it is unknown whether the source has done so.
    """
    merged = merge_actions(actions)
    ratio, restored, unknown = 1.0, list[CorporateAction](), list[CorporateAction]()
    splits = {each.ex_day: each.ratio for each in merged if each.kind is ActionKind.SPLIT}
    for action in reversed(merged):  # of one day the dividend stands before the split
        if action.kind is ActionKind.SPLIT and action.ratio is not None:
            ratio *= action.ratio
            restored.append(action)
        elif action.kind is ActionKind.DIVIDEND and action.ex_day in splits:
            unknown.append(action)
        elif action.kind is ActionKind.DIVIDEND and action.amount is not None:
            restored.append(replace(action, amount=_round(action.amount * ratio)))
        else:
            restored.append(action)
    return restored[::-1], unknown[::-1]


def _round(number: float) -> float:
    return float(format(number, f".{_DIGITS}g"))
