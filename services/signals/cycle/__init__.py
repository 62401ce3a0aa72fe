"""Decide ticks: which symbols are evaluated, who votes on them, and what a tick says of each symbol. Pure.

Enters: entries of checked bars, votes from outside, the settings, the state of each symbol before the tick.
Leaves: a place for every symbol, the rows of those that are stored, and the state of each that changed.
Never: a bar that was known later than the tick's instant; a tick without a place for a symbol; an error of a
voter that ends more than its own vote.
"""
