"""Open the channels of the truth, or else of the environment, and run a worker for each.

A person who can write a truth could redirect all messages to an address of their own. So a new address
is reported over the other channels and over the channels that it replaces. Addresses in the environment
(`"env:NAME"`) are the operator's, and are not reported.
"""

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
from marketswarm.channels import Channel, Message, SendError, Severity, create_environment_channels
from marketswarm.channels.registry import ChannelError, create_channel
from marketswarm.channels.worker import ChannelWorker, Outcome
from marketswarm.exit import Code, Exit
from marketswarm.settings import read_variable
from marketswarm.settings.programs import ChannelSettings
from marketswarm.tracing import Tracer
from marketswarm.truth.credentials import parse_reference
from marketswarm.truth.env_policy import VariableRefused, parse_destination, resolve_options
from notifier.delivery import log_outcome, make_steps
from notifier.inbox import Inbox
from notifier.outbox import Outbox
from notifier.router.policy import RETRY_FOR_SEC
from notifier.state import NotifierState

TYPE: Final = "type"
"""The option that names a channel's kind."""
ADDRESS_OPTIONS: Final = ("type", "url", "host", "to", "channel", "chat", "routing_key", "device")
"""The options that make up the address of a channel. So does `user` where it is a recipient, not a login."""
SHOWN_OPTIONS: Final = ("to", "channel", "chat")
"""The options that are shown with an address, besides its kind and host."""
PAUSES_SEC: Final = (1.0, 5.0, 20.0)
"""Pauses between the attempts of `send_and_close`, in seconds."""
CLOSE_WITHIN_SEC: Final = 1.0


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """The options of each channel, with their secrets; in `wrong`, why other channels can't be configured.

    Both are by channel name. `options` is None when the truth names no channels; then the environment's
    channels are used.
    """

    options: Mapping[str, Mapping[str, Any]] | None = field(repr=False)
    wrong: Mapping[str, str]

    def same(self, other: "ChannelConfig", name: str) -> bool:
        if self.options is None or other.options is None:
            return self.options is other.options
        return name in self.options and self.options[name] == other.options.get(name)


class EnvironWithFiles(Mapping[str, str]):
    """The environment's variables, with the contents of the files that `NAME_FILE` variables name."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        found = read_variable(name, self._environ)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)


def resolve_channels(channels: Mapping[str, Mapping[str, Any]], environ: Mapping[str, str]) -> ChannelConfig:
    """Return the truth's `channels` with their references to the environment resolved.

    A channel with a reference that can't be resolved is in `wrong`, with the reason.
    """
    if not channels:
        return ChannelConfig(None, {})
    options: dict[str, Mapping[str, Any]] = {}
    wrong: dict[str, str] = {}
    for name, raw in channels.items():
        try:
            options[name] = resolve_options(raw, EnvironWithFiles(environ))
        except VariableRefused as error:
            wrong[name] = f"{name}.{error}"
        except LookupError as error:
            wrong[name] = f"{name}: {error.args[0]}"
        except Exit as error:  # a file that can't be read
            wrong[name] = f"{name}: {error.message}"
    return ChannelConfig(options, wrong)


def open_configured(
    config: ChannelConfig, settings: ChannelSettings, keep: Mapping[str, Channel] = MappingProxyType({})
) -> tuple[dict[str, Channel], dict[str, str]]:
    """Create the configured channels, not connected yet; return them, and why others can't be created.

    Both results are by channel name. Channels in `keep` are used as they are. Raises Exit, code 2, when the
    environment configures a channel that can't be created.
    """
    if config.options is None:
        return dict(keep) or {channel.name: channel for channel in create_environment_channels(settings)}, {}
    found: dict[str, Channel] = {}
    wrong = dict(config.wrong)
    for name in config.options:
        try:
            found[name] = keep[name] if name in keep else open_channel(config, name)
        except ChannelError as error:
            wrong[name] = str(error)
    return found, wrong


def open_channel(config: ChannelConfig, name: str) -> Channel:
    """Create one channel of the truth, not connected yet. Raises ChannelError, which names the channel."""
    given = dict((config.options or {})[name])
    kind = given.pop(TYPE, None)
    if not isinstance(kind, str):
        raise ChannelError(f'{name}: {TYPE}: is missing; one is "slack"')
    return create_channel(kind, name, given)


def require_one_channel(found: Mapping[str, Channel], wrong: Mapping[str, str]) -> None:
    """Raise Exit, code 2, if channels are configured and none of them can be created."""
    if wrong and not found:
        words = "; ".join(f"services.notifier.settings.channels.{why}" for why in wrong.values())
        raise Exit(Code.CONFIGURATION, words)


log = logs.get("notifier")


@dataclass(frozen=True, slots=True)
class ChannelAddress:
    """The address of a channel of the truth; `digest` identifies it, `shown` describes it for people.

    `shown` never holds the path of a URL, which may be secret.
    """

    digest: str
    shown: str


def find_channel_addresses(channels: Mapping[str, Mapping[str, Any]]) -> dict[str, ChannelAddress]:
    """Return, by channel, the address that the truth itself holds.

    A channel whose whole address is in the environment is left out.
    """
    found = {}
    for name, options in channels.items():
        parts = (*ADDRESS_OPTIONS, "user") if options.get(TYPE) == "pushover" else ADDRESS_OPTIONS
        literals = {part: options[part] for part in parts if _is_literal(options.get(part))}
        if literals.keys() - {"type"}:
            digest = hashlib.sha256(orjson.dumps(literals, option=orjson.OPT_SORT_KEYS)).hexdigest()[:24]
            found[name] = ChannelAddress(digest, _show_address(literals))
    return found


async def send_and_close(channels: Mapping[str, Channel], message: Message) -> None:
    """Send a message over each of some channels, in up to four attempts, and close these channels."""
    await asyncio.gather(*(_send_with_retries(channel, message) for channel in channels.values()))


async def _send_with_retries(channel: Channel, message: Message) -> None:
    """Send a message over one channel, with PAUSES_SEC between attempts; log a failure; close the channel."""
    try:
        for pause_sec in (*PAUSES_SEC, None):
            try:
                await channel.send(message)
            except SendError as error:
                reason = error.reason
                if error.is_permanent or pause_sec is None:
                    break
            else:
                return
            await asyncio.sleep(pause_sec)
        log.warning("channel.address_unsent", channel=channel.name, reason=reason)
    except Exception as error:  # noqa: BLE001 - whatever a channel does, the term continues
        log.warning("channel.address_unsent", channel=channel.name, reason=type(error).__name__)
    finally:
        await channel.aclose()


def _is_literal(value: Any) -> bool:
    return value is not None and parse_reference(value) is None


def _show_address(options: Mapping[str, Any]) -> str:
    """Return a channel's kind, host and recipient for people, in 300 characters at most.

    A recipient that is a key is not shown: who has it can send there.
    """
    kind, url, host = options.get("type"), options.get("url"), options.get("host")
    place = parse_destination(url) if isinstance(url, str) else host
    rest = ", ".join(str(options[part])[:100] for part in SHOWN_OPTIONS if part in options)
    where = " ".join(filter(None, (f"at {place}" if place else "", f"to {rest}" if rest else "")))
    return f"{kind} {where}".strip()[:300]


def make_unopened_channel_message(channel: str, why: str, now: float) -> Message:
    """Return the message that a channel can't be opened, and `why`; `now` in epoch seconds."""
    return Message(
        f"channel.{channel}.{round(now * 1000)}",
        f"channel {channel} can't be opened",
        f"{why}; until that is right, nothing goes there",
        Severity.WARNING,
        now,
    )


