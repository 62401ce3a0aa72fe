"""Play a file of bars with nautilus_trader, a program of its own: PYTHON bench/peers/nautilus.py FOLDER.

It imports nothing of ours and is never imported: PYTHON is that of an environment that has nautilus_trader
(LGPL-3.0). FOLDER has a `bars.csv` as docs/services/engine.md describes it, with one symbol. It prints the
bars, the seconds from the bars in memory to the last one, and how many orders were filled, as JSON. The rules
are those of `bench signals`: two averages of 50 and 200 closes, 100 shares while the fast one is above.
"""

# mypy: ignore-errors
# nautilus_trader is not installed where this is checked

import csv
import json
import sys
import time
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import Venue
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy

FAST, SLOW = 50, 200


class Crossing(Strategy):
    """Hold 100 shares while the fast average is above the slow one."""

    def __init__(self, bar_type: BarType, instrument: Equity) -> None:
        super().__init__()
        self.bar_type, self.instrument, self.closes = bar_type, instrument, []
        self.fast = self.slow = Decimal(0)
        self.is_long = False
        self.filled = 0

    def on_start(self) -> None:
        self.subscribe_bars(self.bar_type)

    def on_order_filled(self, _event: OrderFilled) -> None:
        self.filled += 1

    def on_bar(self, bar: Bar) -> None:
        close, number = bar.close.as_decimal(), len(self.closes)
        self.closes.append(close)
        self.fast += close
        self.slow += close
        if number >= FAST:
            self.fast -= self.closes[number - FAST]
        if number < SLOW:
            return
        self.slow -= self.closes[number - SLOW]
        wants = self.fast * SLOW > self.slow * FAST
        if wants != self.is_long:
            self.is_long = wants
            side = OrderSide.BUY if wants else OrderSide.SELL
            self.submit_order(self.order_factory.market(self.instrument.id, side, Quantity.from_int(100)))


def read_bars(path: Path, bar_type: BarType) -> list[Bar]:
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            end = round(datetime.fromisoformat(row["end"]).timestamp()) * 1_000_000_000
            prices = [Price(float(row[name]), 2) for name in ("open", "high", "low", "close")]
            found.append(Bar(bar_type, *prices, Quantity(float(row["volume"]), 0), end, end))
    return found


def main() -> None:
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    venue = Venue("XNAS")
    engine.add_venue(venue, OmsType.NETTING, AccountType.CASH, [Money(100_000, USD)], base_currency=USD)
    instrument = TestInstrumentProvider.equity("SPY", "XNAS")
    engine.add_instrument(instrument)
    bar_type = BarType.from_str(f"{instrument.id}-1-MINUTE-LAST-EXTERNAL")
    bars = read_bars(Path(sys.argv[1]) / "bars.csv", bar_type)
    engine.add_data(bars)
    strategy = Crossing(bar_type, instrument)
    engine.add_strategy(strategy)
    began = time.process_time()
    engine.run()
    took = time.process_time() - began
    sys.stdout.write(json.dumps({"bars": len(bars), "seconds": took, "filled": strategy.filled}) + "\n")


if __name__ == "__main__":
    main()
