"""From plain values to the entries of a truth: types, bounds, unknown keys, one section at a time.

A wrong value is noted and left out, so that the rest of its section can still be looked at and every mistake
comes to light at once. Not here: what sections have to do with each other (`clashes.py`).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from marketswarm.truth.document import Truth
from marketswarm.truth.entries import BUS_NAME, HEARTBEAT, SERVICE_NAME, SYSTEM, BusEntry, Service, Version
from marketswarm.truth.problems import Findings, Place, found, hint, nearest, show

_SERVICE: Final = TypeAdapter(Service)
_BUS: Final = TypeAdapter(BusEntry)
_VERSION: Final[TypeAdapter[int]] = TypeAdapter(Version)

_TOP_KEYS: Final = ("services", "buses", "version")
_SERVICE_KEYS: Final = tuple(Service.__dataclass_fields__)
_BUS_KEYS: Final = ("url",)
# the parts of a service in which a key that nobody reads is a mistake
_STRICT_KEYS: Final = {
    "heartbeat": ("channel", "interval_sec", "redis_url", "timeout_sec", "monitored"),
    "threshold": ("heartbeat_cadence", "bus_timeout_sec"),
    "access_points": ("subscribe_to", "publish_to"),
}
_POINT_KEYS: Final = ("bus", "key")
_ANY_POINT: Final = {"bus": SYSTEM, "key": "-"}  # where one was wrong

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
    """The truth that a document describes, without what is wrong in it, which is noted."""
    if not isinstance(document, dict):
        findings.error((), f"{_kind(document)} is not an object")
        return Truth()
    _unknown((), document, _TOP_KEYS, findings.warn)
    if "version" in document:
        _checked(_VERSION, ("version",), document["version"], findings)
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
    return Truth(buses=buses, services=services)


def _sections(
    document: dict[str, Any], kind: str, names: re.Pattern[str], findings: Findings
) -> Iterator[tuple[str, dict[str, Any]]]:
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
    """What to look at instead, if anything is near."""
    return f" (is {show(near)} meant to be it?)" if near is not None else ""


def _service(place: Place, name: str, section: dict[str, Any], findings: Findings) -> Service | None:
    _unknown(place, section, _SERVICE_KEYS, findings.warn)
    for part, known in _STRICT_KEYS.items():
        _unknown((*place, part), section.get(part), known, findings.error)
    points = section.get("access_points")
    if isinstance(points, dict):
        for kind in _STRICT_KEYS["access_points"]:
            for index, point in enumerate(_items(points.get(kind))):
                _unknown((*place, "access_points", kind, index), point, _POINT_KEYS, findings.error)

    # a name that is wrong is told already; what follows from it is not wrong once more
    channel = (name if SERVICE_NAME.fullmatch(name) else "any") + HEARTBEAT

    def with_channel(values: dict[str, Any]) -> dict[str, Any]:
        beat = values.get("heartbeat", {})
        if not isinstance(beat, dict):
            return values
        return {**values, "heartbeat": {"channel": channel, **beat, "said": _said(tuple(beat))}}

    return _checked(_SERVICE, place, section, findings, with_channel)


@lru_cache(maxsize=256)
def _said(keys: tuple[str, ...]) -> tuple[str, ...]:
    """One and the same tuple for all services that say the same."""
    return keys


def _bus(place: Place, section: dict[str, Any], findings: Findings) -> BusEntry | None:
    _unknown(place, section, _BUS_KEYS, findings.error)
    return _checked(_BUS, place, section, findings)


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _unknown(place: Place, values: Any, known: Sequence[str], note: Note) -> None:
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
    """The entry that `values` make; what is wrong is noted and left out, and None if nothing is left."""
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
    if mistake["type"] == "missing":
        return _MISSING.get(str(place[-1]), "missing")
    shown = found(place, mistake["input"])
    if mistake["type"] in _SHAPES:
        return f"{shown} is not {_SHAPES[mistake['type']]}"
    return f"{shown} {mistake['msg']}"


def _without(values: Any, mistakes: Iterable[ErrorDetails]) -> Any:
    """A copy with nothing wrong left in it; items of lists are replaced, so that no index shifts."""
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
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _kind(value: Any) -> str:
    return "text" if isinstance(value, str) else show(value)
