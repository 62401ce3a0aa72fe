"""Hold a symbol while its fast moving average is above the slow one."""

from services.signals.strategy import Parameter
from services.signals.view import StrategyView

PARAMETERS = {
    "fast": Parameter(20, "bars of the fast average", 1, 1000),
    "slow": Parameter(100, "bars of the slow average", 2, 1000),
    "percent": Parameter(95.0, "of the equity that is put in, of all symbols together", 1, 100),
}


def decide(view: StrategyView) -> dict[str, float]:
    """Return the full target where the averages have crossed upwards, and 0 where downwards."""
    fast, slow = view["fast"], view["slow"]
    if fast >= slow:
        raise ValueError("fast must be below slow")
    share = view["percent"] / len(view.symbols)
    targets = {}
    for symbol in view.closed:
        closes = view.closes(symbol, slow)
        if len(closes) < slow:
            continue
        is_rising = closes[-fast:].mean() > closes.mean()
        if is_rising != bool(view.position(symbol)):
            targets[symbol] = share if is_rising else 0.0
    return targets
