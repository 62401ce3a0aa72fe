"""The runs of a job on its page."""

from typing import Any

from marketswarm.keys import pings_key
from marketswarm.pings import JobPing, JobRun, PingKind
from marketswarm.testing import MemoryBus
from services.board.fleet.service_page import MAX_CHARS, SHOWN, RunView, read_runs, view_run
from services.board.fleet.snapshot import LastRunView
from support.board_examples import AT

LAST = LastRunView(ok=False, text="exit 3 after 12.4 s", ended_at=AT, took_sec=12.4, exit_code=3)


async def add_pings(bus: MemoryBus, *pings: JobPing) -> None:
    """Add pings to the stream of the service `backup`."""
    for ping in pings:
        fields: dict[Any, Any] = {**ping.encode(), "body": ping.body}
        await bus.client.xadd(pings_key("backup"), fields)


async def test_runs_are_those_that_pings_report_the_latest_first():
    bus = MemoryBus("system-redis")
    await add_pings(
        bus,
        JobPing(kind=PingKind.START, ts=AT),
        JobPing(kind=PingKind.FAIL, ts=AT + 9, exit_code=3, body=b"disk full", size=9),
        JobPing(kind=PingKind.START, ts=AT + 60),
    )
    first, second = await read_runs(bus, "backup", LAST)
    assert (first.started_at, first.ended_at, first.ok) == (AT + 60, None, None)
    assert second == RunView(AT, AT + 9, 9.0, False, 3, "", "disk full")
    await bus.aclose()


async def test_only_the_latest_runs_are_shown():
    bus = MemoryBus("system-redis")
    await add_pings(bus, *(JobPing(kind=PingKind.SUCCESS, ts=AT + n) for n in range(SHOWN + 5)))
    found = await read_runs(bus, "backup", None)
    assert [one.ended_at for one in found] == [AT + n for n in range(SHOWN + 4, 4, -1)]
    await bus.aclose()


async def test_of_a_command_without_pings_the_last_run_is_known():
    bus = MemoryBus("system-redis")
    assert await read_runs(bus, "backup", LAST) == (
        RunView(AT - 12.4, AT, 12.4, False, 3, "", "exit 3 after 12.4 s"),
    )
    assert await read_runs(bus, "backup", None) == ()
    await bus.aclose()


def test_what_a_run_said_is_escaped_and_its_end_is_kept():
    run = JobRun(
        rid="\x1b[2J", started_at=None, ended_at=AT, ok=True, bodies=("first", "x" * 9000 + "\x1b[31m")
    )
    found = view_run(run)
    assert (found.rid, len(found.text)) == ("\\x1b[2J", MAX_CHARS)
    assert found.text.startswith("…x")
    assert found.text.endswith("\\x1b[31m")
