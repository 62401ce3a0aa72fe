"""Implement `marketswarm dead`, `resend` and `notify list`: what the notifier sent, and what it could not."""

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import typer

from marketswarm.cli import output
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.fleet_view import FleetView, ask_fleet, describe_away
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.notification_text import describe_delay
from marketswarm.cli.notifier import request_notifier
from marketswarm.cli.options import WITHIN_SEC, By, Data, Json, Within, argument, author_name, flag
from marketswarm.cli.tables import show
from marketswarm.operator.dead_messages import UndeliveredMessage, read_dead_messages
from marketswarm.operator.requests import ALL, RequestKind
from marketswarm.status.channel_records import ADD_CHANNEL, ChannelState, ChannelStatus, describe_state
from marketswarm.status.notifications import CHANNEL_REMEDY, Notifications, read_notifications
from marketswarm.text import escape_text

_MARKS: Final[Mapping[ChannelState, str]] = {
    ChannelState.WORKS: "✓",
    ChannelState.FAILS: "✗",
    ChannelState.BROKEN: "✗",
    ChannelState.UNUSED: "·",
}
"""By how a channel is, the mark that `notify test` has for such an answer."""


def dead(as_json: Json = False, data: Data = DATA) -> None:
    """Show the messages that a channel refused for good, and the messages that still wait for a channel.

    JSON has the first kind; the second is under `waiting` in `marketswarm status --json`.
    """
    messages, found, failed = ask_fleet(data, _read_messages)
    if as_json:
        output.print_json(messages)
        return
    pending, now = found.pending, time.time()
    if pending:
        output.print_line(f"{len(pending)} not delivered yet:")
        show(pending, _make_columns(lambda each: describe_delay(each, now), now))
    if messages:
        output.print_lines([f"\n{len(messages)} given up:"] if pending else [])
        one, every = suggest_command("resend ID", data), suggest_command("resend --all", data)
        show(
            messages,
            _make_columns(lambda each: each.reason, now),
            hint=f"{one} sends one again, {every} all of them",
        )
    if found.channels is not None and not found.channels:
        output.print_line(f"no channel is open, so no message is sent: {CHANNEL_REMEDY}", output.YELLOW)
    elif not (messages or pending):
        output.print_line("everything was delivered")
    output.print_lines(describe_away(failed), output.YELLOW)


def _make_columns(why: Callable[[Any], str], now: float) -> dict[str, Callable[[Any], str]]:
    """Return the columns for messages of both kinds; `why` says of one why it is not delivered."""
    return {
        "id": lambda each: each.id,
        "channel": lambda each: each.channel,
        "since": lambda each: "-" if each.ts is None else format_moment(each.ts, now),
        "why": why,
        "what": lambda each: each.title,
    }


def resend(
    ident: Annotated[str | None, argument("[ID]", "Which, as `marketswarm dead` shows it.")] = None,
    every: Annotated[bool, flag("--all", "All of them.")] = False,
    by: By = None,
    within: Within = WITHIN_SEC,
    data: Data = DATA,
) -> None:
    """Send again what could not be delivered, under the same id, over the channel that did not take it.

    All of them are sent a hundred at a time, each hundred once the one before it was accepted.
    """
    if (ident is None) is not every:
        raise typer.BadParameter("which? Say an id of `marketswarm dead`, or --all")
    request_notifier(RequestKind.RESEND, ident or ALL, author_name(by), within, data)


async def _read_messages(
    fleet: FleetView,
) -> tuple[list[UndeliveredMessage], Notifications, dict[str, str]]:
    messages, failed = await read_dead_messages(fleet.buses())
    return messages, await read_notifications(fleet.buses()), failed


def notify_list(as_json: Json = False, data: Data = DATA) -> None:
    """Show the channels that the notifier opened, what each sent and failed last, and how to add one."""
    found = ask_fleet(data, lambda fleet: read_notifications(fleet.buses()))
    if as_json:
        output.print_json({"channels": found.channels, "add": ADD_CHANNEL})
        return
    if found.channels:
        now = time.time()
        for one in found.channels:
            output.print_lines(describe_channel(one, now))
        test = suggest_command("notify test CHANNEL", data)
        output.print_line(f"{test} sends a test over one")
    elif found.channels is None:
        output.print_line("unknown: no notifier has said which channels it has")
    else:
        output.print_line("no channel is open: nobody is told of an outage", output.YELLOW)
    output.print_lines(["", "To add a channel:", *(f"  {line}" for line in ADD_CHANNEL)])


def describe_channel(one: ChannelStatus, now: float) -> list[str]:
    """Return the lines about a channel: `✓ slack (hooks.slack.com): works; 18 sent, 5 failed`, and more."""
    record = one.record
    where = f" ({one.where})" if one.where and one.where != one.name else ""
    waiting = f", {one.waiting} waiting" if one.waiting else ""
    counts = f"{record.sent} sent, {record.failed + record.refused} failed{waiting}"
    lines = [f"{_MARKS[one.state]} {one.name}{where}: {describe_state(one.state)}; {counts}"]
    if record.sent_at is not None:
        lines.append(f"    sent last: {record.sent_title}, {format_moment(record.sent_at, now)}")
    if record.failed_at is not None:
        why = one.broken or record.reason
        at = format_moment(record.failed_at, now)
        lines.append(f"    failed last: {record.failed_title}, {at}: {why}")
    if one.retry_at is not None:
        lines.append(f"    next attempt: {format_moment(one.retry_at, now)}")
    return [escape_text(line) for line in lines]
