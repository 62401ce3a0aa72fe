"""Make announcements of what a form of the page `/announcements` says."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime

from marketswarm.operator.announcement import AnnouncementEntry, AnnouncementState
from marketswarm.operator_link.announcements import create_announcement_id
from services.board.announcements import AnnouncementBoard, choose_state
from services.board.refusal import RefusedError
from services.board.session_gate import SentForm
from services.board.sessions import PageNotice


async def publish_form(announcements: AnnouncementBoard, form: SentForm) -> PageNotice:
    """Publish a new announcement."""
    fields, now = form.fields, time.time()
    begins_at, ends_at = parse_moment(fields.get("begins", "")), parse_moment(fields.get("ends", ""))
    entry = AnnouncementEntry(
        id=create_announcement_id(),
        ts=now,
        title=fields.get("title", ""),
        text=read_lines(fields),
        state=choose_state(read_state(fields), begins_at),
        author=_read_author(form),
        tags=tuple(filter(None, (fields.get("tag"),))),
        begins_at=begins_at,
        ends_at=ends_at,
    )
    found = await announcements.publish(form.client, entry)
    return PageNotice(f"Published: {found.latest.title}.")


async def update_form(announcements: AnnouncementBoard, form: SentForm) -> PageNotice:
    """Publish an update of an announcement."""
    fields = form.fields
    found = await announcements.update(
        form.client,
        fields.get("id", ""),
        time.time(),
        text=read_lines(fields),
        state=read_state(fields),
        author=_read_author(form),
    )
    return PageNotice(f"{found.latest.title}: the update is published.")


def _read_author(form: SentForm) -> str:
    """Return the name of who wrote a form, which the next forms propose."""
    author = form.fields.get("by") or form.session.token.name
    form.session.author = author
    return author


def read_state(fields: Mapping[str, str]) -> AnnouncementState | None:
    """Return the state that a form names; None for one that leaves it as it is. Raises RefusedError."""
    word = fields.get("state", "")
    try:
        return AnnouncementState(word) if word else None
    except ValueError:
        raise RefusedError(422, "there is no such state") from None


def read_lines(fields: Mapping[str, str]) -> str:
    """Return the text of a form; a browser ends its lines with CR and LF."""
    return fields.get("text", "").replace("\r\n", "\n").replace("\r", "\n")


def parse_moment(text: str) -> float | None:
    """Return a date and time in UTC, as a browser sends it, in epoch seconds; None for an empty text.

    Raises RefusedError for any other text.
    """
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        raise RefusedError(422, "a begin and an end are a date and a time") from None
