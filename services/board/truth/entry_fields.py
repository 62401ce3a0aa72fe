"""Turn the fields of an entry of the truth into the texts of a form, and back. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any, Final

from marketswarm.text import escape_text
from marketswarm.truth.document_edit import EditError, EntryFields, Seconds

_SECONDS: Final = {
    "every_sec": "how often",
    "timeout_sec": "the timeout",
    "grace_sec": "the grace",
    "max_run_sec": "the longest run",
}
"""By field that is a number of seconds, what it is called."""
_LISTS: Final = ("tags", "depends_on")


@dataclass(frozen=True, slots=True)
class FormField:
    """A field of a form: what it is called, an example, its type in HTML, and its longest value."""

    name: str
    label: str
    example: str = ""
    type: str = "text"
    most: int = 200
    is_needed: bool = False


_FORM: Final = {
    each.name: each
    for each in (
        FormField("schedule", "When it runs, as cron or systemd write it", "0 3 * * *"),
        FormField("time_zone", "Time zone of that", "Europe/Berlin"),
        FormField("grace_sec", "Overdue so many seconds after its time", "3600"),
        FormField("max_run_sec", "The longest run in seconds", "7200"),
        FormField("every_sec", "Beats every so many seconds", "60"),
        FormField("timeout_sec", "Down after so many seconds of silence", "180"),
        FormField("url", "Address", "https://shop.example/health", "url", 2000),
        FormField("contains", "Text that must be in it", "ok", most=1000),
        FormField("description", "What it is for", most=500),
        FormField("tags", "Tags, with commas between them", "ingest, night", most=2000),
        FormField("depends_on", "What it needs to work, with commas between them", "mysql", most=2000),
        FormField("severity", "Severity"),
    )
}
_OF_PAGE: Final = {
    "every_sec": FormField("every_sec", "Probed every so many seconds", "15"),
    "timeout_sec": FormField("timeout_sec", "A probe may take so many seconds", "10"),
}
"""The fields that mean something else for a page."""


def list_form(
    names: Iterable[str], *, needed: Collection[str] = (), is_page: bool = False
) -> tuple[FormField, ...]:
    """Return the fields of a form in this order; those that are `needed` can't be left empty."""
    known = {**_FORM, **(_OF_PAGE if is_page else {})}
    return tuple(replace(known[name], is_needed=name in needed) for name in names)


def format_field(value: Any) -> str:
    """Return the value that a document has for a field as the text of a form, on one line."""
    if isinstance(value, list | tuple):
        return escape_text(", ".join(map(str, value)))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.12g}"
    return escape_text(str(value))


def parse_fields(typed: Mapping[str, str]) -> EntryFields:
    """Return what was typed, by field; an empty text removes a field.

    Raises EditError for what is not a number of seconds.
    """
    found: dict[str, Any] = {}
    for name, text in typed.items():
        if name in _LISTS:
            found[name] = tuple(each.strip() for each in text.split(",") if each.strip())
        else:
            found[name] = _parse_seconds(_SECONDS[name], text) if name in _SECONDS else text
    return EntryFields(**found)


def _parse_seconds(what: str, text: str) -> Seconds:
    if not text:
        return ""
    try:
        number = float(text)
    except ValueError:
        number = inf
    if not isfinite(number):
        raise EditError(f"{what} is not a number of seconds: write 60")
    return number
