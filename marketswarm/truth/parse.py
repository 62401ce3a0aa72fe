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
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from marketswarm.keys import heartbeat_channel
from marketswarm.text import map_texts
from marketswarm.truth.check import check_sections
from marketswarm.truth.credentials import (
    CREDENTIAL_IN_URL,
    PLAIN_CREDENTIAL,
    has_url_password,
    is_reference,
    is_secret_key,
    is_secret_number_key,
)
from marketswarm.truth.errors import (
    WHOLE_DOCUMENT,
    Findings,
    Place,
    Problem,
    TruthError,
    find_nearest,
    format_found,
    format_hint,
    format_mismatch,
    format_value,
    limited_hints,
)
from marketswarm.truth.model import (
    BUS_NAME,
    DEFAULT_CHANNEL,
    SERVICE_NAME,
    SYSTEM,
    BusEntry,
    FleetName,
    Heartbeat,
    Service,
    Truth,
    Version,
)

MAX_BYTES: Final = 16 * 1024 * 1024
"""A hundred thousand services are about ten million bytes; a bus takes no argument of more than 32 MB
(`proto-max-bulk-len`), and the truth is one."""
MAX_DEPTH: Final = 32
MAX_SHARED: Final = 4096
"""How many different sections of services are kept while a document is parsed, to be found again in it."""
_SERVICES: Final = ("services",)
_NAME_PLACES: Final = (_SERVICES, ("buses",))  # keys there are names: they say nothing about secrets
_NOT_TEXT: Final = "holds half a surrogate pair, which is not text"
_SERVICE: Final = TypeAdapter(Service)
_BUS: Final = TypeAdapter(BusEntry)
_LATER: Final = ConfigDict(defer_build=True)  # few documents have these two
_VERSION: Final[TypeAdapter[int]] = TypeAdapter(Version, config=_LATER)
_FLEET: Final[TypeAdapter[str]] = TypeAdapter(FleetName, config=_LATER)
_TOP_KEYS: Final = ("services", "buses", "version", "fleet")
_SERVICE_KEYS: Final = tuple(Service.__dataclass_fields__)
_BUS_KEYS: Final = ("url",)
# the parts of a service in which an unknown key is an error; in the section itself it is a warning
_STRICT_KEYS: Final = {
    "heartbeat": tuple(name for name in Heartbeat.__dataclass_fields__ if name != "said"),
    "threshold": ("heartbeat_cadence", "bus_timeout_sec"),
    "access_points": ("subscribe_to", "publish_to"),
}
_POINT_KEYS: Final = ("bus", "key")
_PLACEHOLDER_POINT: Final = {"bus": SYSTEM, "key": "-"}  # stands for a wrong access point
_MISSING: Final = {
    "bus": 'missing: the name of a bus, such as "system-redis"',
    "key": 'missing: the name of a key or channel, such as "rss_agg:heartbeat"',
}
_PLAIN_FORMS: Final = (0, orjson.OPT_INDENT_2)
E = TypeVar("E")


@dataclass(frozen=True, slots=True, weakref_slot=True)
class ParsedTruth:
    """An accepted document, with its warnings, the SHA-256 of its bytes in hex, and their number.

    `packed` has the bytes themselves, compressed, for a patch that makes the next document of them. It is
    empty if the document was only checked.
    """

    truth: Truth
    warnings: tuple[Problem, ...]
    sha256: str
    size: int
    packed: bytes = field(default=b"", compare=False, repr=False)

    def unpack(self) -> bytes:
        return zlib.decompress(self.packed) if self.packed else b""


@dataclass(frozen=True, slots=True)
class CheckedDocument:
    """The result of a check: the right parts of a document, its errors and warnings, its SHA-256 in hex."""

    truth: Truth
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    sha256: str


def parse_truth(raw: bytes) -> ParsedTruth:
    """Parse and check a document. Raises TruthError with all its errors, and nothing else.

    Only the bytes decide whether a document is accepted, never the environment: else one agent would apply a
    truth that another one refuses.
    """
    checked = check_document(raw)
    if checked.errors:
        raise TruthError(checked.errors)
    return ParsedTruth(checked.truth, checked.warnings, checked.sha256, len(raw), zlib.compress(raw, 1))


