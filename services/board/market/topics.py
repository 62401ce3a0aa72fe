"""Name the topics of `/ws`, which the updates of the market have."""

from enum import StrEnum
from functools import lru_cache
from typing import Final

MAX_NAMES: Final = 8192  # how many names of topics are kept, for the updates of the ring to share them


class TopicKind(StrEnum):
    """Name the kinds of topics; CELLS is what the board's own pages show of a price, not of the API."""

    BARS = "bars"
    CELLS = "cells"
    INDICATORS = "indicators"
    QUOTES = "quotes"
    SERIES = "series"
    SIGNALS = "signals"


OF_SYMBOLS: Final = (TopicKind.QUOTES, TopicKind.CELLS, TopicKind.SIGNALS)
"""The kinds whose topics have a symbol and no timeframe."""


@lru_cache(maxsize=MAX_NAMES)
def name_topic(kind: TopicKind, *parts: str) -> str:
    """Return the name of a topic: its kind, a symbol, and a timeframe if it has one.

    Without a symbol it includes all of them: `quotes`, `bars:1m`.
    """
    return ":".join((kind, *parts))


def find_symbol(topic: str) -> str:
    """Return the symbol in the name of a topic; an empty text for a topic of all symbols."""
    kind, _, rest = topic.partition(":")
    return rest if kind in OF_SYMBOLS else rest.rpartition(":")[0]
