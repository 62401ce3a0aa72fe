"""The pending alerts: those about the healer and the buses that people don't have yet. Pure.

The notifier has some seconds for each alert. If a miss was not sent by then, the sentinel sends it. It
sends an ok only if it sent the miss before it. `now` is monotonic time in seconds, always passed in.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from marketswarm.event import Event, Kind, encode_event, make_event_id

MAX_SEEN: Final = 1000
MAX_PENDING: Final = 200
"""The most alerts that are pending; then the oldest is dropped, as when a bus flaps for a day."""
MAX_OWN_SPANS: Final = 20
"""Of how many outages that only the sentinel knew it keeps the times, for each bus."""
MIN_RESTORED_GRACE_SEC: Final = 2.0
"""The least seconds before a restored alert is due, because another bus may hold its end."""

_MISSES: Final = {Kind.HEALER_MISS: "healer", Kind.BUS_MISS: "bus"}
_OKS: Final = {Kind.HEALER_OK: "healer", Kind.BUS_OK: "bus"}


def get_outage_key(event: Event) -> str | None:
    """Return `healer:<name>` or `bus:<name>`; None for an event of another type."""
    family = _MISSES.get(event.type) or _OKS.get(event.type)
    return f"{family}:{event.svc}" if family else None


def is_outage_key(key: str) -> bool:
    """Return True for `healer:<name>` or `bus:<name>`."""
    family, _, svc = key.partition(":")
    return family in _MISSES.values() and svc != ""


@dataclass(slots=True)
class PendingAlert:
    """An event to be sent to people.

    `due_at` is when the notifier's time for it has ended, in monotonic seconds. `is_restored` marks an event
    that an earlier run left open, `is_claimed` one that the sentinel is sending. `closes` is the id of the
    miss that a claimed ok ends.
    """

    event: Event
    raw: bytes
    due_at: float
    is_restored: bool = False
    is_claimed: bool = False
    closes: str | None = None

    @property
    def key(self) -> str:
        return get_outage_key(self.event) or ""

    @property
    def is_miss(self) -> bool:
        return self.event.type in _MISSES


@dataclass(frozen=True, slots=True)
class OpenOutage:
    """An outage that the sentinel sent to people: the miss's id and its `ts` (epoch seconds).

    `is_own` marks a miss that only the sentinel knew of, since no bus could be reached.
    """

    id: str
    ts: float
    is_own: bool = False


class PendingAlerts:
    """All pending alerts, oldest first."""

    def __init__(self, sentinel: str, grace_sec: float) -> None:
        self.open_outages: dict[str, OpenOutage] = {}
        """The outages that the sentinel sent to people, by key; it must send their ends, too."""
        self._sentinel = sentinel
        self._grace_sec = grace_sec
        self._alerts: OrderedDict[str, PendingAlert] = OrderedDict()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._unneeded: OrderedDict[str, str] = OrderedDict()
        """The oks that ended no outage when they came, by id: their keys. Another bus may hold them, too."""
        self._down: dict[str, bool] = {}
        """By the key of each outage that lasts, whether only the sentinel knows of it."""
        self._own_spans: dict[str, list[tuple[float, float]]] = {}
        """By key, from when to when the latest outages lasted that only the sentinel knew (epoch seconds)."""

    def __len__(self) -> int:
        return len(self._alerts)

    def __contains__(self, alert: PendingAlert) -> bool:
        return self._alerts.get(alert.event.id) is alert

    def add_event(self, event: Event, raw: bytes, now: float, waited_sec: float | None = None) -> None:
        """Add an event about the healer or a bus, unless it was added before or need not be sent.

        `waited_sec` is given for an event that an earlier run left open: the seconds that others have had
        already.
        """
        key = get_outage_key(event)
        if key is None or not self._mark_seen(event.id):
            return
        is_restored = waited_sec is not None
        due_at = now + self._grace_sec
        if waited_sec is not None:
            due_at = now + max(min(MIN_RESTORED_GRACE_SEC, self._grace_sec), self._grace_sec - waited_sec)
        alert = PendingAlert(event, raw, due_at, is_restored)
        if self._accept_alert(alert, key):
            if alert.is_miss and not is_restored:
                self._forget_earlier_oks(key)
            self._alerts[event.id] = alert
            while len(self._alerts) > MAX_PENDING:
                self._alerts.popitem(last=False)
        elif not alert.is_miss:
            del self._seen[event.id]  # the miss that it ends may still be restored
            self._unneeded[event.id] = key
            while len(self._unneeded) > MAX_SEEN:
                self._unneeded.popitem(last=False)

    def add_own_event(self, event: Event, now: float) -> None:
        """Add an event that only the sentinel knows: no bus is reached, or a bus is back after that."""
        key = get_outage_key(event) or ""
        if event.type in _MISSES:
            if key not in self._down:
                self.add_event(event, encode_event(event), now - self._grace_sec)
            return
        (missed_at, needs_end), spans = self._find_own_miss(key), self._own_spans.get(key, [])
        since = event.outage_start() if missed_at is None else min(event.outage_start(), missed_at)
        self._own_spans[key] = [*spans, (since, event.ts)][-MAX_OWN_SPANS:]
        if self._down.get(key):
            del self._down[key]  # even if every channel refused that miss: the next one must be sent
        if needs_end:
            self.add_event(event, encode_event(event), now)

    def restore(self, stored: Mapping[str, OpenOutage]) -> list[str]:
        """Add the open outages that an earlier run stored on a bus; return the keys of the new ones.

        The earlier run may have been killed before it could store an outage on every bus. A bus that is asked
        first may then hold the same miss as not yet sent; that alert is dropped.
        """
        new = [
            key
            for key, one in stored.items()
            if key not in self.open_outages and (one.id in self._alerts or self._mark_seen(one.id))
        ]
        for key in new:
            self.open_outages[key] = stored[key]
            self._alerts.pop(stored[key].id, None)
            self._down[key] = stored[key].is_own
        return new

    def record_up(self, key: str, ts: float, now: float) -> None:
        """Note that a roster has a healer or bus as up since `ts` (epoch seconds).

        A restored miss from before that is dropped; the end of an outage that the sentinel sent is added.
        """
        for alert in self._find_alerts(key, is_miss=True):
            if alert.is_restored and not alert.is_claimed and alert.event.ts < ts:
                del self._alerts[alert.event.id]
        outage = self.open_outages.get(key)
        if outage is not None and outage.ts < ts:
            family, _, svc = key.partition(":")
            kind = Kind(f"{family}_ok")
            event = Event(
                kind, svc, ts, make_event_id(kind, svc, ts), "healer" if family == "bus" else self._sentinel
            )
            self.add_event(event, encode_event(event), now)

    # -- due alerts

    def find_due_alerts(self, now: float) -> list[PendingAlert]:
        """Return the alerts whose grace time has ended and that are not claimed yet, oldest first."""
        return [alert for alert in self._alerts.values() if not alert.is_claimed and alert.due_at <= now]

    def seconds_to_due(self, now: float) -> float | None:
        found = [alert.due_at for alert in self._alerts.values() if not alert.is_claimed]
        return max(0.0, min(found) - now) if found else None

    def claim(self, alert: PendingAlert) -> bool:
        """Mark an alert as claimed; drop it and return False if it is an ok without a miss of ours."""
        if not alert.is_miss:
            outage = self.open_outages.get(alert.key)
            pending = self._find_alerts(alert.key, is_miss=True)
            misses = [outage.id] if outage else [miss.event.id for miss in pending]
            if not misses:
                self._alerts.pop(alert.event.id, None)
                return False
            alert.closes = misses[0]
        alert.is_claimed = True
        return True

    # -- results

    def drop_sent_by_others(self, alert: PendingAlert) -> None:
        """Drop an alert that another process has sent; that process sends its end as well."""
        self._alerts.pop(alert.event.id, None)
        if alert.is_restored:  # perhaps by an earlier run of ours, as a bus that is still to be asked may say
            self._seen.pop(alert.event.id, None)
        if alert.is_miss:
            for ok in self._find_alerts(alert.key, is_miss=False):
                if alert.key not in self.open_outages and not ok.is_claimed:
                    self._alerts.pop(ok.event.id, None)
        else:
            self.open_outages.pop(alert.key, None)

    def record_sent(self, alert: PendingAlert) -> None:
        """Note that a channel accepted an alert: its outage is open, or over. Call this for each channel."""
        event, key = alert.event, alert.key
        if alert.is_miss:
            self.open_outages[key] = OpenOutage(event.id, event.ts, self._is_own_miss(event))
            return
        self.open_outages.pop(key, None)

    def remove(self, alert: PendingAlert) -> None:
        self._alerts.pop(alert.event.id, None)

    # -- helpers

    def _accept_alert(self, alert: PendingAlert, key: str) -> bool:
        """Return True if a new alert is to be added; drop an older pending ok that it replaces.

        An ok is added only if a miss is pending or was sent; a miss, unless its outage is known already.
        """
        event = alert.event
        if alert.is_miss:
            self._down[key] = self._is_own_miss(event)
            return event.by == self._sentinel or not self._is_known_outage(key, event.ts)
        self._down.pop(key, None)
        if key not in self.open_outages and not self._find_alerts(key, is_miss=True):
            return False
        for ok in self._find_alerts(key, is_miss=False):
            if not ok.is_claimed:  # the new one is later, or the healer's instead of our own
                del self._alerts[ok.event.id]
        return True

    def _is_known_outage(self, key: str, ts: float) -> bool:
        """Return True if a miss is about an outage of the sentinel's own, which lasts or lasted at `ts`.

        A miss from before it is another one, of a clock that was set back since.
        """
        spans, outage = self._own_spans.get(key, ()), self.open_outages.get(key)
        if outage is not None and outage.is_own and not _is_within(outage.ts, spans):
            return True
        return _is_within(ts, spans)

    def _is_own_miss(self, event: Event) -> bool:
        """Return True for a miss that only the sentinel knows of."""
        return event.by == self._sentinel and event.type is Kind.BUS_MISS

    def _find_own_miss(self, key: str) -> tuple[float | None, bool]:
        """Return the `ts` of the latest miss that only the sentinel knows of, and whether it needs an end.

        A channel accepted it, or it is pending: a channel may accept it after the bus is back. It needs no
        end if a later ok is pending.
        """
        outage = self.open_outages.get(key)
        missed_at, needs_end = (outage.ts, True) if outage is not None and outage.is_own else (None, False)
        for alert in self._alerts.values():
            if alert.key == key and self._is_own_miss(alert.event):
                missed_at, needs_end = alert.event.ts, True
            elif alert.key == key and not alert.is_miss:
                needs_end = False
        return missed_at, needs_end

    def _find_alerts(self, key: str, *, is_miss: bool) -> list[PendingAlert]:
        """Return the pending misses or oks with this key, oldest first."""
        return [alert for alert in self._alerts.values() if alert.key == key and alert.is_miss is is_miss]

    def _forget_earlier_oks(self, key: str) -> None:
        """Mark the oks as seen that came before a miss: read again, from another bus, they don't end it."""
        for ident in [each for each, its in self._unneeded.items() if its == key]:
            del self._unneeded[ident]
            self._mark_seen(ident)

    def _mark_seen(self, ident: str) -> bool:
        if ident in self._seen:
            return False
        self._seen[ident] = None
        while len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        return True


def _is_within(ts: float, spans: Iterable[tuple[float, float]]) -> bool:
    return any(since <= ts <= ended_at for since, ended_at in spans)
