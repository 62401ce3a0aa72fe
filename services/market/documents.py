"""Read documents and numbers as vendors write them. Pure.

Many write JSON a little loosely: with a byte order mark, NaN in place of a number, a byte that is no UTF-8.
Such a value costs itself alone, and never the document around it.
"""

import json
import re
from typing import Any, Final

import orjson

NUMBER: Final = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
"""How a number is written. Python's own `float` also takes 1_000, digits of other scripts and `nan`."""


def load_json(body: bytes | str) -> Any:
    """Return a JSON document; NaN and infinity are floats. Raise ValueError if it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    try:
        return json.loads(text.removeprefix("\ufeff"), strict=False)
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_float(text: str) -> float | None:
    """Return the number in a text; None if it is none. It may be infinite, if its exponent is too large."""
    return float(text) if NUMBER.fullmatch(text) else None
