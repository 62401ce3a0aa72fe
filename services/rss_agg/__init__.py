"""Read the feeds in the settings, and publish each new item on the market bus, once.

Enters: URLs of feeds from the truth, and what these servers answer.
Leaves: items on the stream, and the state of each feed beside it, in one step.
Never: an item twice, a request to an inside address that is not allowed, or a feed parsed in this process.
"""
