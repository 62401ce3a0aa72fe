"""From bytes to plain values, and what JSON alone can get wrong.

Stricter than JSON: a key given twice, a number that is not finite, half a surrogate pair and a nesting that
no configuration needs are mistakes here, because readers differ over them. Not here: what the keys mean.
"""

import json
import math
from collections.abc import Iterator
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

MAX_BYTES: Final = 64 * 1024 * 1024  # a hundred thousand services are about ten million bytes
MAX_DEPTH: Final = 32

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
    stack: list[tuple[Place, Any, bool, bool]] = [((), document, False, False)]
    while stack:
        place, value, secret, number = stack.pop()
        if isinstance(value, str):
            _look_at_text(place, value, secret, findings)
        elif isinstance(value, (dict, list)):
            if len(place) > MAX_DEPTH:
                findings.error(place, f"nested deeper than {MAX_DEPTH} levels")
                continue
            for key in twice.get(id(value), ()):
                findings.error((*place, key), "given twice: keep one")
            stack.extend(_inside(place, value, secret, number, findings))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            if not math.isfinite(value):
                findings.error(place, f"{show(value)} is not a finite number", unless_other=True)
            elif number:
                findings.error(place, LITERAL)


def _inside(
    place: Place, value: dict[str, Any] | list[Any], secret: bool, number: bool, findings: Findings
) -> Iterator[tuple[Place, Any, bool, bool]]:
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield (*place, index), inner, secret, number
        return
    names = place in (("services",), ("buses",))
    for key, inner in value.items():
        if not _is_text(key):
            findings.error((*place, key), "the key is not text: half a surrogate pair in it")
        # a service may be called token_maker; what stands under it is no secret for that
        name = names and isinstance(inner, dict)
        yield (
            (*place, key),
            inner,
            secret or (not name and says_secret(key)),
            number or (not name and says_secret_number(key)),
        )


def _look_at_text(place: Place, text: str, secret: bool, findings: Findings) -> None:
    if not text.isascii() and not _is_text(text):
        findings.error(place, "not text: half a surrogate pair in it")
    if password_in_url(text):
        findings.error(place, IN_URL)
    elif secret and text and not is_reference(text):
        findings.error(place, LITERAL)


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
