"""Buy a symbol after some rising closes, with a stop below and a target above: orders, not targets."""

from services.signals.strategy import OrderRequest, Parameter
from services.signals.view import StrategyView

PARAMETERS = {
    "rising": Parameter(3, "closes in a row above the one before", 1, 100),
    "stop": Parameter(2.0, "percent below the last close at which it is sold at a loss", 0.1, 50),
    "target": Parameter(4.0, "percent above it at which it is sold with a gain", 0.1, 100),
    "percent": Parameter(50.0, "of the equity that is put in, of all symbols together", 1, 100),
}


def decide(view: StrategyView) -> list[OrderRequest]:
    """Return an entry with its two exits, of which the fill of one ends the other."""
    orders: list[OrderRequest] = []
    for symbol in view.closed:
        closes = view.closes(symbol, view["rising"] + 1)
        if view.position(symbol) or view.count_orders(symbol) or len(closes) <= view["rising"]:
            continue
        if (closes[1:] <= closes[:-1]).any():
            continue
        close = float(closes[-1])
        worth = float(view.equity) * view["percent"] / 100 / len(view.symbols)
        if (quantity := int(worth / close)) < 1:
            continue
        entry, group = f"entry {symbol} {view.at_ms}", f"exits {symbol} {view.at_ms}"
        stop, target = close * (1 - view["stop"] / 100), close * (1 + view["target"] / 100)
        orders += [
            OrderRequest(symbol, "buy", quantity, name=entry),
            OrderRequest(symbol, "sell", quantity, "stop", stop, parent=entry, oco=group),
            OrderRequest(symbol, "sell", quantity, "limit", target, parent=entry, oco=group),
        ]
    return orders
