"""Publish market data: add the minute bars of the symbols in the truth to a stream, each bar once.

`protocol`, `bars` and `gaps` are pure; `stream`, `rest` and `publish` do the I/O; `live` and `replay` are the
two sources, and `loop` runs the one that the truth wants.
"""
