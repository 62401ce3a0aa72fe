"""Add, change, pause and remove a service or a web page in the text of a valid truth. Pure.

Each function takes the text of a valid document, and returns the changed text or raises EditError. A page is
a target of massive's probes, and is called `massive/shop`. Not here: whether the result is valid. That is for
the one check of documents, so a value that `marketswarm validate` refuses is refused here in its words.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final, Literal

from marketswarm.keys import MASSIVE_ALERTS, MASSIVE_PROBES, MASSIVE_ROSTER, heartbeat_channel
from marketswarm.truth.document_text import remove_value, set_value
from marketswarm.truth.errors import Place, describe_unknown
from marketswarm.truth.model import HEALER, MARKET, SYSTEM
from marketswarm.truth.schedule import DEFAULT_GRACE_SEC

MASSIVE: Final = "massive"
"""The service that probes web pages."""
DAEMON_EVERY_SEC: Final = 60.0
"""How often a daemon beats by default: cron can do no better."""
BEATS_TO_MISS: Final = 3
"""The default timeout of a daemon, in intervals."""
_TARGETS: Final[Place] = ("services", MASSIVE, "settings", "targets")
_MASSIVE_SECTION: Final[Mapping[str, Any]] = {
    "description": "Probes web pages",
    "access_points": {
        "publish_to": [
            {"bus": MARKET, "key": MASSIVE_PROBES},
            {"bus": SYSTEM, "key": MASSIVE_ROSTER},
            {"bus": SYSTEM, "key": MASSIVE_ALERTS},
            {"bus": SYSTEM, "key": heartbeat_channel(MASSIVE)},
        ]
    },
    "settings": {"targets": []},
}
_SERVICE_PLACES: Final[Mapping[str, Place]] = {
    "description": ("description",),
    "tags": ("tags",),
    "depends_on": ("depends_on",),
    "severity": ("severity",),
    "every_sec": ("heartbeat", "interval_sec"),
    "timeout_sec": ("heartbeat", "timeout_sec"),
    "schedule": ("heartbeat", "schedule"),
    "time_zone": ("heartbeat", "time_zone"),
    "grace_sec": ("heartbeat", "grace_sec"),
    "max_run_sec": ("heartbeat", "max_run_sec"),
}
"""Where the section of a service has each field, in the order in which they are written."""
_PAGE_PLACES: Final[Mapping[str, Place]] = {
    name: (name,)
    for name in ("url", "contains", "status", "every_sec", "timeout_sec", "severity", "tags", "depends_on")
}
_OF_INTERVAL: Final = ("every_sec", "timeout_sec")
_OF_SCHEDULE: Final = ("schedule", "time_zone", "grace_sec")


Seconds = float | Literal[""]
"""A time in seconds; the empty text removes the key, as it does for texts."""


class EditError(ValueError):
    """The document can't be changed in this way; the message says why, and what can be done."""


class AddedKind(StrEnum):
    """What can be added: a program that beats, one that runs at times, and a page that massive probes."""

    DAEMON = "daemon"
    JOB = "job"
    PAGE = "page"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFields:
    """What a person sets of a service or a page. None leaves a key as it is, an empty value removes it.

    Times are in seconds. `url`, `contains` and `status` (the HTTP statuses that are right) are of pages,
    `schedule` to `max_run_sec` of jobs.
    """

    description: str | None = None
    tags: tuple[str, ...] | None = None
    depends_on: tuple[str, ...] | None = None
    severity: str | None = None
    every_sec: Seconds | None = None
    timeout_sec: Seconds | None = None
    schedule: str | None = None
    time_zone: str | None = None
    grace_sec: Seconds | None = None
    max_run_sec: Seconds | None = None
    url: str | None = None
    contains: str | None = None
    status: tuple[int | str, ...] | None = None

    def list_given(self) -> dict[str, Any]:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class TruthEntry:
    """A service or a page as the truth has it: each of its fields that has a value, and whether it is paused.

    Values are as the document has them, so a field that is left out has its default.
    """

    is_page: bool
    is_paused: bool
    fields: Mapping[str, Any]


