"""Buy all symbols in equal parts at the beginning, and keep them."""

from services.signals.strategy import Parameter
from services.signals.view import StrategyView

PARAMETERS = {
    "percent": Parameter(95.0, "of the equity that is put in, of all symbols together", 1, 100),
}


def decide(view: StrategyView) -> dict[str, float]:
    """Return a target for each symbol that is not held: one that was refused is tried again."""
    share = view["percent"] / len(view.symbols)
    return {symbol: share for symbol in view.closed if not view.position(symbol)}
