"""The channels that are open, a delivery each: opened, changed and closed while messages are on their way."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import orjson

from marketswarm import log as logs
from marketswarm.channels import Channel, Message, SendError, Severity, channels_from_environment
from marketswarm.channels.registry import ChannelError, create_channel
from marketswarm.exit import Code, Exit
from marketswarm.settings import ChannelSettings, variable
from marketswarm.truth.credentials import reference_in
from marketswarm.truth.env_policy import Refused, place_of, resolved
from notifier.channel_worker import Delivery, Outcome
from notifier.outbox import Outbox
from notifier.router.policy import RETRY_FOR_SEC

TYPE: Final = "type"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The channels that the truth names, their options with all secrets in them, and why others can't be had.

    `options` is None when the truth names none: then the environment's are meant.
    """

    options: Mapping[str, Mapping[str, Any]] | None = field(repr=False)
    wrong: Mapping[str, str]

    def same(self, other: "Wanted", name: str) -> bool:
        """Whether a channel is to be as the other one has it."""
        if self.options is None or other.options is None:
            return self.options is other.options
        return name in self.options and self.options[name] == other.options.get(name)


class Environ(Mapping[str, str]):
    """Variables and the files that their `_FILE` twins name."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        found = variable(name, self._environ)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)


def wanted(channels: Mapping[str, Mapping[str, Any]], environ: Mapping[str, str]) -> Wanted:
    """What the truth's `channels` come to in this environment."""
    if not channels:
        return Wanted(None, {})
    options: dict[str, Mapping[str, Any]] = {}
    wrong: dict[str, str] = {}
    for name, raw in channels.items():
        try:
            options[name] = resolved(raw, Environ(environ))
        except Refused as error:
            wrong[name] = f"{name}.{error}"
        except LookupError as error:
            wrong[name] = f"{name}: {error.args[0]}"
        except Exit as error:  # a file that can't be read
            wrong[name] = f"{name}: {error.message}"
    return Wanted(options, wrong)


def opened(
    want: Wanted, settings: ChannelSettings, keep: Mapping[str, Channel] = MappingProxyType({})
) -> tuple[dict[str, Channel], dict[str, str]]:
    """The channels, not connected yet, and by name what is wrong with those that can't be made.

    Those to `keep` are as they are to be.

    Raises:
        Exit: code 2, when the environment names one that can't be made.
    """
    if want.options is None:
        return dict(keep) or {channel.name: channel for channel in channels_from_environment(settings)}, {}
    found: dict[str, Channel] = {}
    wrong = dict(want.wrong)
    for name in want.options:
        try:
            found[name] = keep[name] if name in keep else made(want, name)
        except ChannelError as error:
            wrong[name] = str(error)
    return found, wrong


def made(want: Wanted, name: str) -> Channel:
    """One channel of the truth. Raises ChannelError, which names it."""
    given = dict((want.options or {})[name])
    kind = given.pop(TYPE, None)
    if not isinstance(kind, str):
        raise ChannelError(f'{name}: {TYPE}: is missing; one is "slack"')
    return create_channel(kind, name, given)


def at_least_one(found: Mapping[str, Channel], wrong: Mapping[str, str]) -> None:
    """Raises Exit, code 2, when channels are named and none of them can be had."""
    if wrong and not found:
        words = "; ".join(f"services.notifier.settings.channels.{why}" for why in wrong.values())
        raise Exit(Code.CONFIGURATION, words)


PARTS: Final = ("type", "url", "host", "to", "channel", "chat")
"""The options that say where a channel leads."""
SHOWN: Final = ("to", "channel", "chat")
PAUSES_SEC: Final = (1.0, 5.0, 20.0)
"""Between the attempts over a channel that is open for this word alone."""

log = logs.get("notifier")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a channel of the truth leads: `digest` tells one from another, `shown` holds no path of a URL."""

    digest: str
    shown: str


def addresses(channels: Mapping[str, Mapping[str, Any]]) -> dict[str, Address]:
    """By channel, the address that the truth names."""
    found = {}
    for name, options in channels.items():
        said = {part: options[part] for part in PARTS if _is_said(options.get(part))}
        if said.keys() - {"type"}:
            digest = hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:24]
            found[name] = Address(digest, _shown(said))
    return found


async def send_once(channels: Mapping[str, Channel], message: Message) -> None:
    """Send a message over channels that are open for it alone, with a few attempts each, and close them."""
    await asyncio.gather(*(_send(channel, message) for channel in channels.values()))


async def _send(channel: Channel, message: Message) -> None:
    try:
        for pause_sec in (*PAUSES_SEC, None):
            try:
                await channel.send(message)
            except SendError as error:
                reason = error.reason
                if error.permanent or pause_sec is None:
                    break
            else:
                return
            await asyncio.sleep(pause_sec)
        log.warning("channel.address_untold", channel=channel.name, reason=reason)
    except Exception as error:  # noqa: BLE001 - whatever a channel does, the term goes on
        log.warning("channel.address_untold", channel=channel.name, reason=type(error).__name__)
    finally:
        await channel.aclose()


def _is_said(value: Any) -> bool:
    return value is not None and reference_in(value) is None


def _shown(said: Mapping[str, Any]) -> str:
    kind, url, host = said.get("type"), said.get("url"), said.get("host")
    place = place_of(url) if isinstance(url, str) else host
    rest = ", ".join(str(said[part])[:100] for part in SHOWN if part in said)
    where = " ".join(filter(None, (f"at {place}" if place else "", f"to {rest}" if rest else "")))
    return f"{kind} {where}"[:300]


def unopened_channel_message(channel: str, why: str, now: float) -> Message:
    """A channel of the truth can't be opened; `now` is in epoch seconds."""
    return Message(
        f"channel.{channel}.{round(now * 1000)}",
        f"channel {channel} can't be opened",
        f"{why}; until that is right, nothing goes there",
        Severity.WARNING,
        now,
    )


