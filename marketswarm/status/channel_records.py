"""Say of each channel of the notifier what it sent and failed last. Pure.

The notifier keeps a `ChannelRecord` for each channel in the field `d:records` of `notifier:state`, beside the
open channels (`d:channels`), those that broke and the pauses; `list_channels` reads all of it. No record has
an address or a secret: of a place there is the host.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field, replace
from enum import StrEnum
from typing import Annotated, Final, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from marketswarm.bus.stored_values import MAX_COUNT
from marketswarm.operator.fields import LATER, MAX_EPOCH_SEC, STRICT, Epoch

CHANNELS: Final = b"d:channels"
RECORDS: Final = b"d:records"
MAX_CHANNELS: Final = 200
MAX_TITLE: Final = 200
MAX_REASON: Final = 300

_BY_ENVIRONMENT: Final = (
    "Set its variables where the notifier runs, and start it again: `WEBHOOK_URL` for Slack, Discord, Teams "
    "or any other webhook; `SMTP_HOST`, `SMTP_FROM` and `SMTP_TO` for mail; `TELEGRAM_TOKEN` and "
    "`TELEGRAM_CHAT`; `PUSHOVER_TOKEN` and `PUSHOVER_USER`; `NTFY_URL`; `PAGERDUTY_ROUTING_KEY`."
)
_BY_TRUTH: Final = (
    "Or name it in the truth, under `services.notifier.settings.channels`, which a running notifier follows: "
    '`"team": {"type": "slack", "url": "env:NOTIFY_TEAM_URL"}`. Its secret stays in the environment, and the '
    "channels that the environment alone makes are then closed."
)
_THEN: Final = "Then send a test. `docs/notifications.md` has all kinds and options."
ADD_CHANNEL: Final = (_BY_ENVIRONMENT, _BY_TRUTH, _THEN)
"""How to add a channel, for terminal and board; what is typed stands in backticks."""

T = TypeVar("T")
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
_Shown = Annotated[str, Field(max_length=300)]
_CHANNELS_TYPE: Final = TypeAdapter(
    Annotated[dict[_Shown, _Shown], Field(max_length=MAX_CHANNELS)], config=LATER
)


@dataclass(frozen=True, slots=True, config=STRICT)
class ChannelRecord:
    """The outcome of the attempts of a channel: how many were accepted, failed, or were refused for good.

    The last message that was accepted has a time and a title, the last failure a reason besides.
    """

    sent: Count = 0
    failed: Count = 0
    refused: Count = 0
    sent_at: Epoch | None = None
    sent_title: Annotated[str, Field(max_length=MAX_TITLE)] = ""
    failed_at: Epoch | None = None
    failed_title: Annotated[str, Field(max_length=MAX_TITLE)] = ""
    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""

    def add_sent(self, title: str, at: float) -> "ChannelRecord":
        return replace(self, sent=_count(self.sent), sent_at=at, sent_title=title[:MAX_TITLE])

    def add_failure(self, title: str, at: float, reason: str, *, is_final: bool) -> "ChannelRecord":
        """Return the record with one more failure; `is_final` says that the message is not tried again."""
        return replace(
            self,
            failed=self.failed if is_final else _count(self.failed),
            refused=_count(self.refused) if is_final else self.refused,
            failed_at=at,
            failed_title=title[:MAX_TITLE],
            reason=reason[:MAX_REASON],
        )

    def shift_by(self, by_sec: float) -> "ChannelRecord":
        """Return the record with its times moved by `by_sec`: the clock was set by that."""
        sent_at, failed_at = (
            None if at is None else min(max(0.0, at + by_sec), MAX_EPOCH_SEC)
            for at in (self.sent_at, self.failed_at)
        )
        return replace(self, sent_at=sent_at, failed_at=failed_at)


_RECORDS_TYPE: Final = TypeAdapter(
    Annotated[dict[_Shown, ChannelRecord], Field(max_length=MAX_CHANNELS)], config=LATER
)


class ChannelState(StrEnum):
    """How a channel is, by its last attempts."""

    WORKS = "works"
    FAILS = "fails"
    BROKEN = "broken"
    UNUSED = "unused"


@plain_dataclass(frozen=True, slots=True)
class ChannelStatus:
    """One open channel, the host that it sends to, what it did, and how many messages `waiting` are for it.

    `broken` is why it takes no message, `retry_at` until when it pauses (epoch seconds).
    """

    name: str
    where: str
    state: ChannelState
    record: ChannelRecord = field(default_factory=ChannelRecord)
    waiting: int = 0
    broken: str | None = None
    retry_at: float | None = None


def list_channels(
    state: Mapping[bytes, bytes],
    broken: Mapping[str, str],
    retry_at: Mapping[str, float],
    pending: Iterable[str],
) -> tuple[ChannelStatus, ...] | None:
    """Return the open channels in the notifier's order; None if it has not said which are open.

    `state` is `notifier:state`; `broken` and `retry_at` are by channel, `pending` has the channel of each
    message that waits.
    """
    channels = parse_stored(_CHANNELS_TYPE, state.get(CHANNELS))
    if channels is None:
        return None
    waiting, records = Counter(pending), parse_records(state.get(RECORDS)) or {}
    return tuple(
        ChannelStatus(
            name,
            where,
            _find_state(records.get(name, ChannelRecord()), is_broken=name in broken),
            records.get(name, ChannelRecord()),
            waiting[name],
            broken.get(name),
            retry_at.get(name),
        )
        for name, where in channels.items()
    )


def describe_state(state: ChannelState) -> str:
    return "nothing sent yet" if state is ChannelState.UNUSED else str(state)


def parse_records(raw: bytes | None) -> dict[str, ChannelRecord] | None:
    """Return the records by channel; None without them, or if they can't be used."""
    return parse_stored(_RECORDS_TYPE, raw)


def encode_records(records: Mapping[str, ChannelRecord]) -> bytes:
    return _RECORDS_TYPE.dump_json(dict(records))


def _find_state(record: ChannelRecord, *, is_broken: bool) -> ChannelState:
    if is_broken:
        return ChannelState.BROKEN
    if record.failed_at is not None and (record.sent_at is None or record.sent_at < record.failed_at):
        return ChannelState.FAILS
    return ChannelState.UNUSED if record.sent_at is None else ChannelState.WORKS


def _count(number: int) -> int:
    return min(number + 1, MAX_COUNT)


def parse_stored(adapter: TypeAdapter[T], raw: bytes | None) -> T | None:
    """Return the value of a field of `notifier:state`; None without one, or if it can't be parsed."""
    try:
        return None if raw is None else adapter.validate_json(raw)
    except ValidationError:
        return None
