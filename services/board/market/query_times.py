"""Name what a query of the archive's database reads, for the histogram of how long queries take. Pure."""

import re
from typing import Final

from marketswarm.metrics import LabelledHistogram

_TABLES: Final = (
    *("bars", "quotes", "indicators", "features", "observations", "observation_vintages", "actions"),
    *("symbols", "universes", "correlations", "downloads", "sources", "signals"),
)
_OTHER: Final = "other"
KINDS: Final = (*_TABLES, _OTHER)
"""The kinds of queries, by the table they read first: the values of a label, so there are few."""
_TABLE: Final = re.compile(rf"\b(?:from|join)\s+({'|'.join(_TABLES)})\b")


def find_kind(sql: str) -> str:
    """Return the first of our tables that a statement of ours reads, or `other`; one of KINDS."""
    found = _TABLE.search(sql)
    return _OTHER if found is None else found[1]


def make_query_histogram() -> LabelledHistogram:
    """Return a histogram of seconds by kind; each kind is there from the start."""
    return LabelledHistogram(KINDS, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
