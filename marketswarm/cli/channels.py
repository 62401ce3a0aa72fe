"""Implement `marketswarm notify list`: each channel, what it sent and failed last, and how to add one."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from marketswarm.cli import event_loop, output
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.fleet_view import open_fleet
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.options import Data, Json
from marketswarm.status.channel_records import ADD_CHANNEL, ChannelState, ChannelStatus, describe_state
from marketswarm.status.notifications import Notifications, read_notifications
from marketswarm.text import escape_text

_MARKS: Final[Mapping[ChannelState, str]] = {
    ChannelState.WORKS: "✓",
    ChannelState.FAILS: "✗",
    ChannelState.BROKEN: "✗",
    ChannelState.UNUSED: "·",
}
"""By how a channel is, the mark that `notify test` has for such an answer."""


def notify_list(as_json: Json = False, data: Data = DATA) -> None:
    """Show the channels that the notifier opened, what each sent and failed last, and how to add one."""
    found = event_loop.run(_read_from_fleet(data))
    if as_json:
        channels = None if found.channels is None else [asdict(each) for each in found.statuses]
        output.print_json({"channels": channels, "add": ADD_CHANNEL})
        return
    if found.statuses:
        now = time.time()
        for one in found.statuses:
            output.print_lines(describe_channel(one, now))
        test = suggest_command("notify test CHANNEL", data)
        output.print_line(f"{test} sends a test over one")
    elif found.channels is None:
        output.print_line("unknown: no notifier has said which channels it has")
    else:
        output.print_line("no channel is open: nobody is told of an outage", output.YELLOW)
    output.print_lines(["", "To add a channel:", *(f"  {line}" for line in ADD_CHANNEL)])


async def _read_from_fleet(data: Path) -> Notifications:
    async with open_fleet(data) as fleet:
        return await read_notifications(fleet.buses())


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
