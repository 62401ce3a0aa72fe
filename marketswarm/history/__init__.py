"""What was up, down and unknown, and for how long: spans of the last hours, sums of each hour of a year.

The board records the history (`services/board`), and these read it: the board's pages, and
`marketswarm history`.
"""
