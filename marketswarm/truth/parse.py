"""Parse a truth: from bytes to an accepted `Truth`, or to all its errors at once.

The JSON rules are stricter than JSON: a key given twice, a number that is not finite, half a surrogate pair
and deep nesting are errors, because JSON readers differ over them. A wrong value is noted and left out, so
that the rest of its section is still checked. Not here: rules between sections (`check.py`), files and
buses (`marketswarm.seeding`).
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from marketswarm.keys import HEARTBEAT_SUFFIX
from marketswarm.truth.check import check_sections
from marketswarm.truth.credentials import (
    IN_URL,
    LITERAL,
    has_url_password,
    is_reference,
    is_secret_key,
    is_secret_number_key,
)
from marketswarm.truth.errors import WHOLE, Findings, Place, Problem, TruthError, found, hint, nearest, show
from marketswarm.truth.model import (
    BUS_NAME,
    SERVICE_NAME,
    SYSTEM,
    BusEntry,
    FleetName,
    Service,
    Truth,
    Version,
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """An accepted document, with its warnings, the SHA-256 of its bytes in hex, and their number."""

    truth: Truth
    warnings: tuple[Problem, ...]
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class CheckedDocument:
    """The result of a check: the right parts of a document, its errors and warnings, its SHA-256 in hex."""

    truth: Truth
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    sha256: str


def load(raw: bytes) -> Loaded:
    """Parse and check a document.

    Only the bytes decide whether a document is accepted, never the environment: else one agent would apply a
    truth that another one refuses.

    Raises:
        TruthError: the document has errors; `problems` holds all of them. No other exception is raised,
            whatever the bytes.
    """
    looked = check_document(raw)
    if looked.errors:
        raise TruthError(looked.errors)
    return Loaded(looked.truth, looked.warnings, looked.sha256, len(raw))


def check_document(raw: bytes) -> CheckedDocument:
    """Parse and check a document like `load`, but return its errors and a truth of its right parts.

    Raises:
        TruthError: the bytes are no JSON, or too many.
    """
    document, duplicates = decode(raw)
    findings = Findings()
    check_values(document, duplicates, findings)
    truth = build(document, findings)
    check_sections(truth, findings)
    sha256 = hashlib.sha256(raw).hexdigest()
    return CheckedDocument(truth, findings.errors(document), findings.warnings(document), sha256)


MAX_BYTES: Final = 16 * 1024 * 1024
"""A hundred thousand services are about ten million bytes; a bus takes no argument of more than 32 MB
(`proto-max-bulk-len`), and the truth is one."""
MAX_DEPTH: Final = 32

_NAMES: Final = (("services",), ("buses",))  # keys there are names: they say nothing about secrets
_NO_TEXT: Final = "holds half a surrogate pair, which is not text"

Duplicates = dict[int, list[str]]  # by an object's `id`: the keys that it was given more than once


def decode(raw: bytes) -> tuple[Any, Duplicates]:
    """Decode the document to plain values; return also the keys that an object was given more than once.

    Raises:
        TruthError: the bytes are no JSON in UTF-8, or more than `MAX_BYTES`.
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
    duplicates: Duplicates = {}

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Return an object's pairs as a dictionary; note the repeated keys in `duplicates`."""
        made = dict(pairs)
        if len(made) != len(pairs):
            seen: set[str] = set()
            duplicates[id(made)] = [key for key, _ in pairs if key in seen or seen.add(key)]  # type: ignore[func-returns-value]
        return made

    try:
        return json.loads(text, object_pairs_hook=once, parse_int=_integer), duplicates
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _refused(f"not JSON: {error.msg[:1].lower()}{error.msg[1:]} ({where})") from None
    except RecursionError:
        raise _refused(f"nested deeper than {MAX_DEPTH} levels") from None


