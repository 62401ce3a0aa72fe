"""Name the bars of a symbol that are loaded from one source for itself: `SPY@massive`. Pure.

No symbol of ours has an @, so a program that knows nothing of this leaves such entries alone.
"""

import re
from typing import Final

from services.market.fields import SYMBOL, EntryError, Fields, read_text

SEPARATOR: Final = "@"
_SOURCE: Final = re.compile(r"[a-z][a-z0-9_]{1,39}")


def join_source(symbol: str, source: str) -> str:
    """Return the name of a symbol's bars of one source: `SPY@massive`."""
    return f"{symbol}{SEPARATOR}{source}"


def split_source(name: str) -> tuple[str, str | None]:
    """Return the symbol and the source of such a name; None as the source of a plain symbol."""
    symbol, found, source = name.partition(SEPARATOR)
    return symbol, source if found else None


def read_separate(fields: Fields) -> tuple[Fields, str, str]:
    """Return an entry with its plain symbol in `sym`, that symbol and the source of which its bars are.

    Raises EntryError for any other entry, also if its record is of another source than its name says: bars
    of two sources must not be mixed.
    """
    symbol, source = split_source(read_text(fields, b"sym", ""))
    if source is None or _SOURCE.fullmatch(source) is None or SYMBOL.fullmatch(symbol) is None:
        raise EntryError("sym: not the bars of one source")
    if fields.get(b"source") != source.encode():
        raise EntryError("source: not that of its sym")
    return {**fields, b"sym": symbol.encode()}, symbol, source
