"""Check a case by laws: change its input in twelve ways, and look whether what must follow does. Pure.

A backtest has no answer to compare with, but its answers to related questions must agree: without the future
the past is the same, twice the prices are twice the money. Where a change would move a rounding to cents,
both plays are without fees and borrowing, so what must follow is exact; only a value of a position
that was split 3 for 1 may differ by the unit by which the third of its price was rounded.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Final, NamedTuple

from services.signals.backtest import CaseResult, play_case
from services.signals.cases import BacktestCase, format_time
from services.signals.engine.orders import (
    AccountAction,
    CashDividend,
    FeeSchedule,
    Fill,
    Order,
    PriceBar,
    RefusalReason,
    ShareSplit,
    Side,
)

Play = Callable[[BacktestCase], CaseResult]
"""A function that plays a case: the engine, or a strategy over the bars of the case, without its orders."""
_HOUR_MS: Final = 3_600_000
_ZONE_MS: Final = 9 * _HOUR_MS
_MORE_FEE: Final = Fraction(1, 1000)


class Law(StrEnum):
    """Name the changes of the input; each has one thing that must follow."""

    FUTURE_CUT = "future_cut"
    """Without what comes after an instant, all until then is the same."""
    SYMBOLS_SHUFFLED = "symbols_shuffled"
    """Other names of the symbols in another order change nothing."""
    START_SHIFTED = "start_shifted"
    """Without the bars long before the first decision, the fills are the same."""
    PRICES_DOUBLED = "prices_doubled"
    """Twice the prices and the cash are the same fills at twice the price."""
    VOLUME_ZERO = "volume_zero"
    """Without volume nothing fills."""
    DATA_LATE = "data_late"
    """Decisions that are an hour late fill no earlier, and at prices that their bars have."""
    CURRENCY_SCALED = "currency_scaled"
    """In hundredths of the currency all money is a hundred times as much."""
    BARS_DOUBLED = "bars_doubled"
    """Bars that are there twice count once."""
    OTHER_ZONE = "other_zone"
    """Nine hours later all is the same, nine hours later."""
    HIGHER_FEE = "higher_fee"
    """A higher fee is never a better result of the same fills."""
    TIGHTER_LIMIT = "tighter_limit"
    """With half of the leverage, the first fill that differs is one that does not take place."""
    SPLIT_APPLIED = "split_applied"
    """A split, with the prices and orders after it, changes no money."""


class AuditCheck(NamedTuple):
    """Hold what came of one law: None where the case has nothing to which it applies."""

    law: Law
    holds: bool | None
    found: str


class Difference(Exception):  # noqa: N818 - it ends a comparison, and is no error of the program
    """What must follow does not; the text says what is there instead."""


class NotApplicable(Exception):  # noqa: N818 - the same
    """The case has nothing that this change would change."""


def audit_case(case: BacktestCase, play: Play = play_case, laws: Iterable[Law] = Law) -> list[AuditCheck]:
    """Change a case in each way, play it, and return which laws hold.

    Args:
        play: what is checked. A strategy decides anew on changed bars, so for it START_SHIFTED holds only
            with a memory of a bar, and SPLIT_APPLIED, SYMBOLS_SHUFFLED only if its view is adjusted.
    """
    whole = play(case)
    return [_check(law, case, whole, play) for law in laws]


def _check(law: Law, case: BacktestCase, whole: CaseResult, play: Play) -> AuditCheck:
    try:
        _LAWS[law](case, whole, play)
    except Difference as difference:
        return AuditCheck(law, holds=False, found=str(difference))
    except NotApplicable as why:
        return AuditCheck(law, holds=None, found=str(why))
    return AuditCheck(law, holds=True, found="")


# -- what must be the same


def _same(what: str, expected: Sequence[object], found: Sequence[object]) -> None:
    """Raise Difference with the first value that differs."""
    for number, (one, other) in enumerate(zip(expected, found, strict=False)):
        if one != other:
            raise Difference(f"{what} {number + 1}: {other} instead of {one}")
    if len(expected) != len(found):
        raise Difference(f"{len(found)} {what}s instead of {len(expected)}")


def _compare(whole: CaseResult, changed: CaseResult, *, times: int = 1, shift_ms: int = 0) -> None:
    """Raise Difference unless all is as in `whole`, with prices and money multiplied and times shifted."""
    fills = [
        each._replace(at_ms=each.at_ms + shift_ms, price=each.price * times, fee=each.fee * times)
        for each in whole.fills
    ]
    _same("fill", fills, changed.fills)
    refusals = [(each.order, each.at_ms + shift_ms, each.reason) for each in whole.refusals]
    _same("refusal", refusals, [(each.order, each.at_ms, each.reason) for each in changed.refusals])
    # the third of a price, after a split of 3 for 1, is rounded to a unit before it is multiplied or after
    slack = times * len({each.symbol for each in whole.fills}) if times > 1 else 0
    points = [(each.at_ms + shift_ms, each.cash * times, each.equity * times) for each in whole.equity]
    found = [
        (each.at_ms, each.cash, equity if abs(each.equity - equity) <= slack else each.equity)
        for each, (_, _, equity) in zip(changed.equity, points, strict=False)
    ]
    _same(
        "close",
        points,
        found + [(each.at_ms, each.cash, each.equity) for each in changed.equity[len(points) :]],
    )


# -- changes of a case


def _without_costs(case: BacktestCase) -> BacktestCase:
    """Return a case without what is rounded to cents: fees, borrowing, parts of a share in a split."""
    return replace(
        case,
        account=case.account.model_copy(update={"borrow_rate": Decimal(0)}),
        instruments={symbol: replace(each, fee=FeeSchedule()) for symbol, each in case.instruments.items()},
        actions=[
            each for each in case.actions if not isinstance(each, ShareSplit) or each.new % each.old == 0
        ],
    )


def _scale(case: BacktestCase, times: int) -> BacktestCase:
    """Return a case whose prices and money are multiplied."""
    return replace(
        case,
        account=case.account.model_copy(update={"cash": case.account.cash * times}),
        instruments={
            symbol: replace(each, tick=each.tick * times) for symbol, each in case.instruments.items()
        },
        bars=[_scale_bar(bar, Fraction(times)) for bar in case.bars],
        orders=[_scale_order(order, Fraction(times)) for order in case.orders],
        actions=[
            replace(each, per_share=each.per_share * times) if isinstance(each, CashDividend) else each
            for each in case.actions
        ],
    )


def _scale_bar(bar: PriceBar, times: Fraction) -> PriceBar:
    opened, high, low, close = (_whole(each * times) for each in (bar.open, bar.high, bar.low, bar.close))
    return replace(bar, open=opened, high=high, low=low, close=close)


def _scale_order(order: Order, times: Fraction) -> Order:
    return order if order.price is None else replace(order, price=_whole(order.price * times))


def _whole(price: Fraction) -> int:
    if price.denominator != 1:
        raise NotApplicable("a price has too many decimals")
    return price.numerator


def _shift_order(order: Order, by_ms: int) -> Order:
    expires_ms = None if order.expires_ms is None else order.expires_ms + by_ms
    return replace(order, decided_ms=order.decided_ms + by_ms, expires_ms=expires_ms)


def _find_quiet_instant(case: BacktestCase) -> int:
    """Return a close, of those at which no bar is open the one in the middle."""
    spans = sorted((bar.start_ms, bar.end_ms) for bar in case.bars)
    quiet: list[int] = []
    latest = None
    for start_ms, end_ms in spans:
        if latest is not None and start_ms >= latest:
            quiet.append(latest)
        latest = end_ms if latest is None else max(latest, end_ms)
    if not quiet:
        raise NotApplicable("there is no close at which no bar is open")
    return quiet[len(quiet) // 2]


# -- the laws


def _cut_future(case: BacktestCase, whole: CaseResult, play: Play) -> None:
    at_ms = _find_quiet_instant(case)
    cut = play(
        replace(
            case,
            bars=[bar for bar in case.bars if bar.end_ms <= at_ms],
            orders=[order for order in case.orders if order.decided_ms <= at_ms],
            actions=[action for action in case.actions if action.at_ms <= at_ms],
        )
    )
    _same(
        f"fill before {format_time(at_ms)}",
        *([each for each in one.fills if each.at_ms < at_ms] for one in (whole, cut)),
    )
    _same("refusal", *([each for each in one.refusals if each.at_ms < at_ms] for one in (whole, cut)))
    _same("close", *([each for each in one.equity if each.at_ms <= at_ms] for one in (whole, cut)))


def _shuffle_symbols(case: BacktestCase, whole: CaseResult, play: Play) -> None:
    names = sorted(case.instruments)
    others = {name: f"S{len(names) - number:06}" for number, name in enumerate(names)}
    bars: list[PriceBar] = []
    for name in reversed(names):
        bars += [replace(bar, symbol=others[name]) for bar in case.bars if bar.symbol == name]
    changed = play(
        replace(
            case,
            instruments={others[name]: case.instruments[name] for name in reversed(names)},
            bars=bars,
            orders=[replace(order, symbol=others[order.symbol]) for order in case.orders],
            actions=[replace(action, symbol=others[action.symbol]) for action in case.actions],
        )
    )
    renamed = [each._replace(symbol=others[each.symbol]) for each in whole.fills]
    _compare(replace(whole, fills=renamed), changed)


def _shift_start(case: BacktestCase, whole: CaseResult, play: Play) -> None:
    if not case.orders:
        raise NotApplicable("there are no orders")
    first_ms = min(order.decided_ms for order in case.orders)
    last: dict[str, int] = {}
    for bar in case.bars:
        if bar.end_ms <= first_ms and bar.volume != 0:  # without volume a bar gives no close
            last[bar.symbol] = max(last.get(bar.symbol, 0), bar.end_ms)
    bars = [bar for bar in case.bars if bar.end_ms >= last.get(bar.symbol, 0)]
    if len(bars) == len(case.bars):
        raise NotApplicable("no bar is long before the first decision")
    # a split that long ago would change the only bar that is left
    actions = [each for each in case.actions if each.at_ms >= last.get(each.symbol, each.at_ms)]
    changed = play(replace(case, bars=bars, actions=actions))
    ends = {bar.end_ms for bar in bars}
    _compare(replace(whole, equity=[each for each in whole.equity if each.at_ms in ends]), changed)


def _double_prices(case: BacktestCase, _: CaseResult, play: Play) -> None:
    plain = _without_costs(case)
    _compare(play(plain), play(_scale(plain, 2)), times=2)


def _scale_currency(case: BacktestCase, _: CaseResult, play: Play) -> None:
    plain = _without_costs(case)
    _compare(play(plain), play(_scale(plain, 100)), times=100)


def _empty_volume(case: BacktestCase, _: CaseResult, play: Play) -> None:
    changed = play(replace(case, bars=[replace(bar, volume=0) for bar in case.bars]))
    if changed.fills:
        raise Difference(f"{changed.fills[0]} in a bar without volume")
    start = changed.state.ledger.start
    _same("close", [start] * len(changed.equity), [each.equity for each in changed.equity])
    known = (RefusalReason.EXPIRED, RefusalReason.BELOW_LOT)
    if other := next((each for each in changed.refusals if each.reason not in known), None):
        raise Difference(f"{other} though nothing could fill")


def _delay_data(case: BacktestCase, _: CaseResult, play: Play) -> None:
    orders = [replace(order, decided_ms=order.decided_ms + _HOUR_MS) for order in case.orders]
    changed = play(replace(case, orders=orders))
    bars = {(bar.symbol, bar.start_ms): bar for bar in case.bars}
    decided = {order.id: order.decided_ms for order in orders}
    for each in changed.fills:
        bar = bars.get((each.symbol, each.at_ms))
        if bar is None or each.at_ms < decided.get(each.order, each.at_ms):
            raise Difference(f"{each} before its decision")
        if not bar.low <= each.price <= bar.high:
            raise Difference(f"{each} at a price that its bar does not have")


def _double_bars(case: BacktestCase, whole: CaseResult, play: Play) -> None:
    _compare(whole, play(replace(case, bars=[bar for bar in case.bars for _ in range(2)])))


def _change_zone(case: BacktestCase, _: CaseResult, play: Play) -> None:
    plain = _without_costs(case)
    shifted = replace(
        plain,
        bars=[
            replace(bar, start_ms=bar.start_ms + _ZONE_MS, end_ms=bar.end_ms + _ZONE_MS) for bar in plain.bars
        ],
        orders=[_shift_order(order, _ZONE_MS) for order in plain.orders],
        actions=[replace(action, at_ms=action.at_ms + _ZONE_MS) for action in plain.actions],
    )
    _compare(play(plain), play(shifted), shift_ms=_ZONE_MS)


def _raise_fee(case: BacktestCase, whole: CaseResult, play: Play) -> None:
    instruments = {
        symbol: replace(each, fee=replace(each.fee, rate=each.fee.rate + _MORE_FEE))
        for symbol, each in case.instruments.items()
    }
    changed = play(replace(case, instruments=instruments))
    if not whole.fills or [_trade(each) for each in whole.fills] != [_trade(each) for each in changed.fills]:
        raise NotApplicable("the fills are not the same with a higher fee")
    before, after = whole.state.ledger, changed.state.ledger
    if after.equity > before.equity or after.fees < before.fees:
        raise Difference("a better result with a higher fee")


def _tighten_limit(case: BacktestCase, _: CaseResult, play: Play) -> None:
    leverage = case.account.leverage
    loose, tight = (
        play(replace(case, account=case.account.model_copy(update={"type": "margin", "leverage": each})))
        for each in (leverage * 2, leverage)
    )
    for wide, narrow in _pair(loose.fills, tight.fills):
        if narrow is not None and wide is not None and _trade(wide) == _trade(narrow):
            continue
        missing = wide is not None and any(
            each.order == wide.order and each.reason is RefusalReason.NO_MARGIN for each in tight.refusals
        )
        if not missing:
            raise Difference(f"{narrow} with the tighter limit, {wide} with the looser one")
        return


def _pair(one: Sequence[Fill], other: Sequence[Fill]) -> Iterator[tuple[Fill | None, Fill | None]]:
    for number in range(max(len(one), len(other))):
        yield (
            one[number] if number < len(one) else None,
            other[number] if number < len(other) else None,
        )


def _trade(each: Fill) -> tuple[str, int, Side, int, int]:
    return each.order, each.at_ms, each.side, each.quantity, each.price


def _apply_split(case: BacktestCase, _: CaseResult, play: Play) -> None:
    at_ms = _find_quiet_instant(case)
    plain = _without_lots(_without_costs(case))
    symbol = next(iter(sorted({bar.symbol for bar in plain.bars})))
    half = Fraction(1, 2)

    def split_order(order: Order) -> Order:
        if order.symbol != symbol or order.decided_ms <= at_ms or order.quantity is None:
            return order
        return replace(_scale_order(order, half), quantity=order.quantity * 2)

    def split_action(action: AccountAction) -> AccountAction:
        if action.symbol != symbol or action.at_ms < at_ms or not isinstance(action, CashDividend):
            return action
        return replace(action, per_share=_whole(action.per_share * half))

    split = replace(
        plain,
        bars=[
            _scale_bar(bar, half) if bar.symbol == symbol and bar.start_ms >= at_ms else bar
            for bar in plain.bars
        ],
        orders=[split_order(order) for order in plain.orders],
        actions=[ShareSplit(symbol, at_ms, 2, 1), *map(split_action, plain.actions)],
    )
    whole = play(plain)
    fills = [
        each._replace(quantity=each.quantity * 2, price=_whole(each.price * half))
        if each.symbol == symbol and each.at_ms >= at_ms
        else each
        for each in whole.fills
    ]
    _compare(replace(whole, fills=fills), play(split))


def _without_lots(case: BacktestCase) -> BacktestCase:
    """Return a case in which nothing is rounded to lots or ticks: without targets, and any volume is ours."""
    gone = {order.id for order in case.orders if order.target is not None}
    orders = [order for order in case.orders if order.id not in gone]
    while lost := {order.id for order in orders if order.parent in gone}:
        gone |= lost
        orders = [order for order in orders if order.id not in gone]
    return replace(
        case,
        account=case.account.model_copy(update={"volume_share": None}),
        instruments={symbol: replace(each, tick=1) for symbol, each in case.instruments.items()},
        orders=orders,
    )


_LAWS: Final[dict[Law, Callable[[BacktestCase, CaseResult, Play], None]]] = {
    Law.FUTURE_CUT: _cut_future,
    Law.SYMBOLS_SHUFFLED: _shuffle_symbols,
    Law.START_SHIFTED: _shift_start,
    Law.PRICES_DOUBLED: _double_prices,
    Law.VOLUME_ZERO: _empty_volume,
    Law.DATA_LATE: _delay_data,
    Law.CURRENCY_SCALED: _scale_currency,
    Law.BARS_DOUBLED: _double_bars,
    Law.OTHER_ZONE: _change_zone,
    Law.HIGHER_FEE: _raise_fee,
    Law.TIGHTER_LIMIT: _tighten_limit,
    Law.SPLIT_APPLIED: _apply_split,
}
