"""Read the document of the truth and its revisions, without the passwords in them."""

import contextlib
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

import orjson

from marketswarm.bus import Bus, BusError
from marketswarm.log import CREDENTIALS
from marketswarm.status import revisions
from marketswarm.text import escape_lines

MAX_DOCUMENT_BYTES: Final = 16 * 1024 * 1024
MAX_SHOWN_BYTES: Final = 1024 * 1024  # the longest document that is shown and compared
MAX_DIFF_LINES: Final = 2000
_TOO_LONG: Final = "The document is too long to be shown: marketswarm truth shows it."
_SECRET: Final = re.compile(r"(?i)(password|passwd|secret|token|api_?key|credential)")
HIDDEN: Final = "…"


@dataclass(frozen=True, slots=True)
class RevisionView:
    """A revision of the truth; `seeded_at` is in epoch seconds, None if it is unknown."""

    revision: int
    seeded_at: float | None
    seeded_by: str
    sha256: str


@dataclass(frozen=True, slots=True)
class DiffLine:
    """A line of the difference of two documents: ` ` is in both, `-` in the older, `+` in the newer one."""

    mark: Literal[" ", "-", "+", "@"]
    text: str


@dataclass(frozen=True, slots=True)
class TruthText:
    """A document as text for people, and the entries of its services."""

    text: str = ""
    services: dict[str, Any] | None = None

    def section(self, svc: str) -> str:
        """Return a service's section as indented JSON; an empty text if it is missing."""
        found = (self.services or {}).get(svc)
        return "" if found is None else format_json(found)


async def read_document(buses: Sequence[Bus], key: str) -> TruthText:
    """Return the document of the first bus that has one under `key`; an empty one if none has."""
    for bus in buses:
        with contextlib.suppress(BusError):
            raw = await bus.ask(bus.client.get(key), max_bytes=MAX_DOCUMENT_BYTES + 1024)
            if isinstance(raw, bytes):
                return parse_document(raw)
    return TruthText()


def parse_document(raw: bytes) -> TruthText:
    """Return a document in which nothing is secret and every character can be shown."""
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return TruthText("The document is not JSON.")
    hidden = hide_secrets(found)
    services = hidden.get("services") if isinstance(hidden, dict) else None
    text = format_json(hidden) if len(raw) <= MAX_SHOWN_BYTES else _TOO_LONG
    return TruthText(text, services if isinstance(services, dict) else None)


def hide_secrets(value: Any) -> Any:
    """Return a value of a document without passwords in URLs, and without texts whose key names a secret.

    A reference such as `env:NAME` stays, because it is not a secret.
    """
    if isinstance(value, dict):
        return {
            key: HIDDEN
            if isinstance(one, str) and _SECRET.search(key) and not one.startswith("env:")
            else hide_secrets(one)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [hide_secrets(one) for one in value]
    return CREDENTIALS.sub("", value) if isinstance(value, str) else value


async def read_revisions(bus: Bus) -> tuple[RevisionView, ...]:
    return tuple(
        [
            RevisionView(one.number, one.seeded_at, escape_lines(one.seeded_by), one.sha256)
            async for one in revisions.read_revisions(bus)
        ]
    )


async def read_revisions_of(buses: Sequence[Bus]) -> tuple[RevisionView, ...]:
    """Return the revisions that the first bus that answers knows. Raises BusError if none answers."""
    for bus in buses[:-1]:
        with contextlib.suppress(BusError):
            return await read_revisions(bus)
    return await read_revisions(buses[-1])


async def read_revision(bus: Bus, revision: int) -> TruthText | None:
    async for one in revisions.read_revisions(bus):
        if one.number == revision:
            return parse_document(one.document)
    return None


def diff_documents(older: TruthText, newer: TruthText) -> tuple[DiffLine, ...]:
    lines = difflib.unified_diff(older.text.splitlines(), newer.text.splitlines(), lineterm="", n=3)
    shown = islice(lines, 2, 2 + MAX_DIFF_LINES)  # the first two would name files
    return tuple(DiffLine(line[0], line[1:]) for line in shown)  # type: ignore[arg-type]


def format_json(value: Any) -> str:
    """Return JSON with indents, for people, in which every character can be shown."""
    return escape_lines(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
