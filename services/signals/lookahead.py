"""Check a run of a strategy: that it doesn't look ahead, and that what must follow from its orders does."""

from services.signals.audit import AuditCheck, Law, audit_case
from services.signals.cases import format_time
from services.signals.history import BacktestHistory
from services.signals.report import BacktestReport, BacktestRequest
from services.signals.run import make_case, run_backtest
from services.signals.strategy import Strategy


def audit_run(request: BacktestRequest, history: BacktestHistory, strategy: Strategy) -> list[AuditCheck]:
    """Return which laws hold of a run: for the future that is cut off the strategy decides anew.

    The other changes are of the bars and the orders that it decided: a strategy may rightly decide otherwise
    on other bars. Raises what `run_backtest` raises.
    """
    ahead = find_lookahead(request, history, strategy)
    return [
        each._replace(holds=False, found=ahead) if each.law is Law.FUTURE_CUT and ahead else each
        for each in audit_case(make_case(request, history, strategy))
    ]


def find_lookahead(
    request: BacktestRequest, history: BacktestHistory, strategy: Strategy | None = None, *, cuts: int = 5
) -> str | None:
    """Return what changed before an instant once all after it was cut off, None if nothing did.

    The history is cut at `cuts` closes, evenly spaced. A view has nothing of later, so what is found comes
    from elsewhere: a file that the strategy reads, chance, or what it kept from another run. Raises what
    `run_backtest` raises.
    """
    whole = run_backtest(request, history, strategy=strategy)
    closes = _list_closes(request, history)
    for number in range(1, cuts + 1):
        at_ms = closes[number * (len(closes) - 1) // (cuts + 1)]
        past = {symbol: each.cut(at_ms) for symbol, each in history.symbols.items()}
        cut = run_backtest(request, BacktestHistory(past, history.source), strategy=strategy)
        if (found := _find_change(whole, cut)) is not None:
            return f"with everything after {format_time(at_ms)} cut off, {found}"
    return None


def _list_closes(request: BacktestRequest, history: BacktestHistory) -> list[int]:
    """Return the closes from the first one on that each symbol has."""
    first, last = request.first_day.toordinal(), request.last_day.toordinal()
    found: list[list[int]] = []
    for symbol in request.symbols:
        each = history.symbols[symbol]
        days = zip(each.bars, each.days, strict=True)
        found.append([bar.end_ms for bar, day in days if first <= day <= last])
    begins = max(ends[0] for ends in found)
    return sorted({end_ms for ends in found for end_ms in ends if end_ms >= begins})


def _find_change(whole: BacktestReport, cut: BacktestReport) -> str | None:
    points = {each.at: (each.equity, each.cash) for each in whole.points}
    for each in cut.points:
        if points.get(each.at, (each.equity, each.cash)) != (each.equity, each.cash):
            return f"the account of {each.at} is another one"
    fills = set(whole.fills)
    other = next((each for each in cut.fills if each not in fills), None)
    return None if other is None else f"{other.symbol} has another fill at {other.at}"
