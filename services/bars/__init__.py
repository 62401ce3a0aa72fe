"""Check the bars of the market, build longer ones of minutes, and compute indicators and features of them.

Enters: the entries of `market:bars` and `market:quotes`, in any order, twice or corrected.
Leaves: `bars:bars`, `bars:indicators` and `bars:features` with a revision each; `market:quarantine`.
Never: a row that is lost or published twice by a kill, a final bar before its time is over, or a feature that
knows what came later.
"""
