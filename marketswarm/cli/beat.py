"""`marketswarm beat`: send beats from a script, one or one after the other."""

import asyncio
import os
import secrets
import signal
import time
from enum import StrEnum
from typing import Annotated, Final

import typer

from marketswarm.bus import BusError
from marketswarm.cli import event_loop, output
from marketswarm.cli.beat_sender import BeatSender
from marketswarm.cli.options import DATA, Data, Svc, parse_duration, require_service_name
from marketswarm.exit import Code, Exit

_MIN_EVERY_SEC: Final = 0.05
_CHECK_PARENT_SEC: Final = 1.0
_GOODBYE_WITHIN_SEC: Final = 1.0


class Status(StrEnum):
    """What a beat may say of its sender."""

    OK = "ok"
    DEGRADED = "degraded"
    STOPPING = "stopping"


def beat(
    svc: Svc,
    *,
    status: Annotated[Status, typer.Option("--status", help="How it is; stopping is a goodbye.")] = Status.OK,
    detail: Annotated[
        str | None, typer.Option("--detail", metavar="TEXT", help="Why, or what else is worth knowing.")
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            "--every",
            parser=parse_duration,
            metavar="10s",
            help="Go on beating, until Ctrl-C or until the program that started this is gone.",
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print where it went.")] = False,
    data: Data = DATA,
) -> None:
    """Send one beat for a service, to the bus and channel that the truth has for it."""
    require_service_name(svc)
    if every is not None and every < _MIN_EVERY_SEC:
        raise typer.BadParameter(f"--every: at least {_MIN_EVERY_SEC:g} s")
    parent = os.getppid()  # asked before the first beat: the program that started this may end with it
    sender = BeatSender(svc, data, None if every is None else secrets.token_hex(6))
    event_loop.run(_beat(sender, status, detail, every, parent, verbose=verbose))


def print_unknown_service(svc: str, more: str = "") -> None:
    """Print, to stderr, that the truth does not name a service."""
    typer.echo(f"marketswarm: the truth does not name {svc}, nobody watches it{more}", err=True)


async def _beat(
    sender: BeatSender,
    status: Status,
    detail: str | None,
    every_sec: float | None,
    parent: int,
    *,
    verbose: bool,
) -> None:
    """Send one beat, and more if `every_sec` is given. Raises Exit, code 3, if the first one fails."""
    await sender.refresh_truth()
    try:
        heard = await sender.publish(status.value, detail, every_sec)
    except BusError as error:
        raise Exit(Code.NO_BUS, f"no beat: {sender.describe(error)}") from None
    to = sender.destination
    if not to.known:
        print_unknown_service(sender.svc, f" (sent to {to.channel} on {sender.where})")
    elif verbose:
        output.print_line(f"{sender.svc} beats on {to.channel}, {sender.where}: heard by {heard}")
    if every_sec is not None:
        await _beat_until_stopped(sender, status, detail, every_sec, parent)
    await sender.aclose()


async def _beat_until_stopped(
    sender: BeatSender, status: Status, detail: str | None, every_sec: float, parent: int
) -> None:
    """Beat until a signal comes, then say goodbye; without a goodbye if our parent process has crashed."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, stopped.set)
    due, trouble = time.monotonic() + every_sec, ""
    while os.getppid() == parent:
        left_sec = due - time.monotonic()
        if left_sec <= 0:
            due = max(due + every_sec, time.monotonic())
            trouble = await _beat_again(sender, status, detail, every_sec, trouble)
        elif await _is_set_within(stopped, min(left_sec, _CHECK_PARENT_SEC)):
            await _say_goodbye(sender)
            return


async def _beat_again(
    sender: BeatSender, status: Status, detail: str | None, every_sec: float, last_trouble: str
) -> str:
    """Send one more beat. Return why it failed, '' if it did not; print that when it changes."""
    await sender.refresh_truth()
    try:
        await sender.publish(status.value, detail, every_sec)
        trouble = ""
    except BusError as error:
        trouble = sender.describe(error)
    if trouble != last_trouble:
        message = f"no beat: {trouble}" if trouble else "beats arrive again"
        typer.echo(f"marketswarm: {message}", err=True)
    return trouble


async def _say_goodbye(sender: BeatSender) -> None:
    sender.forget_failures()
    try:
        await sender.publish("stopping", within_sec=_GOODBYE_WITHIN_SEC)
    except BusError:
        return


async def _is_set_within(event: asyncio.Event, within_sec: float) -> bool:
    try:
        async with asyncio.timeout(within_sec):
            return await event.wait()
    except TimeoutError:
        return False
