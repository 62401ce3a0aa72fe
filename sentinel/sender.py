"""The sender of one channel: it sends the pending messages, each again until the channel accepts it.

Messages about the same service keep their order; a message that is never accepted delays no other service.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import tzinfo
from zoneinfo import ZoneInfo

from marketswarm import log as logs
from marketswarm.channels import Channel, Message, make_event_message
from marketswarm.channels.worker import ChannelWorker, Outcome
from marketswarm.operator.maintenance import NOTIFIER
from marketswarm.truth import Truth
from marketswarm.truth.schedule import ScheduleError, require_time_zone
from sentinel.pending import MAX_PENDING, PendingAlert

log = logs.get("direct")


def find_message_zone(truth: Truth) -> tzinfo | None:
    """Return the time zone of the notifier's messages; None if the truth has none, or an unknown one.

    The notifier refuses an unknown one; the last resort continues without.
    """
    notifier = truth.services.get(NOTIFIER)
    name = None if notifier is None else notifier.settings.get("time_zone")
    try:
        return ZoneInfo(require_time_zone(name)) if isinstance(name, str) else None
    except ScheduleError:
        return None


def build_message(alert: PendingAlert, fleet: str = "", zone: tzinfo | None = None) -> Message:
    """An ok joins the thread of its miss; the worker says how late the message is, when it sends it."""
    message = make_event_message(alert.event, alert.raw, alert.event.ts, fleet, zone)
    message = replace(message, about=(alert.key,))
    return message if alert.closes is None else replace(message, thread=alert.closes, closes=(alert.closes,))


class ChannelSender:
    """A channel and the messages that are pending for it.

    Args:
        channel: the channel to send over; the caller closes it.
        is_wanted: returns, before each attempt, whether the alert is still to be sent.
        on_finished: called when this sender will not try the alert any more, whether accepted or not.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        is_wanted: Callable[[PendingAlert], Awaitable[bool]],
        on_accepted: Callable[[PendingAlert, str], None],
        on_finished: Callable[[PendingAlert], None],
    ) -> None:
        self.channel = channel
        self.trouble: str | None = None
        """Why the last attempt failed, as text for a beat's `detail`; None if it did not."""
        self._is_alert_wanted, self._on_accepted, self._on_finished = is_wanted, on_accepted, on_finished
        self._alerts: dict[str, PendingAlert] = {}  # by the id of their message and event
        self._worker = ChannelWorker(
            channel,
            outcome=self._handle_outcome,
            is_wanted=self._is_wanted,
            pause_broken=False,  # an alert of the last resort is tried at once, whatever was refused before
            at_most=MAX_PENDING,
        )

    def __len__(self) -> int:
        return len(self._worker)

    def enqueue(self, alert: PendingAlert, message: Message) -> None:
        """Add an alert with its message, which never blocks; if there are too many, give up the oldest."""
        self._alerts[alert.event.id] = alert
        self._worker.put(message)

    async def run(self) -> None:
        """Send the messages that are due, one after the other, until cancelled."""
        await self._worker.run()

    async def _is_wanted(self, message: Message) -> bool:
        is_wanted = await self._is_alert_wanted(self._alerts[message.id])
        if not is_wanted:
            self._on_finished(self._alerts.pop(message.id))
        return is_wanted

    def _handle_outcome(self, outcome: Outcome) -> None:
        name, where, ident, error = outcome.channel, outcome.where, outcome.message.id, outcome.error
        if error is None:
            log.info("fallback.sent", channel=name, where=where, id=ident)
            self.trouble = self._worker.trouble
            self._on_accepted(self._alerts[ident], name)
        else:
            self.trouble = f"{name}: {error.reason}"
            write = log.error if outcome.final else log.warning
            write(
                "fallback.refused" if outcome.final else "fallback.failed",
                channel=name,
                where=where,
                reason=error.reason,
                id=ident,
                waiting=outcome.waiting,
            )
        if outcome.final:
            self._on_finished(self._alerts.pop(ident))
