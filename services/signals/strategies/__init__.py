"""The strategies that are shipped, one a file: small ones, to begin with and to compare with.

Enters: a view of the market at an instant.
Leaves: targets in percent of the equity, or orders.
Never: a value that was not known at the instant, or advice.
"""
