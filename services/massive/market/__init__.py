"""Publish market data: add the minute bars of the symbols in the truth to a stream, each bar once.

`gaps` is pure; `stream`, `rest` and `publish` do the I/O; `live` streams, and `loop` runs it while the truth
wants it.
"""