def page_name(target: str) -> str:
    """Return what a page is called wherever services are named: `massive/shop`."""
    return f"{MASSIVE}/{target}"


def add_entry(text: str, kind: AddedKind, name: str, given: EntryFields) -> str:
    """Return the text with one more service, or one more page for massive to probe, after all others."""
    if kind is AddedKind.PAGE:
        return _add_page(text, name, given)
    if name in _read_services(text):
        raise EditError(f"the truth has a service {name} already: edit it, or remove it first")
    has_interval = given.every_sec not in (None, "")
    if kind is AddedKind.JOB and given.schedule and has_interval:
        raise EditError("a job has a schedule or an interval, not both")
    if kind is AddedKind.JOB and not given.schedule and not has_interval:
        raise EditError(
            "say when the job runs: a schedule, such as 0 3 * * * or Mon..Fri 18:30,"
            " or an interval, such as 1d"
        )
    section: dict[str, Any] = {}
    for field, value in _find_defaults(kind, given).items():
        _put(section, _SERVICE_PLACES, field, value, name)
    return set_value(text, ("services", name), section)


def read_entry(text: str, name: str) -> TruthEntry:
    """Return what a valid truth says of a service or a page. Raises EditError for another name."""
    place = _find_place(text, name)
    is_page = place[:-1] == _TARGETS
    places, section = _PAGE_PLACES if is_page else _SERVICE_PLACES, _read(text, place)
    known = {field: _find(section, at) for field, at in places.items()}
    given = {field: value for field, value in known.items() if value is not None}
    return TruthEntry(is_page, _read(text, _find_switch(place)) is False, given)


def edit_entry(text: str, name: str, given: EntryFields) -> str:
    """Return the text with some fields of a service or a page changed.

    A job gets a schedule in place of its interval and timeout, or an interval in place of its schedule.
    """
    place = _find_place(text, name)
    places = _PAGE_PLACES if place[:-1] == _TARGETS else _SERVICE_PLACES
    changes = given.list_given()
    if not changes:
        raise EditError(f"nothing is to be changed of {name}")
    dropped = _OF_INTERVAL if changes.get("schedule") else _OF_SCHEDULE if changes.get("every_sec") else ()
    for field in dropped if places is _SERVICE_PLACES else ():
        if field not in changes:
            text = remove_value(text, (*place, *places[field]))
    for field, value in changes.items():
        where = (*place, *_require_place(places, field, name))
        is_removed = isinstance(value, str | tuple) and not value
        text = remove_value(text, where) if is_removed else set_value(text, where, _plain(value))
    return text


def pause_entry(text: str, name: str) -> str:
    """Return the text with a service that the healer does not monitor, or a page whose loss is no alert."""
    place = _find_place(text, name)
    where = _find_switch(place)
    if _read(text, where) is False:
        raise EditError(f"{name} is paused already")
    return set_value(text, where, value=False)


def resume_entry(text: str, name: str) -> str:
    """Return the text without the pause of a service or a page."""
    place = _find_place(text, name)
    where = _find_switch(place)
    if _read(text, where) is not False:
        raise EditError(f"{name} is not paused")
    text = remove_value(text, where)
    heartbeat = (*place, "heartbeat")  # `pause_entry` may have added it
    return remove_value(text, heartbeat) if _read(text, heartbeat) == {} else text


def remove_entry(text: str, name: str) -> str:
    """Return the text without a service, and without what has the healer listen for it, or without a page."""
    place = _find_place(text, name)
    if place[:-1] == _TARGETS:
        return remove_value(text, place)
    found = _read(text, (*place, "heartbeat", "channel"))
    channel = found if isinstance(found, str) else heartbeat_channel(name)
    heard = ("services", HEALER, "access_points", "subscribe_to")
    points = enumerate(_read(text, heard) or ()) if name != HEALER else ()
    for index in reversed([index for index, point in points if point.get("key") == channel]):
        text = remove_value(text, (*heard, index))
    return remove_value(text, place)


