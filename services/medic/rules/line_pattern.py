"""Compile the regular expressions that a truth has for lines of logs. Pure.

The engine is Rust's, which pydantic brings: its time grows with the length of the line and of the pattern,
and never as a power of either, whatever the line. It knows no look-around and no back-references.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from pydantic_core import SchemaError, SchemaValidator, core_schema

MAX_PATTERN_CHARS: Final = 300
MAX_LINE_CHARS: Final = 2000
"""The part of a line in which a pattern is looked for."""
MAX_REPEAT: Final = 100
MAX_PATTERNS: Final = 20
"""The most rules with a pattern: the engine lets one take 10 MB of memory."""

_REPEATED_GROUP: Final = re.compile(r"(?<!\\)\)\{")
_REPEAT: Final = re.compile(r"\{(\d*),?(\d*)\}")


@lru_cache(maxsize=2 * MAX_PATTERNS)
def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Return a function that says whether the pattern is in a text. Raises ValueError, with the reason."""
    # counted repeats in each other make a short pattern a huge one: `(.{1,30}){30}` takes 0.3 s for a line
    if _REPEATED_GROUP.search(pattern):
        raise ValueError("pattern: {n} may follow a character or a class, and no group")
    counts = [count for each in _REPEAT.finditer(pattern) for count in each.groups() if count]
    if any(len(count) > len(str(MAX_REPEAT)) or int(count) > MAX_REPEAT for count in counts):
        raise ValueError(f"pattern: repeats too much, {MAX_REPEAT} times at most")
    try:
        validator = SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError as error:
        raise ValueError(f"pattern: {_explain(str(error))}") from None
    return validator.isinstance_python


def _explain(message: str) -> str:
    """Return the last line of what the engine says, such as `error: unclosed group`."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return (lines[-1] if lines else "can't be compiled").removeprefix("error: ")[:200]
