"""Define what a form changes of one entry of the truth, as a value that its review sends again. Pure.

The change goes with the form, not only the document that it made. So it is applied to the truth that is in
force when it is seeded, and what others have changed meanwhile is not undone.
"""

import shlex
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from marketswarm.operator.fields import STRICT
from marketswarm.text import escape_json
from marketswarm.truth.document_edit import (
    MASSIVE,
    AddedKind,
    EntryFields,
    add_entry,
    edit_entry,
    page_name,
    pause_entry,
    remove_entry,
    resume_entry,
)
from marketswarm.web.limits import RefusedError

MAX_CHANGE_CHARS: Final = 16_384
_OPTIONS: Final = {
    "url": "--url",
    "contains": "--contains",
    "schedule": "--schedule",
    "time_zone": "--zone",
    "every_sec": "--every",
    "timeout_sec": "--timeout",
    "grace_sec": "--grace",
    "max_run_sec": "--max-run",
    "description": "--description",
    "tags": "--tag",
    "depends_on": "--depends-on",
    "severity": "--severity",
}
"""The option of `marketswarm add` and `edit` for each field, in the order of a command."""


class Verb(StrEnum):
    """What can be done to an entry; the words are those of the commands."""

    ADD = "add"
    EDIT = "edit"
    PAUSE = "pause"
    RESUME = "resume"
    REMOVE = "remove"


_SWITCHES: Final = {Verb.PAUSE: pause_entry, Verb.RESUME: resume_entry, Verb.REMOVE: remove_entry}
"""What makes the changes that need only the name of an entry."""


@dataclass(frozen=True, slots=True, config=STRICT)
class EntryChange:
    """What is done to an entry of the truth. `fields` are for `add` and `edit`, and `kind` is for `add`.

    A page has the name that is added, `shop`, and later that by which it is known, `massive/shop`.
    `elsewhere` says that what is added runs on another machine, so its lines are to be pasted there.
    """

    verb: Verb
    name: str
    fields: EntryFields = EntryFields()
    kind: AddedKind = AddedKind.JOB
    elsewhere: bool = False

    def apply(self, text: str) -> str:
        """Return the changed text of a valid document. Raises EditError."""
        if self.verb is Verb.ADD:
            return add_entry(text, self.kind, self.name, self.fields)
        if self.verb is Verb.EDIT:
            return edit_entry(text, self.name, self.fields)
        return _SWITCHES[self.verb](text, self.name)

    def encode(self) -> str:
        """Return the change as JSON in which no character hides others."""
        return escape_json(_ADAPTER.dump_json(self, exclude_none=True)).decode()

    def write_command(self) -> str:
        """Return the command that does the same, each word quoted for a shell."""
        words = ["marketswarm", str(self.verb)]
        given = self.fields.list_given()
        if self.verb is Verb.ADD:
            words += [self.kind, self.name, *([given.pop("url")] if given.get("url") else [])]
        else:
            words.append(self.name)
        for field, option in _OPTIONS.items():
            words += [f"{option}={each}" for each in _list_values(given.get(field))]
        return shlex.join(words)

    def find_page(self) -> str:
        """Return the path, with a query, of the page that shows what the change did."""
        svc = quote(self.name, safe="")
        if self.verb is Verb.ADD and self.kind is not AddedKind.PAGE:
            return f"/truth/added?svc={svc}{'&place=elsewhere' if self.elsewhere else ''}&"
        full_name = page_name(self.name) if self.verb is Verb.ADD else self.name
        is_gone = self.verb is Verb.REMOVE or full_name.startswith(f"{MASSIVE}/")
        return "/truth?" if is_gone else f"/services/{svc}?"


_ADAPTER: Final = TypeAdapter(EntryChange)


def parse_change(text: str) -> EntryChange:
    """Return the change that a form has sent. Raises RefusedError, 422, for anything else."""
    try:
        return _ADAPTER.validate_json(text[:MAX_CHANGE_CHARS])
    except ValidationError:
        raise RefusedError(422, "the form can't be read: load the page again") from None


def _list_values(value: Any) -> list[str]:
    """Return the values of an option as the words of a command; none for a field that is not given."""
    if value is None:
        return []
    if isinstance(value, tuple):
        return list(value) or [""]
    return [f"{value:.12g}s" if isinstance(value, int | float) else value]
