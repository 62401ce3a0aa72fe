"""Keep the end of what a run wrote: within a limit, without secrets, and safe to show.

`marketswarm exec` uses it before an output leaves its machine, and the board before it stores a ping's body.
"""

import re
from collections.abc import Callable
from typing import Final

from marketswarm.pings import MAX_BODY_BYTES
from marketswarm.redactor import LEFT_OUT, MAX_LINE, Redactor
from marketswarm.text import decode_text, extract_last_line, strip_controls

TOO_LONG: Final = "[a line that is too long to be searched for secrets is left out]"
_TAB_COLUMNS: Final = 8
_FOLD_CHARS: Final = MAX_LINE - 100
_FOLD_AT: Final = re.compile(r"[\s,;&}\]]")


def clean_output(
    tail: bytes, size: int, redactor: Redactor, is_late: Callable[[], bool] = lambda: False
) -> bytes:
    """Return the end of an output as UTF-8, MAX_BODY_BYTES at most; `tail` are the last of its `size` bytes.

    What is left of a cut line or word at its beginning is removed, because a part of a secret has no form.
    Lines that are too long for the redactor are folded. `is_late` is as for `Redactor.redact`.
    """
    text = strip_controls(tail.decode("utf-8", "replace"))
    if size > len(tail):
        text = _drop_partial(text)
    lines = (piece for line in text.split("\n") for piece in _fold(line))
    found = redactor.redact("\n".join(lines), is_late=is_late)
    found = strip_controls(found).expandtabs(_TAB_COLUMNS).strip("\n")  # the redactor undoes JSON's escapes
    if not found.strip() and text.strip():
        found = TOO_LONG
    raw = found.encode("utf-8", "replace")
    if len(raw) > MAX_BODY_BYTES:
        raw = _drop_partial(raw[-MAX_BODY_BYTES:].decode("utf-8", "ignore")).encode()
    return raw


def find_last_line(cleaned: bytes) -> str | None:
    """Return the last line that says something in an output that `clean_output` returned, or None.

    None, too, if that line was not kept because there was no time to search it, or because it is too long.
    """
    line = extract_last_line(decode_text(cleaned))
    return None if line in (LEFT_OUT, TOO_LONG) else line


def _drop_partial(text: str) -> str:
    """Return a text that was cut in front from its first whole line on, or else its first whole word."""
    for end in ("\n", " "):
        rest = text.partition(end)[2]
        if rest.strip():
            return rest
    return text


def _fold(line: str) -> list[str]:
    """Return a line in pieces that the redactor searches whole; a word without an end stays as it is."""
    pieces = []
    while len(line) > MAX_LINE:
        ends = [match.end() for match in _FOLD_AT.finditer(line, 0, _FOLD_CHARS)]
        if not ends:
            break
        pieces.append(line[: ends[-1]])
        line = line[ends[-1] :]
    return [*pieces, line]