def check_values(document: Any, duplicates: Duplicates, findings: Findings) -> None:
    """Note the errors that any value may have: repeated keys, bad numbers or text, depth, secrets."""
    if isinstance(document, (dict, list)):
        _ValueChecker(duplicates, findings).check_entries((), document, secret=False, number=False)


class _ValueChecker:
    """Checks every value of a document, and notes the errors in the findings."""

    def __init__(self, duplicates: Duplicates, findings: Findings) -> None:
        self._duplicates = duplicates
        self._findings = findings

    def check_entries(
        self, place: Place, holder: dict[str, Any] | list[Any], *, secret: bool, number: bool
    ) -> None:
        """Check all entries of an object or a list, at any depth.

        Args:
            place: the place of the object or list.
            holder: the object or list.
            secret: whether a key above says that texts at this place are secrets.
            number: whether a key above says that numbers at this place are secrets too.
        """
        if len(place) > MAX_DEPTH:
            self._findings.error(place, f"nested deeper than {MAX_DEPTH} levels")
            return
        if isinstance(holder, list):
            for index, value in enumerate(holder):
                self._check_value(place, index, value, secret=secret, number=number)
            return
        for key in self._duplicates.get(id(holder), ()):
            self._findings.error((*place, key), "given twice: keep one")
        names = place in _NAMES
        for key, value in holder.items():
            if not (key.isascii() or _is_text(key)):
                self._findings.error((*place, key), f"the key {_NO_TEXT}")
            if has_url_password(key):
                self._findings.error((*place, key), f"the key is {IN_URL}")
            if names and isinstance(value, dict):
                # a service may be called token_maker: that makes no value in its section a secret
                self.check_entries((*place, key), value, secret=False, number=False)
            else:
                says = secret or is_secret_key(key)
                self._check_value(
                    place, key, value, secret=says, number=number or (says and is_secret_number_key(key))
                )

    def _check_value(self, place: Place, step: str | int, value: Any, *, secret: bool, number: bool) -> None:
        """Check one entry: the `value` under the key or index `step` of the object or list at `place`."""
        if isinstance(value, str):
            if secret or "://" in value or not value.isascii():
                self._check_text((*place, step), value, secret=secret)
        elif isinstance(value, (dict, list)):
            self.check_entries((*place, step), value, secret=secret, number=number)
        elif isinstance(value, float) and not math.isfinite(value):
            message = f"{show(value)} is not a finite number"
            self._findings.error((*place, step), message, unless_other=True)
        elif number and value is not None and not isinstance(value, bool):
            self._findings.error((*place, step), LITERAL)

    def _check_text(self, place: Place, text: str, *, secret: bool) -> None:
        """Note an error for a text that is not Unicode, holds a password in a URL, or is a plain secret."""
        if not _is_text(text):
            self._findings.error(place, _NO_TEXT)
        if has_url_password(text):
            self._findings.error(place, IN_URL)
        elif secret and text and not is_reference(text):
            self._findings.error(place, LITERAL)


