"""Show the signals that the archive's database has and the stream brings, as an API, pages and a topic.

Enters: rows and checkpoints of the log of signals, entries of `signals:log`, filters and cursors of requests.
Leaves: signals with the votes and the sum behind each, and whether a witness has cosigned it.
Never: a write, an order or advice, a vote's words as markup, or `proven` without a cosignature.
"""
