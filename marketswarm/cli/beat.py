"""Implement `marketswarm beat`: send beats from a script, one or one after the other."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from marketswarm.agent.truth_source import (
    NAMED_TRUTH_BUSES,
    FoundTruth,
    create_bus,
    find_first_valid,
    find_truth_buses,
    order_truth_buses,
    read_first_valid,
)
from marketswarm.beat import Beat, RunReport, Sender, Status, compute_life_sec, encode_beat
from marketswarm.bus import WITHIN_SEC, Bus, BusError
from marketswarm.bus.stored_values import replace_unusable
from marketswarm.cli import event_loop, output
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import add_remedy, embedded_buses, find_url, with_embedded_buses
from marketswarm.cli.options import Data, Svc, flag, option, require_service_name, time_option
from marketswarm.exit import Code, Exit, Mistake
from marketswarm.keys import heartbeat_channel, last_beat_key, pings_key
from marketswarm.settings import CommonSettings, read_settings
from marketswarm.time_slice import wait_within
from marketswarm.truth import SYSTEM, Truth, Watch, describe_unknown

if TYPE_CHECKING:
    from marketswarm.pings import JobPing

_MIN_EVERY_SEC: Final = 0.05
_DEFAULT_INTERVAL_SEC: Final = 10.0
_CHECK_PARENT_SEC: Final = 1.0
_GOODBYE_WITHIN_SEC: Final = 1.0
TRUTH_AT_END_SEC: Final = 0.5
"""How long a last beat waits for the truth, in case a reseed has moved its service since the beat before."""


def beat(
    svc: Svc,
    *,
    status: Annotated[Status, typer.Option("--status", help="How it is; stopping is a goodbye.")] = "ok",
    detail: Annotated[str | None, option("--detail", "TEXT", "Why, or what else is worth knowing.")] = None,
    every: Annotated[
        float | None,
        time_option(
            "--every", "10s", "Go on beating, until Ctrl-C or until the program that started this is gone."
        ),
    ] = None,
    verbose: Annotated[bool, flag("--verbose", "Print where it went.", "-v")] = False,
    data: Data = DATA,
) -> None:
    """Send one beat for a service, to the bus and channel that the truth has for it.

    A beat for a service that the truth does not name is sent, too; the exit code is then 6, because no
    healer watches it.
    """
    require_service_name(svc)
    if every is not None and every < _MIN_EVERY_SEC:
        raise typer.BadParameter(f"--every: at least {_MIN_EVERY_SEC:g} s")
    parent = os.getppid()  # asked before the first beat: the program that started this may end with it
    sender = BeatSender(svc, data, None if every is None else secrets.token_hex(6))
    event_loop.run(_beat(sender, BeatText(status, detail, every), parent, verbose=verbose))


class BeatText(NamedTuple):
    """What each of several beats says; `every_sec` is their interval, None means the one of the truth."""

    status: Status = "ok"
    detail: str | None = None
    every_sec: float | None = None


_NO_TEXT: Final = BeatText()


def find_destination(truth: Truth | None, svc: str, default_timeout_sec: float) -> tuple[Watch, bool]:
    """Return where a service's beats go, by the truth or by the defaults, and whether the truth names it."""
    watch = truth.find_watch(svc) if truth else None
    if watch is not None:
        return watch, True
    timeout_sec = truth.timeout_of(svc) if truth else default_timeout_sec
    return Watch(svc, SYSTEM, heartbeat_channel(svc), _DEFAULT_INTERVAL_SEC, timeout_sec), False