def _is_text(text: str) -> bool:
    """Return True unless the text holds half a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _integer(digits: str) -> int | float:
    """Return the integer that JSON wrote as `digits`; a float if it has 400 digits or more."""
    # Python refuses integers of more than 4,300 digits, and no reader needs one of 400
    return int(digits) if len(digits) < 400 else float(digits)


def _refused(message: str) -> TruthError:
    """Return a TruthError with one error, about the document as a whole."""
    return TruthError([Problem(WHOLE, message)])


_SERVICE: Final = TypeAdapter(Service)
_BUS: Final = TypeAdapter(BusEntry)
_VERSION: Final[TypeAdapter[int]] = TypeAdapter(Version)
_FLEET: Final[TypeAdapter[str]] = TypeAdapter(FleetName)

_TOP_KEYS: Final = ("services", "buses", "version", "fleet")
_SERVICE_KEYS: Final = tuple(Service.__dataclass_fields__)
_BUS_KEYS: Final = ("url",)
# the parts of a service in which an unknown key is an error; in the section itself it is a warning
_STRICT_KEYS: Final = {
    "heartbeat": ("channel", "interval_sec", "redis_url", "timeout_sec", "monitored"),
    "threshold": ("heartbeat_cadence", "bus_timeout_sec"),
    "access_points": ("subscribe_to", "publish_to"),
}
_POINT_KEYS: Final = ("bus", "key")
_ANY_POINT: Final = {"bus": SYSTEM, "key": "-"}  # stands for a wrong access point

_SHAPES: Final = {
    "dataclass_type": "an object",
    "dict_type": "an object",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "text",
    "bool_type": "true or false",
}
_MISSING: Final = {
    "bus": 'missing: the name of a bus, such as "system-redis"',
    "key": 'missing: the name of a key or channel, such as "rss_agg:heartbeat"',
}

E = TypeVar("E")
Note = Callable[[Place, str], None]


def build(document: Any, findings: Findings) -> Truth:
    """Build the truth of a decoded document. Note wrong parts in `findings` and leave them out."""
    if not isinstance(document, dict):
        findings.error((), f"{_kind(document)} is not an object")
        return Truth()
    _unknown((), document, _TOP_KEYS, findings.warn)
    if "version" in document:
        _checked(_VERSION, ("version",), document["version"], findings)
    fleet = _checked(_FLEET, ("fleet",), document["fleet"], findings) if "fleet" in document else None
    services = {
        name: service
        for name, section in _sections(document, "services", SERVICE_NAME, findings)
        if (service := _service(("services", name), name, section, findings)) is not None
    }
    buses = {
        name: bus
        for name, section in _sections(document, "buses", BUS_NAME, findings)
        if (bus := _bus(("buses", name), section, findings)) is not None
    }
    return Truth(fleet=fleet or "", buses=buses, services=services)


def _sections(
    document: dict[str, Any], kind: str, names: re.Pattern[str], findings: Findings
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the object of each section of a kind.

    Note an error if there are no `services`, and for each section that has a wrong name or is no object; a
    section with a wrong name is yielded nevertheless.

    Args:
        document: the decoded document.
        kind: `services` or `buses`.
        names: the pattern of a right name.
        findings: takes the errors and warnings.
    """
    if kind not in document:
        if kind == "services":
            near = nearest(kind, document)
            findings.error((kind,), "missing: an object, a section for each service" + hint_at(near))
        return
    sections = document[kind]
    if not isinstance(sections, dict):
        findings.error((kind,), f"{found((kind,), sections)} is not an object")
        return
    if not sections and kind == "services":
        findings.warn((kind,), "names no service")
    for name, section in sections.items():
        if not names.fullmatch(name):
            others = "_ . -" if names is SERVICE_NAME else "_ -"
            findings.error(
                (kind, name),
                f"{show(name)} is not a name: a letter, then up to 62 letters, digits or {others}",
            )
        if isinstance(section, dict):
            yield name, section
        else:
            findings.error((kind, name), f"{found((kind, name), section)} is not an object")


def hint_at(near: str | None) -> str:
    """Return ` (is "x" meant to be it?)` for a similar key, or an empty text for None."""
    return f" (is {show(near)} meant to be it?)" if near is not None else ""