@limited_hints()
def check_document(raw: bytes) -> CheckedDocument:
    """Parse a document; return its errors, and a truth of its right parts. Raises TruthError."""
    document, duplicates = decode_document(raw)
    findings = Findings()
    if isinstance(document, (dict, list)):
        # without the services: `build_truth` checks each different section
        _ValueChecker(duplicates, findings).check_entries((), document, secret=False, number=False)
    truth = build_truth(document, duplicates, findings)
    check_sections(truth, findings)
    sha256 = hashlib.sha256(raw).hexdigest()
    return CheckedDocument(truth, findings.errors(document), findings.warnings(document), sha256)


Duplicates = dict[int, list[str]]  # by an object's `id`: the keys that it was given more than once


def decode_document(raw: bytes) -> tuple[Any, Duplicates]:
    """Decode the document to plain values; return also the keys that an object was given more than once.

    Raises TruthError if the bytes are not JSON in UTF-8, or more than `MAX_BYTES`.
    """
    if len(raw) > MAX_BYTES:
        raise _make_document_error(f"{len(raw)} bytes are more than the {MAX_BYTES} that a truth may have")
    if raw.startswith(b"\xef\xbb\xbf"):
        raise _make_document_error("begins with a byte order mark: save it as UTF-8 without one")
    if (plain := _decode_plain(raw)) is not None:
        return plain, {}
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _make_document_error(f"not UTF-8: byte {error.start} is no text") from None
    if not text.strip():
        raise _make_document_error("empty: there must be a JSON object")
    duplicates: Duplicates = {}

    def build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            seen: set[str] = set()
            duplicates[id(built)] = [key for key, _ in pairs if key in seen or seen.add(key)]  # type: ignore[func-returns-value]
        return built

    try:
        return json.loads(text, object_pairs_hook=build_object, parse_int=_parse_number), duplicates
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _make_document_error(f"not JSON: {error.msg[:1].lower()}{error.msg[1:]} ({where})") from None
    except RecursionError:
        raise _make_document_error(f"nested deeper than {MAX_DEPTH} levels") from None


def _decode_plain(raw: bytes) -> dict[str, Any] | None:
    """Decode a document that is written as a program writes it; return None for any other.

    To write what was read gives the same bytes, so no key was given twice, and no number is out of range.
    For 100,000 services that takes a third of the time.
    """
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    body = raw.removesuffix(b"\n")
    is_plain = any(orjson.dumps(document, option=form) == body for form in _PLAIN_FORMS)
    return document if is_plain and isinstance(document, dict) else None


class _ValueChecker:
    """Checks every value of a document, and notes the errors in the findings."""

    def __init__(self, duplicates: Duplicates, findings: Findings) -> None:
        self._duplicates = duplicates
        self._findings = findings

    def check_entries(
        self, place: Place, holder: dict[str, Any] | list[Any], *, secret: bool, number: bool
    ) -> None:
        """Check all entries of an object or a list, at any depth.

        `secret` and `number`: a key above says that texts, or numbers too, are secrets at this place.
        """
        if len(place) > MAX_DEPTH:
            self._findings.add_error(place, f"nested deeper than {MAX_DEPTH} levels")
            return
        if isinstance(holder, list):
            for index, value in enumerate(holder):
                self._check_value(place, index, value, secret=secret, number=number)
            return
        for key in self._duplicates.get(id(holder), ()):
            self._findings.add_error((*place, key), "given twice: keep one")
        holds_names = place in _NAME_PLACES
        for key, value in holder.items():
            if not (key.isascii() or _is_unicode(key)):
                self._findings.add_error((*place, key), f"the key {_NOT_TEXT}")
            if has_url_password(key):
                self._findings.add_error((*place, key), f"the key is {CREDENTIAL_IN_URL}")
            if holds_names and isinstance(value, dict):
                # a service may be called token_maker, which makes no value in its section a secret
                if place != _SERVICES:
                    self.check_entries((*place, key), value, secret=False, number=False)
            else:
                is_secret = secret or is_secret_key(key)
                self._check_value(
                    place,
                    key,
                    value,
                    secret=is_secret,
                    number=number or (is_secret and is_secret_number_key(key)),
                )

    def _check_value(self, place: Place, step: str | int, value: Any, *, secret: bool, number: bool) -> None:
        if isinstance(value, str):
            if secret or "://" in value or not value.isascii():
                self._check_text((*place, step), value, secret=secret)
        elif isinstance(value, (dict, list)):
            self.check_entries((*place, step), value, secret=secret, number=number)
        elif isinstance(value, float) and not math.isfinite(value):
            message = f"{format_value(value)} is not a finite number"
            self._findings.add_error((*place, step), message, unless_other=True)
        elif number and value is not None and not isinstance(value, bool):
            self._findings.add_error((*place, step), PLAIN_CREDENTIAL)

    def _check_text(self, place: Place, text: str, *, secret: bool) -> None:
        if not _is_unicode(text):
            self._findings.add_error(place, _NOT_TEXT)
        if has_url_password(text):
            self._findings.add_error(place, CREDENTIAL_IN_URL)
        elif secret and text and not is_reference(text):
            self._findings.add_error(place, PLAIN_CREDENTIAL)


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _parse_number(digits: str) -> int | float:
    # Python refuses integers of more than 4,300 digits, and no reader needs one of 400
    return int(digits) if len(digits) < 400 else float(digits)


