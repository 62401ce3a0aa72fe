"""Ask the market for bars, quotes and economic series, each from the first source that is fresh.

Enters: the series of the truth, the files of the catalogue, answers of sources outside, recordings.
Leaves: `market:bars`, `market:quotes`, `market:observations`, `market:actions`; states of sources and series.
Never: more requests than the limits of a source, half of a load on a stream, a bar before it is over, or a
record that its source did not send.
"""