def diff_texts(before: str, after: str) -> tuple[str, ...]:
    """Return what changed from one text to another, as the lines of a unified difference without its head."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2)
    return tuple(line for number, line in enumerate(lines) if number > 1)


def _add_page(text: str, name: str, given: EntryFields) -> str:
    if not given.url:
        raise EditError("a page needs its address: https://shop.example/health")
    if MASSIVE not in _read_services(text):
        text = set_value(text, ("services", MASSIVE), _MASSIVE_SECTION)
    if page_name(name) in dict(_find_pages(text)):
        raise EditError(f"the truth has a page {page_name(name)} already: edit it, or remove it first")
    target: dict[str, Any] = {"name": name, "url": given.url}  # the first ones in the text
    for field, value in given.list_given().items():
        _put(target, _PAGE_PLACES, field, value, page_name(name))
    return set_value(text, (*_TARGETS, len(_read_targets(text))), target)


def _find_defaults(kind: AddedKind, given: EntryFields) -> dict[str, Any]:
    """Return the fields of a new service, with those that are not given and that it needs."""
    found = {field: value for field, value in given.list_given().items() if value != ""}
    if kind is AddedKind.DAEMON:
        found.setdefault("every_sec", DAEMON_EVERY_SEC)
        found.setdefault("timeout_sec", BEATS_TO_MISS * found["every_sec"])
    elif "every_sec" in found:
        grace_sec = found.pop("grace_sec", DEFAULT_GRACE_SEC)
        found.setdefault("timeout_sec", found["every_sec"] + grace_sec)
    return {field: found[field] for field in (*_SERVICE_PLACES, *found) if field in found}


def _put(section: dict[str, Any], places: Mapping[str, Place], field: str, value: Any, name: str) -> None:
    """Set a field in a new section, unless it is empty."""
    if isinstance(value, str | tuple) and not value:
        return
    *holders, key = _require_place(places, field, name)
    for holder in holders:
        section = section.setdefault(str(holder), {})
    section[str(key)] = _plain(value)


def _require_place(places: Mapping[str, Place], field: str, name: str) -> Place:
    if field not in places:
        what = "a page that massive probes" if places is _PAGE_PLACES else "a service"
        raise EditError(f"{name} is {what}, which has no {field.removesuffix('_sec')}")
    return places[field]


def _plain(value: Any) -> Any:
    """Return a value as people write it in JSON: a list for a tuple, `60` for 60.0."""
    if isinstance(value, tuple):
        return list(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _find_switch(place: Place) -> Place:
    return (*place, "alert") if place[:-1] == _TARGETS else (*place, "heartbeat", "monitored")


def _find_place(text: str, name: str) -> Place:
    services = _read_services(text)
    if name in services:
        return ("services", name)
    pages = dict(_find_pages(text))
    if name in pages:
        return (*_TARGETS, pages[name])
    raise EditError(describe_unknown(name, [*services, *pages]))


def _find_pages(text: str) -> Iterator[tuple[str, int]]:
    for index, each in enumerate(_read_targets(text)):
        if isinstance(each, dict) and isinstance(each.get("name"), str):
            yield page_name(each["name"]), index


def _read_targets(text: str) -> list[Any]:
    found = _read(text, _TARGETS)
    return found if isinstance(found, list) else []


def _read_services(text: str) -> dict[str, Any]:
    found = _read(text, ("services",))
    return found if isinstance(found, dict) else {}


def _read(text: str, place: Place) -> Any:
    """Return the value at a place; None if it is missing."""
    return _find(json.loads(text), place)


def _find(found: Any, place: Place) -> Any:
    """Return the value at a place within another one; None if it is missing."""
    for step in place:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            return None
    return found