def _make_document_error(message: str) -> TruthError:
    return TruthError([Problem(WHOLE_DOCUMENT, message)])


def build_truth(document: Any, duplicates: Duplicates, findings: Findings) -> Truth:
    """Build the truth of a decoded document. Note wrong parts in `findings` and leave them out."""
    if not isinstance(document, dict):
        kind = "text" if isinstance(document, str) else format_value(document)
        findings.add_error((), f"{kind} is not an object")
        return Truth()
    _note_unknown_keys((), document, _TOP_KEYS, findings.add_warning)
    if "version" in document:
        _validate(_VERSION, ("version",), document["version"], findings)
    fleet = _validate(_FLEET, ("fleet",), document["fleet"], findings) if "fleet" in document else None
    sections = _ServiceSections(document.get("services", {}), duplicates, findings)
    services = {
        name: service
        for name, section in _find_sections(document, "services", SERVICE_NAME, findings)
        if (service := sections.build(name, section)) is not None
    }
    buses = {
        name: bus
        for name, section in _find_sections(document, "buses", BUS_NAME, findings)
        if (bus := _build_bus(("buses", name), section, findings)) is not None
    }
    return Truth(fleet=fleet or "", buses=buses, services=services)


def _find_sections(
    document: dict[str, Any], kind: str, names: re.Pattern[str], findings: Findings
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the object of each section of `services` or `buses`, by `kind`.

    Note an error if there are no `services`, and for each section that has a wrong name or is not an object;
    a section with a wrong name is yielded nevertheless.
    """
    if kind not in document:
        if kind == "services":
            similar_key = find_nearest(kind, document)
            hint = f" (is {format_value(similar_key)} meant to be it?)" if similar_key is not None else ""
            findings.add_error((kind,), f"missing: an object, a section for each service{hint}")
        return
    sections = document[kind]
    if not isinstance(sections, dict):
        findings.add_error((kind,), f"{format_found((kind,), sections)} is not an object")
        return
    if not sections and kind == "services":
        findings.add_warning((kind,), "names no service")
    for name, section in sections.items():
        if not names.fullmatch(name):
            others = "_ . -" if names is SERVICE_NAME else "_ -"
            findings.add_error(
                (kind, name),
                f"{format_value(name)} is not a name: a letter, then up to 62 letters, digits or {others}",
            )
        if isinstance(section, dict):
            yield name, section
        else:
            findings.add_error((kind, name), f"{format_found((kind, name), section)} is not an object")


class _BuiltSection(NamedTuple):
    """A section, the service that it describes (None if it is not usable), and what was found in it."""

    section: dict[str, Any]
    service: Service | None
    findings: Findings


class _ServiceSections:
    """Checks and builds each different section of the services once; equal ones share the result.

    A hundred thousand services have a few different sections, as a rule. A channel that is the default one
    makes no difference. In `sections`, each is replaced by the one that it equals.
    """

    def __init__(self, sections: dict[str, Any], duplicates: Duplicates, findings: Findings) -> None:
        self._sections = sections
        self._duplicates = duplicates
        self._findings = findings
        self._built: dict[str | bytes, _BuiltSection] = {}  # by the text of the section

    def build(self, name: str, section: dict[str, Any]) -> Service | None:
        """Return None if no usable service is left. Note wrong values and unknown keys; leave them out."""
        key = None
        # a key that is given twice is found by its object; such a document is refused, however slowly
        if not self._duplicates:
            section = _mark_default_channel(name, section)
            key = _format_section(section)
        built = None if key is None else self._built.get(key)
        if built is None:
            built = self._build(("services", name), section)
            if key is not None and len(self._built) < MAX_SHARED:
                self._built[key] = built
        self._sections[name] = built.section  # the others go one by one, and not all at once in the end
        built.findings.repeat_at(("services", name), self._findings)
        return built.service

    def _build(self, place: Place, section: dict[str, Any]) -> _BuiltSection:
        found = Findings()
        checker = _ValueChecker(self._duplicates, found)
        checker.check_entries(place, section, secret=False, number=False)
        return _BuiltSection(section, _build_service(place, section, found), found)


def _mark_default_channel(name: str, section: dict[str, Any]) -> dict[str, Any]:
    """Return a section in which a channel that is the default one is `DEFAULT_CHANNEL`."""
    beat = section.get("heartbeat")
    if not isinstance(beat, dict) or beat.get("channel") != heartbeat_channel(name):
        return section
    if not SERVICE_NAME.fullmatch(name):
        return section
    return {**section, "heartbeat": {**beat, "channel": DEFAULT_CHANNEL}}


def _format_section(section: dict[str, Any]) -> str | bytes | None:
    """Return a text that only an equal section has; None for one that is nested too deep."""
    try:
        text = orjson.dumps(section)
        # JSON writes a number that is not finite like null
        return text if b"null" not in text else repr(section)
    except orjson.JSONEncodeError:  # it has what no JSON can, or is nested deep
        pass
    try:
        return repr(section)
    except RecursionError:
        return None


def _build_service(place: Place, section: dict[str, Any], findings: Findings) -> Service | None:
    _note_unknown_keys(place, section, _SERVICE_KEYS, findings.add_warning)
    for part, known in _STRICT_KEYS.items():
        _note_unknown_keys((*place, part), section.get(part), known, findings.add_error)
    points = section.get("access_points")
    if isinstance(points, dict):
        for kind in _STRICT_KEYS["access_points"]:
            entries = points.get(kind)
            for index, point in enumerate(entries if isinstance(entries, list) else ()):
                _note_unknown_keys(
                    (*place, "access_points", kind, index), point, _POINT_KEYS, findings.add_error
                )
    return _validate(_SERVICE, place, section, findings, _add_said)


def _add_said(section: dict[str, Any]) -> dict[str, Any]:
    """Give the heartbeat `said`: the keys that it sets."""
    beat = section.get("heartbeat", {})
    if not isinstance(beat, dict):
        return section
    return {**section, "heartbeat": {**beat, "said": _share_keys(tuple(beat))}}


@lru_cache(maxsize=256)
def _share_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return one shared tuple for all services that set the same keys."""
    return keys


def _build_bus(place: Place, section: dict[str, Any], findings: Findings) -> BusEntry | None:
    _note_unknown_keys(place, section, _BUS_KEYS, findings.add_error)
    return _validate(_BUS, place, section, findings)


def _note_unknown_keys(
    place: Place, values: Any, known: Sequence[str], note: Callable[[Place, str], None]
) -> None:
    if isinstance(values, dict) and not values.keys() <= set(known):
        for key in values.keys() - set(known):
            note((*place, key), "is not a known key" + format_hint(key, known))


def _validate(
    adapter: TypeAdapter[E],
    place: Place,
    values: Any,
    findings: Findings,
    add_defaults: Callable[[Any], Any] = lambda values: values,
) -> E | None:
    """Validate `values` at `place` in the document. Note wrong parts, and validate the rest without them.

    Return None if `values` as a whole, or what is left of it, is wrong.
    """
    try:
        return adapter.validate_python(add_defaults(values))
    except ValidationError as error:
        errors = error.errors(include_url=False)
    for wrong in errors:
        where: Place = (*place, *wrong["loc"])
        if wrong["type"] == "missing":
            message = _MISSING.get(str(where[-1]), "missing")
        else:
            message = f"{format_found(where, wrong['input'])} {format_mismatch(wrong)}"
        findings.add_error(where, message)
    if () in (wrong["loc"] for wrong in errors):
        return None
    try:
        return adapter.validate_python(add_defaults(_remove_wrong_values(values, errors)))
    except ValidationError:
        return None


def _remove_wrong_values(values: Any, errors: Iterable[ErrorDetails]) -> Any:
    """Return a copy of `values` without the values at the places of `errors`.

    In a list, a wrong access point becomes `_PLACEHOLDER_POINT` and any other item an empty text, so that no
    index shifts.
    """
    right_values = map_texts(values, str)  # a copy: no text is another one
    places = [error["loc"] for error in errors]
    for place in sorted(places, key=len):
        points = place[:1] == ("access_points",) and len(place) > 2
        *parents, last = place[:3] if points else place
        holder = right_values
        for step in parents:
            holder = holder[step]
        if isinstance(holder, list):
            holder[int(last)] = _PLACEHOLDER_POINT if points else ""
        else:
            holder.pop(last, None)
    return right_values
