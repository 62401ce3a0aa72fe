"""Buy a symbol that closes above its highest high of some bars, and sell it below its lowest low of fewer."""

from services.signals.strategy import Parameter
from services.signals.view import StrategyView

PARAMETERS = {
    "entry": Parameter(55, "bars whose highest high is to be exceeded", 2, 1000),
    "exit": Parameter(20, "bars whose lowest low ends it", 2, 1000),
    "percent": Parameter(95.0, "of the equity that is put in, of all symbols together", 1, 100),
}


def decide(view: StrategyView) -> dict[str, float]:
    """Return the full target of a symbol that broke out, and 0 for one that broke down."""
    entry, leave = view["entry"], view["exit"]
    share = view["percent"] / len(view.symbols)
    targets = {}
    for symbol in view.closed:
        bars = view.bars(symbol, max(entry, leave) + 1)
        if len(bars.close) <= entry:
            continue
        close, is_held = bars.close[-1], bool(view.position(symbol))
        if not is_held and close > bars.high[-1 - entry : -1].max():
            targets[symbol] = share
        elif is_held and close < bars.low[-1 - leave : -1].min():
            targets[symbol] = 0.0
    return targets
