"""Fill orders by bars, and keep the ledger: one implementation for backtest, paper and live. Pure.

Enters: instants of bars that open or close, of orders, corporate actions and ends of sessions.
Leaves: fills, refusals with a reason, and an account in whole numbers.
Never: a clock, I/O, or a float in money; a fill at a price that was not traded in its bar.
"""
