"""Hold the ends of what people heard of for channels that can't be opened, and release them later. Pure.

An end goes where its beginning went, and to no channel that never heard of it. While one of these channels
can't be opened, its end waits here, for a day at most. It is sent when the channel is open and all is well: a
channel that is told late that one outage is over must not read that as the end of another one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from typing import Final

from notifier.router.incident import LATE_END, Incident, Notice, NoticeKind
from notifier.router.incident_state import IncidentState, find_state
from notifier.router.pending import PendingNotices, StoredNotices
from notifier.router.suppression import Suppression
from notifier.router.timers import CHECK_EVERY_SEC

MAX_HELD_ENDS: Final = 10_000
"""The most notices that are held for channels that can't be opened."""
FORGOTTEN_SEC: Final = 86_400.0
"""How long an end is held, in seconds."""


class LateEnds(StoredNotices):
    """Notices that something ended, each for one channel that heard of its beginning and can't be opened.

    It decides which are held, and when one may be sent.

    Args:
        prefix: what the name of a field of the stored state begins with; the notice's id follows.
        incidents: those of the router, by key.
    """

    def __init__(
        self,
        prefix: str,
        incidents: Mapping[str, Incident],
        pending: PendingNotices,
        suppression: Suppression,
    ) -> None:
        super().__init__(prefix)
        self._incidents, self._pending, self._suppression = incidents, pending, suppression
        self._ids_by_channel: dict[str, dict[str, None]] = {}
        self._checked_at = float("-inf")

    def put(self, notice: Notice) -> None:
        """Add a notice for one channel; drop the oldest one beyond MAX_HELD_ENDS. Ignore any other notice."""
        if len(notice.channels) != 1:
            return
        super().put(notice)
        self._ids_by_channel.setdefault(notice.channels[0], {})[notice.id] = None
        if len(self.notices) > MAX_HELD_ENDS:
            self.drop(next(iter(self.notices)))

    def drop(self, notice_id: str) -> Notice | None:
        notice = super().drop(notice_id)
        if notice is not None:
            del self._ids_by_channel[notice.channels[0]][notice_id]
        return notice

    def hold(self, notice: Notice, channel: str) -> None:
        """Add a copy of a notice, to be sent over this channel once it is open.

        Drop the oldest copy beyond MAX_HELD_ENDS. A notice of flapping in the thread of an outage becomes one
        that the outage ended. All but those of an outage's end lose their events, because what they say of
        the service is written when they are sent.
        """
        say = NoticeKind.UP if notice.say is NoticeKind.FLAPPING else notice.say
        events, ids = (notice.events, notice.ids) if notice.say is NoticeKind.UP else ((), ())
        held = replace(notice, id=f"{LATE_END}{channel}.{notice.id}", say=say, channels=(channel,))
        self.put(held.with_events(events, ids))

    def list_sendable(self) -> list[Notice]:
        """Return the notices of channels that are open now."""
        open_channels = self._suppression.open_channels
        ids = chain.from_iterable(self._ids_by_channel.get(name, ()) for name in open_channels)
        return [self.notices[ident] for ident in ids]

    def drop_old(self, now: float) -> None:
        """Drop the notices that were queued more than FORGOTTEN_SEC ago."""
        while self.notices and (first := next(iter(self.notices.values()))).at < now - FORGOTTEN_SEC:
            self.drop(first.id)

    def shift_times(self, by_sec: float) -> None:
        super().shift_times(by_sec)
        self.look_at_once()

    def look_at_once(self) -> None:
        """Have the next `release_due` look at all of them, whenever the last one did."""
        self._checked_at = float("-inf")

    def due_at(self) -> float | None:
        """Return when to look again at those of channels that are open now; None without any."""
        return self._checked_at + CHECK_EVERY_SEC if self.list_sendable() else None

    def hold_for_closed(self, notice: Notice) -> bool:
        """Hold an end for those channels that heard of its beginning and can't be opened at present.

        Return False if the notice is for no other channel.
        """
        is_end = notice.say in (NoticeKind.UP, NoticeKind.SETTLED)
        closed = self._suppression.closed_of(notice.channels)
        if not closed or not (is_end or (notice.say is NoticeKind.FLAPPING and notice.thread)):
            return True
        for channel in closed:
            self.hold(notice, channel)
        incident = self._incidents.get(notice.key)
        is_down = notice.say is not NoticeKind.UP and incident is not None and incident.down
        return not is_end or is_down or bool(self._suppression.open_of(notice.channels))

    def hold_again(self, notice: Notice, now: float) -> bool:
        """Hold a late end again whose service went down, flaps or is muted by now; return True if so.

        Sent now, it could say that the service is down to a channel that hears of no end of that. The end of
        an outage is sent all the same if the next one is about to be told: the end comes before that.
        """
        incident = self._incidents.get(notice.key)
        if incident is None or self._may_be_sent(incident, now):
            return False
        is_next_told = incident.down and self._pending.opening(incident.id) is not None
        if notice.say is NoticeKind.UP and is_next_told and not self._is_muted(incident, now):
            return False
        self.put(notice)
        return True

    def release_due(self, now: float) -> None:
        """Queue the ends of open channels whose services are well, CHECK_EVERY_SEC after the last look."""
        due_at = self.due_at()
        if due_at is not None and due_at <= now:
            self._checked_at = now
            self._release(self.list_sendable(), now)

    def release_of(self, incident: Incident, now: float) -> None:
        """Queue the ends about one incident, if they may be sent."""
        self._release([each for each in self.list_sendable() if each.key == incident.key], now)

    def _release(self, ends: Iterable[Notice], now: float) -> None:
        for notice in ends:
            incident = self._incidents.get(notice.key) or Incident(notice.key, notice.svc)
            if self._may_be_sent(incident, now):
                self.drop(notice.id)
                self._pending.put(replace(notice, at=now))

    def _may_be_sent(self, incident: Incident, now: float) -> bool:
        """Return True if the service is up, does not flap, and is not muted."""
        is_quiet = find_state(incident, self._pending.of(incident.key)) is IncidentState.QUIET
        return is_quiet and not self._is_muted(incident, now)

    def _is_muted(self, incident: Incident, now: float) -> bool:
        return self._suppression.reason_to_mute(incident, now) is not None