def make_new_address_message(shown: Mapping[str, str], revision: int, now: float) -> Message:
    """Return the message about addresses that are new in the truth.

    `shown` are the addresses in words, by channel; `now` is in epoch seconds.
    """
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


class ChannelPool:
    """The workers of all open channels, in order, with the messages that they send and their stored pauses.

    Args:
        inbox: takes the outcomes of attempts.
        prepare: returns a message as it is sent over a channel, with what must not be stored on a bus; None
            leaves it.
        clock: by which the stored times of waits are, in epoch seconds.
    """

    def __init__(
        self,
        inbox: Inbox,
        tracer: Tracer | None = None,
        *,
        prepare: Callable[[Message, str], Message] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inbox, self._tracer, self._clock = inbox, tracer, clock
        self._prepare = prepare or (lambda message, _channel: message)
        self.outbox, self.state = Outbox(), NotifierState()
        self.workers: dict[str, ChannelWorker] = {}
        self._tasks: dict[ChannelWorker, asyncio.Task[None]] = {}
        self.retry_for_sec = RETRY_FOR_SEC

    def open(self, channels: Mapping[str, Channel], group: asyncio.TaskGroup) -> None:
        """Open exactly these channels: keep the worker of an unchanged one, stop the workers of others.

        The new workers run in `group`.
        """
        for name, worker in list(self.workers.items()):
            if channels.get(name) is not worker.channel:
                del self.workers[name]
                worker.stop()
        before, self.workers = self.workers, {}
        for name, channel in channels.items():
            self.workers[name] = before.get(name) or self._start_worker(channel, group)

    def set_retry_for(self, retry_for_sec: float) -> None:
        """Set how long a message is retried before it is given up, in seconds."""
        self.retry_for_sec = retry_for_sec
        for worker in self.workers.values():
            worker.wake()

    def channels(self) -> dict[str, Channel]:
        return {name: each.channel for name, each in self.workers.items()}

    def enqueue(self, channel: str, message: Message) -> None:
        """Do nothing if the channel was closed meanwhile."""
        if channel in self.workers:
            self.workers[channel].put(message, self.outbox.failing_sec(message, channel, self._clock()))

    def trouble(self) -> str | None:
        """Return the failures of all channels, in words for a beat's `detail`; None without failures."""
        return "; ".join(each.trouble for each in self.workers.values() if each.trouble) or None

    async def finish(self, within_sec: float) -> None:
        """Stop all workers, and wait `within_sec` seconds at most for attempts that are under way."""
        for worker in self._tasks:
            worker.stop()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=within_sec)

    def _start_worker(self, channel: Channel, group: asyncio.TaskGroup) -> ChannelWorker:
        failures, pause_sec = self.state.pause(channel.name, self._clock())
        worker = ChannelWorker(
            channel,
            anchor=self.outbox.anchor,
            outcome=self._handle_outcome,
            prepare=lambda message: self._prepare(message, channel.name),
            retry_for_sec=lambda: self.retry_for_sec,
            failures=failures,
            pause_sec=pause_sec,
        )
        for message in self.outbox.pending_messages(channel.name):
            worker.put(message, self.outbox.failing_sec(message, channel.name, self._clock()))
        self._tasks[worker] = group.create_task(self._run_worker(worker), name=f"worker:{channel.name}")
        return worker

    def _handle_outcome(self, outcome: Outcome) -> None:
        """Log and trace an outcome, and have the next dispatch apply it."""
        log_outcome(outcome)
        if self._tracer is not None:
            for step in make_steps(outcome):
                self._tracer.record(step)
        self._inbox.add_outcome(outcome)

    async def _run_worker(self, worker: ChannelWorker) -> None:
        try:
            await worker.run()
        finally:
            self._tasks.pop(worker, None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_WITHIN_SEC):
                    await worker.channel.aclose()
