"""Turn bars into decisions, and decisions into fills and an account that can be checked by hand.

Enters: bars, orders and corporate actions, of files or of the archive.
Leaves: fills, refusals and an account, the same for a backtest as for paper trading.
Never: an order to a real broker, or a price that was not known at its instant.
"""
