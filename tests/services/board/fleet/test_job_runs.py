"""The runs of a job on its page."""

from dataclasses import replace
from typing import Any

from marketswarm.keys import pings_key
from marketswarm.pings import MAX_BODY_BYTES, JobPing, JobRun, PingForm, PingKind
from marketswarm.testing import MemoryBus
from marketswarm.truth.schedule import parse_schedule
from services.board.fleet.job_runs import (
    FIRST_CHARS,
    FIRST_LINES,
    SHOWN,
    RunView,
    make_job_view,
    read_run_views,
    view_run,
)
from services.board.fleet.snapshot import LastRunView
from services.board.fleet.words import draw_runs
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
    first, second = await read_run_views(bus, "backup", LAST)
    assert (first.started_at, first.ended_at, first.ok) == (AT + 60, None, None)
    assert second == RunView(AT, AT + 9, 9.0, False, 3, "disk full")
    await bus.aclose()


async def test_a_run_under_exec_is_one_row_and_one_that_was_not_added_is_another():
    bus = MemoryBus("system-redis")
    run = JobPing(
        kind=PingKind.FAIL, ts=AT, form=PingForm.EXEC, rid="a", exit_code=3, took_sec=12.4, body=b"disk full"
    )
    await add_pings(bus, run)
    assert await read_run_views(bus, "backup", LAST) == (RunView(AT - 12.4, AT, 12.4, False, 3, "disk full"),)
    later = replace(LAST, ended_at=AT + 60)
    assert [one.ended_at for one in await read_run_views(bus, "backup", later)] == [AT + 60, AT]
    earlier = replace(LAST, ended_at=AT - 60)
    assert len(await read_run_views(bus, "backup", earlier)) == 1
    await bus.aclose()


async def test_only_the_latest_runs_are_shown():
    bus = MemoryBus("system-redis")
    await add_pings(bus, *(JobPing(kind=PingKind.SUCCESS, ts=AT + n) for n in range(SHOWN + 5)))
    found = await read_run_views(bus, "backup", None)
    assert [one.ended_at for one in found] == [AT + n for n in range(SHOWN + 4, 4, -1)]
    await bus.aclose()


async def test_of_a_command_without_pings_the_last_run_is_known():
    bus = MemoryBus("system-redis")
    assert await read_run_views(bus, "backup", LAST) == (
        RunView(AT - 12.4, AT, 12.4, False, 3, "exit 3 after 12.4 s"),
    )
    assert await read_run_views(bus, "backup", None) == ()
    await bus.aclose()


def test_what_a_run_wrote_is_escaped_and_its_first_lines_stand_alone():
    bodies = ("first\n", "\n".join(f"line {n}" for n in range(3000)) + "\x1b[31m")
    found = view_run(JobRun(rid=None, started_at=None, ended_at=AT, ok=True, bodies=bodies[:1] * 2))
    assert (found.text, found.first) == ("first\nfirst", "first\nfirst")
    found = view_run(JobRun(rid=None, started_at=None, ended_at=AT, ok=True, bodies=bodies))
    assert found.text.endswith("line 2999\\x1b[31m")
    assert len(found.text) < MAX_BODY_BYTES + 10
    assert found.first.split("\n") == found.text.split("\n")[:FIRST_LINES]
    assert len(view_run(JobRun(rid=None, started_at=None, bodies=("x" * 9000,))).first) == FIRST_CHARS


def run_of(took_sec: float | None, *, ok: bool | None = True, ended_at: float = AT) -> RunView:
    return RunView(ended_at - (took_sec or 0.0), ended_at, took_sec, ok, None)


def test_a_job_has_its_next_runs_and_how_long_one_takes_usually():
    runs = [run_of(None, ok=None), run_of(600.0, ok=False), run_of(100.0), run_of(140.0), run_of(120.0)]
    job = make_job_view(runs, parse_schedule("0 3 * * *", "Europe/Berlin"), AT)
    assert job.usual_sec == 120.0
    assert [at - job.next_at[0] for at in job.next_at] == [0.0, 86_400.0, 172_800.0]
    assert AT < job.next_at[0] <= AT + 86_400
    assert [run.took_sec for run in job.timed] == [120.0, 140.0, 100.0, 600.0]


def test_a_job_without_a_schedule_or_a_run_that_ended_well_has_neither():
    job = make_job_view([run_of(5.0, ok=False)], None, AT)
    assert (job.next_at, job.usual_sec) == ((), None)


def test_the_picture_of_the_runs_says_what_it_shows():
    job = make_job_view([run_of(600.0, ok=False), run_of(60.0), run_of(0.0)], None, AT)
    drawn = draw_runs(job)
    assert 'aria-label="3 runs of 0 s to 10 min, usually 30 s; 1 failed"' in drawn
    assert drawn.count("v-") == 3
    assert 'class="d" d="M585 60v-60"' in drawn
