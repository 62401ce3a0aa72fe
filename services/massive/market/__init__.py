"""Market data: minute bars of the symbols in the truth, onto a stream, each of them once.

`protocol`, `bars`, `gaps` and `backoff` think; `stream`, `rest`, `replay` and `publish` touch the world;
`live` and `playing` put them together, and `loop` chooses.
"""