def new_address_message(shown: Mapping[str, str], revision: int, now: float) -> Message:
    """The truth names addresses that no channel had before; `now` is in epoch seconds."""
    names = ", ".join(sorted(shown))
    lines = tuple(f"{name}: {shown[name]}" for name in sorted(shown))
    return Message(
        f"addresses.{revision}.{round(now * 1000)}",
        f"the truth sends messages to a new address: {names}",
        f"revision {revision} of the truth names it; if you did not seed that, find out who did",
        Severity.WARNING,
        now,
        lines=lines,
    )


CLOSE_WITHIN_SEC: Final = 1.0


class Post:
    """All deliveries, in the order of their channels.

    Args:
        outbox: what waits for each channel.
        outcome: told what came of each attempt.
        group: where the deliveries run.
        paused: by a channel's name, its failures in a row and what is left of its pause, in seconds, from an
            earlier run.
    """

    def __init__(
        self,
        outbox: Outbox,
        outcome: Callable[[Outcome], None],
        group: asyncio.TaskGroup,
        paused: Callable[[str], tuple[int, float]],
    ) -> None:
        self.deliveries: dict[str, Delivery] = {}
        self._outbox, self._outcome, self._group, self._paused = outbox, outcome, group, paused
        self._tasks: dict[Delivery, asyncio.Task[None]] = {}
        self._retry_for_sec = RETRY_FOR_SEC

    def open(self, channels: Mapping[str, Channel]) -> None:
        """Has exactly these open; one that is the same as before goes on as it was."""
        for name, delivery in list(self.deliveries.items()):
            if channels.get(name) is not delivery.channel:
                del self.deliveries[name]
                delivery.stop()
        before, self.deliveries = self.deliveries, {}
        for name, channel in channels.items():
            self.deliveries[name] = before.get(name) or self._begin(channel)

    def retry_for(self, retry_for_sec: float) -> None:
        """Give a message up that a channel has not accepted after so long."""
        self._retry_for_sec = retry_for_sec
        for delivery in self.deliveries.values():
            delivery.look()

    def channels(self) -> dict[str, Channel]:
        """Those that are open."""
        return {name: each.channel for name, each in self.deliveries.items()}

    def hand_over(self, channel: str, message: Message) -> None:
        """Gives a message to a channel; to one that was closed meanwhile, nothing."""
        if channel in self.deliveries:
            self.deliveries[channel].put(message, self._failing_sec(message, channel))

    def trouble(self) -> str | None:
        """What is wrong with channels, in words for a beat's `detail`."""
        return "; ".join(each.trouble for each in self.deliveries.values() if each.trouble) or None

    def waiting(self) -> dict[str, int]:
        """By channel, how many messages wait."""
        return {name: len(each) for name, each in list(self.deliveries.items())}

    def broken(self) -> dict[str, bool]:
        """By channel, whether it refuses messages for good."""
        return {name: each.broken for name, each in list(self.deliveries.items())}

    async def finish(self, within_sec: float) -> None:
        """Lets what is on the wire come to its end, for so long at most."""
        for delivery in self._tasks:
            delivery.stop()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=within_sec)

    def _begin(self, channel: Channel) -> Delivery:
        failures, pause_sec = self._paused(channel.name)
        delivery = Delivery(
            channel,
            anchor=self._outbox.anchor,
            outcome=self._outcome,
            retry_for_sec=lambda: self._retry_for_sec,
            failures=failures,
            pause_sec=pause_sec,
        )
        for message in self._outbox.waiting(channel.name):
            delivery.put(message, self._failing_sec(message, channel.name))
        self._tasks[delivery] = self._group.create_task(self._run(delivery), name=f"deliver:{channel.name}")
        return delivery

    def _failing_sec(self, message: Message, channel: str) -> float | None:
        return self._outbox.failing_sec(message, channel, time.time())

    async def _run(self, delivery: Delivery) -> None:
        try:
            await delivery.run()
        finally:
            self._tasks.pop(delivery, None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_WITHIN_SEC):
                    await delivery.channel.aclose()