class BeatSender:
    """Publish the beats of `svc`, by the truth that the buses hold, or by defaults while none does.

    With a `boot` they are the beats of a process: counted, and with the revision of the truth in force.
    `is_known` is False for a service that the truth does not name: its beats have the defaults, and no healer
    monitors it.

    The constructor raises Exit, code 2, where a variable or the URL of a bus is wrong. Later, the truth is
    read without a bus that has no URL here, since this machine may have no business with it. The bus of the
    beats keeps the URL that it had, and `url_trouble` says why it has no other, or is None. If it never had
    one, `publish` and `store` raise Exit, code 2.
    """

    def __init__(self, svc: str, data: Path, boot: str | None = None) -> None:
        self.svc, self.boot = svc, boot
        self._settings = read_settings(CommonSettings)
        self._embedded = embedded_buses(data)
        self._sender = Sender(host=socket.gethostname(), started=time.time()) if boot else None
        self._found: FoundTruth | None = None
        self._buses: dict[str, Bus] = {}  # by URL
        self._urls: dict[str, str] = {}  # by name: the last one that was found, by the truth if there is one
        self.url_trouble: str | None = None
        self._failed: dict[str, str] = {}  # URL: why the bus did not answer a moment ago
        self._i = 0
        self._life_sec: float | None = None  # that of the last-beat key, if this process wrote it
        for url, name in find_truth_buses(self._settings, self._make_environ()).items():
            self._open_bus(name, url)
        self.destination, self.is_known = self._find_destination()

    @property
    def where(self) -> str:
        return f"{self.destination.bus} at {self._open_destination_bus().where}"

    async def refresh_truth(self, within_sec: float = WITHIN_SEC) -> bool:
        """Read the truth again unless it is unchanged; return True if any bus holds one.

        A bus has `within_sec` to answer.
        """
        known = self._found.loaded if self._found else None
        key = self._settings.truth_redis_key
        seen = await read_first_valid(self._open_truth_buses(), key, known, within_sec)
        self._failed = {each.bus.url: each.reason for each in seen if not each.has_answered}
        found = find_first_valid(seen)
        if found is None:
            return False
        if self._found is None:
            self._urls.clear()  # the defaults: they are not where this truth says that the buses are
        self._found = found
        self.destination, self.is_known = self._find_destination()
        return True

    async def refresh_truth_at_end(self, within_sec: float) -> None:
        """Read the truth again before a last beat; a bus that is slow to show it may still take the beat."""
        await self.refresh_truth(within_sec)
        self.forget_failures()

    async def publish(
        self,
        status: Status = "ok",
        detail: str | None = None,
        every_sec: float | None = None,
        exit_code: int | None = None,
        within_sec: float = WITHIN_SEC,
        *,
        run: RunReport | None = None,
        rid: str | None = None,
    ) -> int:
        """Publish a beat, perhaps with a report about a run; return how many subscribers received it."""
        self._i += 1  # failed ones count, because a beat whose answer was lost may have arrived
        is_goodbye = status == "stopping"
        life_sec = self._life_sec if is_goodbye else compute_life_sec(self.destination.timeout_sec)
        sent = Beat(
            self.svc,
            self._i,
            time.time(),
            boot=self.boot,
            rev=self._found.revision if self._found and self.boot else None,
            status=status,
            detail=detail,
            every=every_sec,
            exit_code=exit_code,
            run=run,
            rid=rid,
            life=life_sec,
        )
        payload = encode_beat(sent, self._sender)
        bus = self._find_answering_bus()
        pipe = bus.pipeline()
        pipe.publish(self.destination.channel, payload)
        if run not in (None, "ended"):  # no sign of life, so the key keeps the last one
            pipe.ping()
        elif life_sec is None or is_goodbye:
            # this beat must not extend the life of the key, which measures silence
            pipe.set(last_beat_key(self.svc), payload, xx=True, keepttl=True)
        else:
            pipe.set(last_beat_key(self.svc), payload, px=max(1, round(1000 * life_sec)))
        heard, _ = await self._ask(bus, pipe.execute(), within_sec)
        if run in (None, "ended"):
            self._life_sec = life_sec
        return heard if isinstance(heard, int) else 0

    async def store(self, key: str, value: bytes, life_sec: float) -> None:
        bus = self._find_answering_bus()
        await self._ask(bus, bus.client.set(key, value, px=round(1000 * life_sec)), WITHIN_SEC)

    async def add_ping(self, ping: "JobPing") -> None:
        """Add a ping to the stream of the service's pings, and set the life of that. Raises BusError.

        Delete a stream that an entry with the last possible id has ended: it would take no other entry.
        """
        from marketswarm.pings import PINGS_KEPT, compute_kept_sec  # noqa: PLC0415 - no beat needs it

        bus, key = self._find_answering_bus(), pings_key(self.svc)
        fields: dict[Any, Any] = {**ping.encode()} | ({"body": ping.body} if ping.body else {})

        def add() -> Awaitable[Any]:
            pipe = bus.pipeline()
            pipe.xadd(key, fields, maxlen=PINGS_KEPT, approximate=True)
            pipe.pexpire(key, round(1000 * compute_kept_sec(self.destination.timeout_sec)))
            return pipe.execute()

        try:
            await self._ask(bus, add(), WITHIN_SEC)
        except BusError as error:
            if not await replace_unusable(error, bus, {key: "stream"}):
                raise
            self._failed.pop(bus.url, None)
            await self._ask(bus, add(), WITHIN_SEC)

    def forget_failures(self) -> None:
        self._failed.clear()

    async def aclose(self) -> None:
        for bus in self._buses.values():
            await bus.aclose()

    def describe(self, error: BusError) -> str:
        detail = f" ({error.detail})" if error.reason == "error" and error.detail else ""
        old_url = f"; {self.url_trouble}" if self.url_trouble else ""
        return f"{self.where}: {error.reason}{detail}{old_url}"

    def _open_truth_buses(self) -> list[Bus]:
        """Return the buses that may hold the truth, without those that have no URL here."""
        urls = {}
        for name in NAMED_TRUTH_BUSES:
            with contextlib.suppress(Mistake):
                urls[name] = self._find_url(name)[0]
        places = order_truth_buses(self._settings, urls)
        return [self._open_bus(name, url) for url, name in places.items()]

    def _find_url(self, name: str) -> tuple[str, str | None]:
        """Return the URL of a bus, and None or why it is the former one. Raises Exit, code 2, without one."""
        try:
            url = find_url(name, self._make_environ(), self.truth)
        except Mistake as error:
            if name not in self._urls:
                raise
            return self._urls[name], f"its URL is the one from before, because {error.message}"
        self._urls[name] = url
        return url, None

    @property
    def truth(self) -> Truth | None:
        if self._found is None:
            return None
        return self._found.loaded.truth.with_default_timeout(self._settings.default_timeout_sec)

    def _make_environ(self) -> dict[str, str]:
        return with_embedded_buses(os.environ, self._embedded, self.truth)

    def _find_destination(self) -> tuple[Watch, bool]:
        return find_destination(self.truth, self.svc, self._settings.default_timeout_sec)

    def _open_destination_bus(self) -> Bus:
        name = self.destination.bus
        url, self.url_trouble = self._find_url(name)
        return self._open_bus(name, url)

    def _find_answering_bus(self) -> Bus:
        """Return the destination's bus. Raises BusError if it did not answer a moment ago."""
        bus = self._open_destination_bus()
        if bus.url in self._failed:
            raise BusError(bus.name, self._failed[bus.url])
        return bus

    def _open_bus(self, name: str, url: str) -> Bus:
        if url not in self._buses:
            self._buses[url] = create_bus(name, url)
        return self._buses[url]

    async def _ask(self, bus: Bus, request: Awaitable[Any], within_sec: float) -> Any:
        """Send a request and return its answer; keep the reason if it fails. Raises BusError."""
        try:
            return await bus.ask(request, within_sec)
        except BusError as error:
            self._failed[bus.url] = error.reason
            raise


