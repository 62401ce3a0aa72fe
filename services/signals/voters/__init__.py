"""Vote on a symbol from what was known at an instant: one file a voter. Pure.

Enters: the last bars of a symbol, which end at the instant.
Leaves: a direction, how strong it is, how sure the voter is, until when, and why; or why it abstains.
Never: a bar that closed later; a vote from numbers that are missing or not finite.
"""
