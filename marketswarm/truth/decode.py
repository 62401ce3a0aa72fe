"""From bytes to plain values, and what JSON alone can get wrong.

Stricter than JSON: a key given twice, a number that is not finite, half a surrogate pair and a nesting that
no configuration needs are mistakes here, because readers differ over them. Not here: what the keys mean.
"""

import json
import math
from typing import Any, Final

from marketswarm.truth.credentials import (
    IN_URL,
    LITERAL,
    is_reference,
    password_in_url,
    says_secret,
    says_secret_number,
)
from marketswarm.truth.problems import WHOLE, Findings, Place, Problem, TruthError, show

MAX_BYTES: Final = 16 * 1024 * 1024
"""A hundred thousand services are about ten million bytes; a bus takes no argument of more than 32 MB
(`proto-max-bulk-len`), and the truth is one."""
MAX_DEPTH: Final = 32

_NAMES: Final = (("services",), ("buses",))  # keys there are names, not words about what they hold
_NO_TEXT: Final = "holds half a surrogate pair, which is not text"

Twice = dict[int, list[str]]  # by identity of the object: the keys it was given more than once


def decode(raw: bytes) -> tuple[Any, Twice]:
    """The document as plain values, and which keys of which objects came twice.

    Raises TruthError if it is no JSON.
    """
    if len(raw) > MAX_BYTES:
        raise _refused(f"{len(raw)} bytes are more than the {MAX_BYTES} that a truth may have")
    if raw.startswith(b"\xef\xbb\xbf"):
        raise _refused("begins with a byte order mark: save it as UTF-8 without one")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(f"not UTF-8: byte {error.start} is no text") from None
    if not text.strip():
        raise _refused("empty: there must be a JSON object")
    twice: Twice = {}

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            seen: set[str] = set()
            twice[id(made)] = [key for key, _ in pairs if key in seen or seen.add(key)]  # type: ignore[func-returns-value]
        return made

    try:
        return json.loads(text, object_pairs_hook=once, parse_int=_integer), twice
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _refused(f"not JSON: {error.msg[:1].lower()}{error.msg[1:]} ({where})") from None
    except RecursionError:
        raise _refused(f"nested deeper than {MAX_DEPTH} levels") from None


def look_through(document: Any, twice: Twice, findings: Findings) -> None:
    """Notes what is wrong wherever it stands: keys given twice, numbers, text, depth, credentials."""
    if isinstance(document, (dict, list)):
        _Look(twice, findings).into((), document, secret=False, number=False)


class _Look:
    """One walk through a document. `secret`, `number`: a key above says that texts or numbers are secrets."""

    def __init__(self, twice: Twice, findings: Findings) -> None:
        self._twice = twice
        self._findings = findings

    def into(self, place: Place, holder: dict[str, Any] | list[Any], *, secret: bool, number: bool) -> None:
        """Looks at everything in an object or a list."""
        if len(place) > MAX_DEPTH:
            self._findings.error(place, f"nested deeper than {MAX_DEPTH} levels")
            return
        if isinstance(holder, list):
            for index, value in enumerate(holder):
                self._at(place, index, value, secret=secret, number=number)
            return
        for key in self._twice.get(id(holder), ()):
            self._findings.error((*place, key), "given twice: keep one")
        names = place in _NAMES
        for key, value in holder.items():
            if not (key.isascii() or _is_text(key)):
                self._findings.error((*place, key), f"the key {_NO_TEXT}")
            if password_in_url(key):
                self._findings.error((*place, key), f"the key is {IN_URL}")
            if names and isinstance(value, dict):
                # a service may be called token_maker; what stands under it is no secret for that
                self.into((*place, key), value, secret=False, number=False)
            else:
                says = secret or says_secret(key)
                self._at(place, key, value, secret=says, number=number or (says and says_secret_number(key)))

    def _at(self, place: Place, step: str | int, value: Any, *, secret: bool, number: bool) -> None:
        if isinstance(value, str):
            if secret or "://" in value or not value.isascii():
                self._text((*place, step), value, secret=secret)
        elif isinstance(value, (dict, list)):
            self.into((*place, step), value, secret=secret, number=number)
        elif isinstance(value, float) and not math.isfinite(value):
            message = f"{show(value)} is not a finite number"
            self._findings.error((*place, step), message, unless_other=True)
        elif number and value is not None and not isinstance(value, bool):
            self._findings.error((*place, step), LITERAL)

    def _text(self, place: Place, text: str, *, secret: bool) -> None:
        if not _is_text(text):
            self._findings.error(place, _NO_TEXT)
        if password_in_url(text):
            self._findings.error(place, IN_URL)
        elif secret and text and not is_reference(text):
            self._findings.error(place, LITERAL)


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _integer(digits: str) -> int | float:
    # Python refuses integers of more than 4,300 digits, and no reader needs one of 400
    return int(digits) if len(digits) < 400 else float(digits)


def _refused(message: str) -> TruthError:
    return TruthError([Problem(WHOLE, message)])
