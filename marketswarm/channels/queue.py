"""Queue the messages of one channel, and choose which one is tried next. Pure; times are monotonic seconds.

Messages about the same service, or of the same thread, keep their order. While one message fails, the
others are tried, so that a message that a receiver never accepts delays no other. If two different
messages fail and none is accepted between them, the receiver itself fails: then all messages wait, with
growing pauses, and one of them, in turn, is tried after each pause.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from marketswarm.channels.message import Message
from marketswarm.net.retry import Backoff

BACKOFF: Final = Backoff(first_sec=1.0, longest_sec=300.0)
QUEUE_LIMIT: Final = 1000
"""How many messages wait for one channel at most; beyond that the oldest is given up."""
REJECTIONS_UNTIL_BROKEN: Final = 3
"""How many messages about different things must be rejected, and none accepted, to break the channel.

Messages about the same service or thread count as one, because one cause may spoil them all. Two may be
chance, such as two services with long names; three are not.
"""
NEVER: Final = float("inf")
"""The time of an event that will not happen."""


def backoff_sec(failures: int, retry_after_sec: float | None, chance: float) -> float:
    """Return the pause after the `failures`th failure in a row, in seconds; `chance` is from 0 to 1.

    The pause is never less than `retry_after_sec`, which the receiver asked for.
    """
    return max(BACKOFF.pause_sec(failures, chance), retry_after_sec or 0.0)


@dataclass(slots=True, eq=False)
class QueuedMessage:
    """A message queued since `put_at` that fails since `since`; `turn` is its place among the attempts.

    `keys` are the thread and incidents whose messages keep their order. `failures` counts failures after
    which other messages were accepted; `reason` is the latest failure in this run; there is no attempt
    before `free_at`. `on_wire` is True while an attempt is under way; `attempts` counts them in this run.
    """

    message: Message
    keys: frozenset[str]
    put_at: float
    since: float | None
    turn: int
    failures: int = 0
    free_at: float = float("-inf")
    reason: str = ""
    on_wire: bool = False
    attempts: int = 0


class ChannelQueue:
    """The messages that wait for a channel, in order, and the pauses of that channel."""

    def __init__(
        self, failures: int = 0, free_at: float = float("-inf"), *, at_most: int = QUEUE_LIMIT
    ) -> None:
        self._at_most = at_most
        self.failures, self.free_at = failures, free_at
        self._asked_until = free_at  # the end of the pause that the receiver asked for, or of an earlier run
        self.broken = False
        self.reason = ""
        """The channel's latest failure, until it accepts a message."""
        self._entries: dict[str, QueuedMessage] = {}
        # since a message was last accepted: the keys of those rejected, the ids of those that failed
        self._rejected_keys: list[frozenset[str]] = []
        self._failed: set[str] = set()
        self._last_turn = 0
        self._attempts_left = 0  # how many messages a broken channel is tried with before its next pause

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def trouble(self) -> str:
        """The reason for which the channel or a message fails at present; empty if none does."""
        return self.reason or next((each.reason for each in self._entries.values() if each.reason), "")

    def put(self, message: Message, now: float, failing_sec: float | None = None) -> list[Message]:
        """Queue a message unless it is queued already; return the oldest messages, dropped for it.

        `failing_sec` is how many seconds ago an attempt in an earlier run first failed.
        """
        if message.id in self._entries:
            return []
        given_up = []
        while len(self._entries) >= self._at_most:
            oldest = next(each for each in self._entries.values() if not each.on_wire)
            self.drop(oldest)
            given_up.append(oldest.message)
        keys = frozenset((message.thread or message.id, *message.closes, *message.about))
        since = None if failing_sec is None else now - failing_sec
        self._entries[message.id] = QueuedMessage(message, keys, now, since, self._next_turn())
        return given_up

    def drop(self, entry: QueuedMessage) -> None:
        self._entries.pop(entry.message.id, None)

    # -- the next attempt

    def next_attempt(self, now: float) -> tuple[QueuedMessage | None, float]:
        """Return the message to try at `now`, or None, and when to ask again if there is none."""
        if now < self.free_at:
            return None, self.free_at if self._entries else NEVER
        if self.broken and not self._attempts_left:
            self._attempts_left = len(self._entries)
        found, again_at = None, NEVER
        for entry in self._list_eligible():
            if entry.free_at > now:
                again_at = min(again_at, entry.free_at)
            elif found is None or entry.turn < found.turn:
                found = entry
        return found, again_at

    def take_expired(self, now: float, retry_for_sec: float) -> list[QueuedMessage]:
        """Remove and return messages that failed for too long, or waited so long for the receiver.

        Too long is `retry_for_sec` seconds, whatever pause the receiver asked for.
        """
        ages = [(each, self._find_failing_since(each)) for each in self._entries.values()]
        over = [each for each, since in ages if since + retry_for_sec <= now]
        for each in over:
            each.reason = each.reason or self.reason or "paused"
            self.drop(each)
        return over

    def expires_at(self, retry_for_sec: float) -> float:
        """Return when `take_expired` will find the next message, as far as is known now."""
        return min(map(self._find_failing_since, self._entries.values()), default=NEVER) + retry_for_sec

    # -- outcomes

    def record_accepted(self, entry: QueuedMessage, now: float, chance: float) -> None:
        """Record that the channel accepted a message, so earlier failures were due to their messages.

        `chance`, from 0 to 1, varies the pauses of those messages.
        """
        self.drop(entry)
        self.failures, self.free_at, self.broken, self.reason = 0, float("-inf"), False, ""
        self._asked_until = float("-inf")
        for each in [self._entries[ident] for ident in self._failed if ident in self._entries]:
            each.failures += 1
            each.free_at = min(each.free_at, now + backoff_sec(each.failures, None, chance))
        self._failed.clear()
        self._rejected_keys.clear()

    def record_failure(
        self, entry: QueuedMessage, now: float, reason: str, retry_after_sec: float | None, chance: float
    ) -> None:
        """Record that an attempt failed and that the message may be accepted later; compute the pauses."""
        self._attempts_left, self.broken = 0, False
        self.failures += 1
        self.reason = entry.reason = reason
        entry.since = now if entry.since is None else entry.since
        self._failed.add(entry.message.id)
        entry.turn = self._next_turn()
        entry.free_at = now + backoff_sec(self.failures + entry.failures, retry_after_sec, chance)
        if self._is_receiver_failing() or retry_after_sec is not None:
            self.free_at = now + backoff_sec(self.failures, retry_after_sec, chance)
        if retry_after_sec is not None:
            self._asked_until = self.free_at

    def mark_broken(self, reason: str, now: float, chance: float) -> None:
        """The channel accepts nothing until it is repaired; after each pause, try every message once."""
        self.broken, self.reason = True, reason
        self._attempts_left = max(0, self._attempts_left - 1)
        if not self._attempts_left:
            self.failures += 1
            self.free_at = now + backoff_sec(self.failures, None, chance)

    def record_rejection(self, entry: QueuedMessage, reason: str, now: float, chance: float) -> bool:
        """Record that a message will never be accepted; return True if the channel counts as broken now.

        The caller removes the message.
        """
        if all(keys.isdisjoint(entry.keys) for keys in self._rejected_keys):
            self._rejected_keys.append(entry.keys)
        del self._rejected_keys[REJECTIONS_UNTIL_BROKEN:]
        if len(self._rejected_keys) < REJECTIONS_UNTIL_BROKEN:
            return False
        self.mark_broken(reason, now, chance)
        return True

    # -- helpers

    def _list_eligible(self) -> Iterator[QueuedMessage]:
        """Yield the messages before which no other one about the same thread or incident is queued."""
        seen: set[str] = set()
        for entry in self._entries.values():
            if seen.isdisjoint(entry.keys):
                yield entry
            seen |= entry.keys

    def _find_failing_since(self, entry: QueuedMessage) -> float:
        """Return since when a message can't be delivered, by the clock of `put_at`; NEVER if it can.

        A message that failed itself counts from then, but one of an earlier run gets an attempt in this one
        first. One that waits behind others that fail, or waits out a pause that the receiver asked for,
        counts from when it was queued.
        """
        if entry.since is not None and entry.reason:
            return entry.since
        is_held_up = self._is_receiver_failing() or self._asked_until > entry.put_at
        return entry.put_at if is_held_up else NEVER

    def _is_receiver_failing(self) -> bool:
        """Return True if two different messages failed and none was accepted since."""
        return len(self._failed) > 1

    def _next_turn(self) -> int:
        self._last_turn += 1
        return self._last_turn