def print_unknown_service(svc: str, truth: Truth | None, more: str = "") -> None:
    """Print to stderr that a service is not watched, with the name that was perhaps meant."""
    if truth is None:
        output.print_error(f"no truth was found that may name {svc}{more}")
        return
    output.print_error(f"nobody watches {svc}: {describe_unknown(svc, truth.services)}{more}")


async def _beat(sender: BeatSender, text: BeatText, parent: int, *, verbose: bool) -> None:
    await sender.refresh_truth()
    try:
        heard = await sender.publish(*text)
    except BusError as error:
        message = add_remedy(f"no beat: {sender.describe(error)}", error.bus, error.reason)
        raise Exit(Code.NO_BUS, message) from None
    to = sender.destination
    sent = f" (sent to {to.channel} on {sender.where})"
    if not sender.is_known:
        print_unknown_service(sender.svc, sender.truth, sent)
    elif verbose:
        output.print_line(f"{sender.svc} beats on {to.channel}, {sender.where}: heard by {heard}")
    if text.every_sec is not None:
        stopped = catch_end_signals()
        await beat_until_stopped(sender, stopped, text, goes_on=lambda: os.getppid() == parent)
    await sender.aclose()
    if sender.truth is not None and not sender.is_known:
        raise Exit(Code.NOT_WATCHED, "")


def catch_end_signals() -> asyncio.Event:
    """Return an event that a signal to end sets from now on; one that is ignored stays ignored."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, stopped.set)
    return stopped


async def beat_until_stopped(
    sender: BeatSender,
    stopped: asyncio.Event,
    text: BeatText = _NO_TEXT,
    *,
    goes_on: Callable[[], bool] = lambda: True,
    is_alive: Callable[[], bool] = lambda: True,
) -> None:
    """Send beats until `stopped` is set, and then a last one, a goodbye; the first beat was sent already.

    Args:
        text: what the beats say, and their interval; that of the truth may be changed by a reseed.
        goes_on: asked about once a second; False ends the beats without a goodbye.
        is_alive: asked before each beat; while it is False, no beat is sent.
    """

    def interval_sec() -> float:
        return sender.destination.interval_sec if text.every_sec is None else text.every_sec

    due, trouble = time.monotonic() + interval_sec(), ""
    while goes_on():
        left_sec = due - time.monotonic()
        if left_sec <= 0:
            due = max(due + interval_sec(), time.monotonic())
            if is_alive():
                trouble = await _beat_again(sender, text, trouble)
        elif await wait_within(stopped, min(left_sec, _CHECK_PARENT_SEC)):
            if is_alive():
                await _say_goodbye(sender)
            return


async def _say_goodbye(sender: BeatSender) -> None:
    sender.forget_failures()
    await sender.refresh_truth_at_end(TRUTH_AT_END_SEC)
    with contextlib.suppress(BusError, Mistake):
        await sender.publish("stopping", within_sec=_GOODBYE_WITHIN_SEC)


async def _beat_again(sender: BeatSender, text: BeatText, last_trouble: str) -> str:
    """Send one more beat; return what is wrong, or an empty text, and print that when it changes.

    A bus without a URL is no reason to end: the file of one may be written now, and a reseed may bring one.
    """
    await sender.refresh_truth()
    try:
        await sender.publish(*text)
        trouble = f"{sender.destination.bus}: {sender.url_trouble}" if sender.url_trouble else ""
    except BusError as error:
        trouble = f"no beat: {sender.describe(error)}"
    except Mistake as error:
        trouble = f"no beat: {error.message}"
    if trouble != last_trouble:
        output.print_error(trouble or "beats arrive again")
    return trouble
