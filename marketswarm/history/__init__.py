"""What was up, down and unknown, and for how long: spans of the last hours, sums of each hour of a year.

The board records the history (`services/board`), and these read it: the board's pages, and
`marketswarm history`.

Enters: events of the alert log, and how far it was read.
Leaves: spans, hours and availability; on system-redis the hashes `board:history*`.
Never: unknown time counted as up or as down, or a fact counted twice when several boards write.
"""
