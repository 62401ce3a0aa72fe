"""Measure the engine of backtests against a bare loop over the same file of bars.

The file is in the neutral form of docs/services/engine.md, with one symbol. The bare loop is what a person
writes for one strategy: two running sums and a ledger of a few whole numbers, without orders, checks or a
record of fills. The engine plays the same bars with all its checks, and its rules have running sums as the
bare loop has them. All are timed in turn, in the processor time of one process, from the bars in memory to
the last close; the median round of each counts. `first` is from the start of a process to its first answer:
it reads, checks and plays 10,000 bars.
"""

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench.figures import Pair, Sample
from bench.programs import ROOT, WITHIN_SEC, answer, read_result
from services.signals.cases import format_time, read_case
from services.signals.engine.engine import EngineEvent, OrdersDecided, open_account, play_series
from services.signals.engine.orders import (
    AccountRules,
    FeeSchedule,
    Fill,
    Instrument,
    Order,
    OrderRefusal,
    OrderType,
    PriceBar,
    Side,
)
from services.signals.engine.units import MONEY, PRICE, QUANTITY

BARS: Final = 100_000
FIRST_BARS: Final = 10_000
ROUNDS: Final = 7
START_MS: Final = 1_767_571_200_000
MINUTE_MS: Final = 60_000
TWO: Final = (50, 200)
FIVE: Final = (10, 20, 50, 100, 200)
CASH: Final = 100_000 * MONEY
FEE: Final = MONEY
HUNDRED: Final = 100 * QUANTITY
BUY, SELL = Side
MARKET_ORDER: Final = OrderType.MARKET
ACCOUNT: Final = {
    "account": {"cash": 100_000},
    "instruments": {"SPY": {"tick": 0.01, "lot": 1, "fee": {"min_per_order": 1}}},
}


def write_case(folder: Path, bars: int) -> None:
    """Write a case with a random walk of so many minutes, and no orders."""
    chance = random.Random(58)
    (folder / "case.json").write_text(json.dumps(ACCOUNT), encoding="utf-8")
    (folder / "orders.csv").write_text("decided_at,symbol,id,type\n", encoding="utf-8")
    close = 40_000
    with (folder / "bars.csv").open("w", encoding="utf-8") as file:
        file.write("symbol,start,end,open,high,low,close,volume\n")
        for number in range(bars):
            opened = close
            close = max(10_000, opened + chance.randint(-30, 30))
            high, low = max(opened, close) + chance.randint(0, 9), min(opened, close) - chance.randint(0, 9)
            start, end = (format_time(START_MS + (number + more) * MINUTE_MS) for more in (0, 1))
            prices = ",".join(f"{cents / 100:.2f}" for cents in (opened, high, low, close))
            file.write(f"SPY,{start},{end},{prices},{chance.randint(1000, 90_000)}\n")


def run_bare(bars: Sequence[PriceBar]) -> int:
    """Trade the crossing of two averages in a bare loop; return the equity at the end, in cents."""
    fast, slow = TWO
    closes: list[int] = []
    equity: list[int] = []
    fast_sum = slow_sum = position = pending = fees = trades = 0
    cash = CASH
    for bar in bars:
        if pending:
            cash -= pending * bar.open + FEE
            position += pending
            fees += FEE
            trades += 1
            pending = 0
        close = bar.close
        number = len(closes)
        closes.append(close)
        fast_sum += close
        slow_sum += close
        if number >= fast:
            fast_sum -= closes[number - fast]
        if number >= slow:
            slow_sum -= closes[number - slow]
            if fast_sum * slow > slow_sum * fast:
                if not position:
                    pending = HUNDRED
            elif position:
                pending = -HUNDRED
        equity.append(cash + position * close)
    return equity[-1] * 100 // MONEY


