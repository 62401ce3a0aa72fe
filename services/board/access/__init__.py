"""Decide who may ask: clients, tokens, sessions, limits, and the log of what they did."""
