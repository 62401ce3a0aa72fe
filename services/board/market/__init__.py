"""Serve the market: bars, indicators, quotes and series, as an API, a WebSocket and pages.

Enters: streams of the market, rows of the archive, questions with their limits and cursors.
Leaves: bounded answers that say how old they are and where they come from, and updates for followers.
Never: a write to the market or the database, or a question that holds up another one.
"""
