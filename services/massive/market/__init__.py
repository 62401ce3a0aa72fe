"""Publish market data: add the minute bars of the symbols in the truth to a stream, each bar once.

`gaps` is pure; `api` and `publish` do the I/O; `live` streams, and `loop` runs it while the truth
wants it.

Enters: symbols of the truth, frames of a WebSocket, answers by REST.
Leaves: bars on the stream, and what the beats say of the connection.
Never: a bar twice, two connections at a time, or frames that wait in memory for a slow bus.
"""
