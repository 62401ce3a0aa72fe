"""Publish announcements for clients with a token, and read them for the public page."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

from pydantic import Field

from marketswarm.bus import Bus, BusError
from marketswarm.operator.announcements import (
    MAX_CHARS,
    MAX_TAGS,
    Announcement,
    AnnouncementEntry,
    AnnouncementState,
    create_announcement_id,
    fold_announcements,
    read_announcements,
    write_announcement,
)
from marketswarm.operator.audit import Act, Action, AuditOutcome
from marketswarm.operator.fields import Epoch, Name
from marketswarm.web.audit import AuditLog
from marketswarm.web.cache import Cached
from marketswarm.web.limits import RefusedError, refuse_without_bus, require_found
from marketswarm.web.tokens import Client
from services.board.actions.steering import Line, VerbBody
from services.board.settings import PublicSettings

FRESH_SEC: Final = 2.0  # so long it is not read again, because everyone may ask for the public page


class AnnouncementBody(VerbBody):
    """An announcement: an incident or, with a begin and an end, maintenance; times are epoch seconds.

    `author` is by default the token's name. `tags` are public tags; without one it concerns everything.
    """

    title: Line
    text: Annotated[str, Field(min_length=1, max_length=MAX_CHARS)]
    state: AnnouncementState | None = None
    tags: Annotated[tuple[Name, ...], Field(max_length=MAX_TAGS)] = ()
    begins_at: Epoch | None = None
    ends_at: Epoch | None = None
    author: Line | None = None


class AnnouncementUpdateBody(VerbBody):
    """An update of an announcement: what is not given stays as it was."""

    text: Annotated[str, Field(min_length=1, max_length=MAX_CHARS)]
    state: AnnouncementState | None = None
    title: Line | None = None
    begins_at: Epoch | None = None
    ends_at: Epoch | None = None
    author: Line | None = None


@dataclass(slots=True)
class AnnouncementBoard:
    """The announcements of a fleet on `bus`; `public` is what the truth marks public."""

    bus: Callable[[], Bus]
    audit: AuditLog
    public: Callable[[], PublicSettings]
    problem: str | None = field(default=None, init=False)
    """Why they could not be read the last time; None if they could."""
    _known: tuple[Announcement, ...] = field(default=(), init=False)
    _looks: Cached[str, tuple[Announcement, ...]] = field(
        default_factory=lambda: Cached(FRESH_SEC), init=False
    )

    async def read(self) -> tuple[Announcement, ...]:
        """Return what was read last if the bus does not answer."""
        return await self._looks.find("", self._look)

    async def _look(self) -> tuple[Announcement, ...]:
        try:
            self._known, self.problem = await read_announcements(self.bus()), None
        except BusError as error:
            self.problem = f"bus {error.bus}: {error.reason}"
        return self._known

    async def publish(self, client: Client, body: AnnouncementBody, now: float) -> Announcement:
        """Publish a new announcement at `now` (epoch seconds).

        Its state is by default `scheduled` for maintenance, and `investigating` for an incident. Raises
        RefusedError, and ValidationError if a value is out of bounds.
        """
        usual = AnnouncementState.INVESTIGATING if body.begins_at is None else AnnouncementState.SCHEDULED
        given = body.model_dump() | {"author": body.author or client.name, "state": body.state or usual}
        entry = AnnouncementEntry(id=create_announcement_id(), ts=now, **given)
        self._check_tags(entry)
        await self._write(client, Action.ANNOUNCE, entry)
        return fold_announcements([entry])[0]

    async def update(
        self, client: Client, body: AnnouncementUpdateBody, ident: str, now: float
    ) -> Announcement:
        """Publish an update of an announcement at `now` (epoch seconds). Raises as `publish`."""
        with refuse_without_bus():
            found = await read_announcements(self.bus())
        known = require_found(next((one for one in found if one.latest.id == ident), None), "announcement")
        changes = body.model_dump(exclude_none=True) | {"author": body.author or client.name}
        entry = replace(known.latest, ts=max(now, known.latest.ts), **changes)
        self._check_tags(entry)
        await self._write(client, Action.UPDATE_ANNOUNCEMENT, entry)
        return Announcement((entry, *known.updates))

    def _check_tags(self, entry: AnnouncementEntry) -> None:
        unknown = set(entry.tags) - set(self.public().tags)
        if unknown:
            raise RefusedError(422, f"the truth does not mark the tag {min(unknown)} as public")

    async def _write(self, client: Client, action: Action, entry: AnnouncementEntry) -> None:
        detail = f"{entry.state}: {entry.title} ({entry.author})"
        act = Act(action, entry.id, client.token, client.address, detail)
        async with self.audit.around(act):
            await write_announcement(self.bus(), entry)
        await self.audit.end(act, AuditOutcome.DONE)
        self._looks.clear()