class Strategy:
    """Hold an account, and send the orders by which it is long or not."""

    def __init__(self) -> None:
        fee = FeeSchedule(min_per_order=FEE)
        self.state = open_account(AccountRules(CASH), {"SPY": Instrument(PRICE // 100, QUANTITY, fee)})
        self.equity: list[int] = []

    def send(self, bar: PriceBar, *, is_long: bool) -> Sequence[EngineEvent]:
        at_ms = bar.end_ms
        order = Order(str(at_ms), "SPY", at_ms, BUY if is_long else SELL, MARKET_ORDER, quantity=HUNDRED)
        return (OrdersDecided(at_ms, (order,)),)

    def play(self, bars: Sequence[PriceBar], decide: Callable[[PriceBar], Sequence[EngineEvent]]) -> int:
        """Return the equity at the end, in cents."""
        fills: list[Fill] = []
        refusals: list[OrderRefusal] = []
        play_series(self.state, bars, decide, fills, refusals)
        self.state.ledger.check_totals()
        return self.equity[-1] * 100 // MONEY


def play_two(bars: Sequence[PriceBar]) -> int:
    """Be long while the fast average is above the slow one, with the engine: two rules."""
    fast, slow = TWO
    strategy = Strategy()
    ledger, equity = strategy.state.ledger, strategy.equity
    closes: list[int] = []
    fast_sum = slow_sum = 0
    was_long = False

    def decide(bar: PriceBar) -> Sequence[EngineEvent]:
        nonlocal fast_sum, slow_sum, was_long
        equity.append(ledger.cash + ledger.value)
        close = bar.close
        number = len(closes)
        closes.append(close)
        fast_sum += close
        slow_sum += close
        if number >= fast:
            fast_sum -= closes[number - fast]
        if number >= slow:
            slow_sum -= closes[number - slow]
            is_long = fast_sum * slow > slow_sum * fast
            if is_long is not was_long:
                was_long = is_long
                return strategy.send(bar, is_long=is_long)
        return ()

    return strategy.play(bars, decide)


def play_five(bars: Sequence[PriceBar]) -> int:
    """Be long once the close is above all of five averages, and until it is below all of them: five rules."""
    first, second, third, fourth, fifth = FIVE
    strategy = Strategy()
    ledger, equity = strategy.state.ledger, strategy.equity
    closes = [0] * (fifth + 1)
    a = b = c = d = e = 0
    was_long = False

    def decide(bar: PriceBar) -> Sequence[EngineEvent]:
        nonlocal a, b, c, d, e, was_long
        equity.append(ledger.cash + ledger.value)
        close = bar.close
        number = len(closes)
        closes.append(close)
        a += close - closes[number - first]
        b += close - closes[number - second]
        c += close - closes[number - third]
        d += close - closes[number - fourth]
        e += close - closes[number - fifth]
        votes = (
            (close * first > a)
            + (close * second > b)
            + (close * third > c)
            + (close * fourth > d)
            + (close * fifth > e)
        )
        if votes == len(FIVE) if not was_long else not votes:
            was_long = not was_long
            return strategy.send(bar, is_long=was_long)
        return ()

    return strategy.play(bars, decide)


def time_rounds(folder: Path) -> dict[str, list[float]]:
    """Return the seconds of each round of the bare loop, and of the engine with two and with five rules."""
    bars = read_case(folder).bars
    runs: dict[str, Callable[[], int]] = {
        "bare": lambda: run_bare(bars),
        "two": lambda: play_two(bars),
        "five": lambda: play_five(bars),
    }
    if runs["bare"]() != runs["two"]():
        raise RuntimeError("the bare loop and the engine disagree")
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            begun = time.process_time()
            run()
            found[name].append(time.process_time() - begun)
    return found


def time_first(folder: Path) -> Pair:
    """Return the seconds of a process that plays a case, and of one that does nothing."""
    return Pair(_time_process("-m", "bench.signals", "answer", str(folder)), _time_process("-c", "pass"))


def _time_process(*words: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True, timeout=WITHIN_SEC)
    return time.perf_counter() - begun


def measure(scale: float) -> Sample:
    """Play a file in a process of its own; return rates in bars a second, and the time to a first answer."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        bars = max(1000, round(BARS * scale))
        write_case(folder, bars)
        rounds = read_result("bench.signals", "rounds", folder)
        rates = {each: bars / statistics.median(times) for each, times in rounds.items()}
        write_case(folder, FIRST_BARS)
        time_first(folder)  # once before, so that all is compiled
        return {
            "two": Pair(rates["two"], rates["bare"]),
            "five": Pair(rates["five"], rates["bare"]),
            "first": time_first(folder),
        }


def main(kind: str, folder: Path) -> Any:
    if kind == "rounds":
        return time_rounds(folder)
    return play_two(read_case(folder).bars)


if __name__ == "__main__":
    answer(main(sys.argv[1], Path(sys.argv[2])))
