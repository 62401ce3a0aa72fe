"""Buy a symbol that closed far below its average, and sell it once it is back there."""

from services.signals.strategy import Parameter
from services.signals.view import StrategyView

PARAMETERS = {
    "bars": Parameter(20, "bars of the average, and of the deviation from it", 3, 1000),
    "deviations": Parameter(2.0, "how many deviations below the average it is bought", 0.1, 10),
    "percent": Parameter(95.0, "of the equity that is put in, of all symbols together", 1, 100),
}


def decide(view: StrategyView) -> dict[str, float]:
    """Return the full target of a symbol that fell far, and 0 for one that is back at its average."""
    count = view["bars"]
    share = view["percent"] / len(view.symbols)
    targets = {}
    for symbol in view.closed:
        closes = view.closes(symbol, count)
        if len(closes) < count:
            continue
        average, deviation = closes.mean(), closes.std(ddof=1)
        is_held = bool(view.position(symbol))
        if not is_held and closes[-1] < average - view["deviations"] * deviation:
            targets[symbol] = share
        elif is_held and closes[-1] >= average:
            targets[symbol] = 0.0
    return targets
