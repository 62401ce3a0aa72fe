"""Read the fields of a note about news, as vexy_ai writes it to `vexy:notes`. Pure.

Other programs write to that stream, too: each function is bounded, and what can't be read is None or empty.
"""

from math import isfinite
from typing import Any, Final

import orjson

MAX_NAME: Final = 300
"""The longest name of a ticker or a topic; a longer one is cut."""
_NUMBER_BYTES: Final = 40


def read_sentiment(raw: bytes) -> float | None:
    """Return a sentiment; None unless it is a number from -1 to 1."""
    try:
        found = float(raw) if len(raw) <= _NUMBER_BYTES else None
    except ValueError:
        return None
    return found if found is not None and isfinite(found) and -1 <= found <= 1 else None


def read_note_names(raw: bytes, most: int) -> tuple[str, ...]:
    """Return the first `most` tickers or topics in a JSON list, each cut to MAX_NAME; others are left out."""
    try:
        found: Any = orjson.loads(raw) if len(raw) <= 4 * most * MAX_NAME else None
    except orjson.JSONDecodeError:
        return ()
    names = found if isinstance(found, list) else []
    return tuple(each[:MAX_NAME] for each in names[:most] if isinstance(each, str))