def _service(place: Place, name: str, section: dict[str, Any], findings: Findings) -> Service | None:
    """Build a service from its section. Return None if no usable service is left.

    Note wrong values and unknown keys in `findings` and leave them out.
    """
    _unknown(place, section, _SERVICE_KEYS, findings.warn)
    for part, known in _STRICT_KEYS.items():
        _unknown((*place, part), section.get(part), known, findings.error)
    points = section.get("access_points")
    if isinstance(points, dict):
        for kind in _STRICT_KEYS["access_points"]:
            for index, point in enumerate(_items(points.get(kind))):
                _unknown((*place, "access_points", kind, index), point, _POINT_KEYS, findings.error)

    # a wrong name is noted already: don't report the channel that follows from it too
    channel = (name if SERVICE_NAME.fullmatch(name) else "any") + HEARTBEAT_SUFFIX

    def with_channel(values: dict[str, Any]) -> dict[str, Any]:
        """Return a section whose heartbeat has the default channel, and `said`: the keys that it sets.

        Return a section unchanged if its heartbeat is no object.
        """
        beat = values.get("heartbeat", {})
        if not isinstance(beat, dict):
            return values
        return {**values, "heartbeat": {"channel": channel, **beat, "said": _share_keys(tuple(beat))}}

    return _checked(_SERVICE, place, section, findings, with_channel)


@lru_cache(maxsize=256)
def _share_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return one shared tuple for all services that set the same keys."""
    return keys


def _bus(place: Place, section: dict[str, Any], findings: Findings) -> BusEntry | None:
    """Build a bus from its section. Note wrong values and unknown keys; return None if the URL is wrong."""
    _unknown(place, section, _BUS_KEYS, findings.error)
    return _checked(_BUS, place, section, findings)


def _items(value: Any) -> Sequence[Any]:
    """Return the value if it is a list, else an empty sequence."""
    return value if isinstance(value, list) else ()


def _unknown(place: Place, values: Any, known: Sequence[str], note: Note) -> None:
    """Call `note` for each key of an object that is not in `known`. Other values are ignored."""
    if isinstance(values, dict) and not values.keys() <= set(known):
        for key in values.keys() - set(known):
            note((*place, key), "is not a known key" + hint(key, known))


def _checked(
    adapter: TypeAdapter[E],
    place: Place,
    values: Any,
    findings: Findings,
    filled: Callable[[Any], Any] = lambda values: values,
) -> E | None:
    """Validate `values`. Note the wrong parts, leave them out, and validate the rest.

    Args:
        adapter: the type to build.
        place: the place of the values in the document.
        values: the decoded values.
        findings: takes the errors.
        filled: adds defaults to the values before each validation.

    Returns:
        The value built from the right parts; None if `values` as a whole, or what is left of it, is wrong.
    """
    try:
        return adapter.validate_python(filled(values))
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
    for mistake in mistakes:
        where: Place = (*place, *mistake["loc"])
        findings.error(where, _message(where, mistake))
    if () in (mistake["loc"] for mistake in mistakes):
        return None
    try:
        return adapter.validate_python(filled(_without(values, mistakes)))
    except ValidationError:
        return None


def _message(place: Place, mistake: ErrorDetails) -> str:
    """Return the message of a validation error: the value found at `place`, and what is wrong with it."""
    if mistake["type"] == "missing":
        return _MISSING.get(str(place[-1]), "missing")
    shown = found(place, mistake["input"])
    if mistake["type"] in _SHAPES:
        return f"{shown} is not {_SHAPES[mistake['type']]}"
    return f"{shown} {mistake['msg']}"


def _without(values: Any, mistakes: Iterable[ErrorDetails]) -> Any:
    """Return a copy of `values` without the values at the places of `mistakes`.

    In a list, a wrong access point becomes `_ANY_POINT` and any other item an empty text, so that no index
    shifts.
    """
    left = _copied(values)
    places = [mistake["loc"] for mistake in mistakes]
    for place in sorted(places, key=len):
        points = place[:1] == ("access_points",) and len(place) > 2
        *way, last = place[:3] if points else place
        holder = left
        for step in way:
            holder = holder[step]
        if isinstance(holder, list):
            holder[int(last)] = _ANY_POINT if points else ""
        else:
            holder.pop(last, None)
    return left


def _copied(value: Any) -> Any:
    """Return a copy of the value in which all lists and objects are copied too."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _kind(value: Any) -> str:
    """Return `text` for a text; format any other value by `show`."""
    return "text" if isinstance(value, str) else show(value)
