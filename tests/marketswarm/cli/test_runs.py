"""`marketswarm runs`: the last runs of a job, and what they wrote."""

import orjson
import pytest
import redis

from marketswarm.cli.runs import describe_runs
from marketswarm.pings import JobPing, JobRun, PingForm, PingKind

T0 = 1_790_000_000.0


def ended(at: float, *, ok: bool = True, code: int | None = 0, took: float | None = 2.0, text: str = ""):
    return JobRun(
        rid=None,
        started_at=None if took is None else at - took,
        ended_at=at,
        ok=ok,
        exit_code=code,
        bodies=(text,),
    )


def test_a_line_says_how_a_run_ended_how_long_it_took_and_what_it_wrote():
    running = JobRun(rid=None, started_at=T0)
    found = [
        running,
        ended(T0, ok=False, code=3, text="begun\n\x1b[31mdisk full\x1b[0m\n\n"),
        running,
        ended(T0, ok=False, code=None, took=None),
        ended(T0, text="\n1204 files\nmore"),
    ]
    parts = [line.split("  ") for line in describe_runs(found, T0)]
    said = [[part.strip() for part in line if part.strip()] for line in parts]
    assert [line[0] for line in said] == ["1", "2", "3", "4", "5"]
    assert [line[2] for line in said] == [
        "running",
        "failed, exit 3",
        "no end reported",
        "failed",
        "succeeded",
    ]
    assert said[1][3:] == ["2 s", "disk full"]
    assert said[3][3:] == ["-"]
    assert said[4][3:] == ["2 s", "1204 files"]


def fill(bus, *pings):
    with redis.Redis.from_url(bus.url) as client:
        for ping in pings:
            client.xadd("pings:rss_agg", {**ping.encode(), "body": ping.body})


@pytest.mark.live
def test_runs_are_listed_and_the_output_of_one_is_printed(shell, seeded):
    system = seeded[0]
    none = shell("runs", "rss_agg")
    assert (none.returncode, none.stdout) == (1, "")
    assert "no run of rss_agg is on record" in none.stderr
    run = {"form": PingForm.EXEC, "took_sec": 12.0, "exit_code": 3}
    hostile = b"first\n\x1b[2Jsecond\n"
    fill(
        system,
        JobPing(kind=PingKind.FAIL, ts=T0, rid="a", body=hostile, **run),
        JobPing(kind=PingKind.SUCCESS, ts=T0 + 60),
    )
    first, second = shell.said("runs", "rss_agg").splitlines()
    assert first.startswith("1  ")
    assert "succeeded" in first
    assert second.split("  ")[-1] == "second"
    assert len(shell.said("runs", "rss_agg", "--limit", "1").splitlines()) == 1
    assert shell.said("runs", "rss_agg", "--output", "2") == "first\n\\x1b[2Jsecond\n"
    assert shell("runs", "rss_agg", "--output", "1").returncode == 1
    assert "only 2 runs" in shell("runs", "rss_agg", "--output", "3").stderr
    assert orjson.loads(shell.said("runs", "rss_agg", "--json"))[1] == {
        "n": 2,
        "rid": "a",
        "started_at": T0 - 12,
        "ended_at": T0,
        "took_sec": 12.0,
        "ok": False,
        "exit_code": 3,
        "output": hostile.decode().rstrip(),
    }
    system.cmd("SET", "run:rss_agg", orjson.dumps({"ok": True, "ts": T0 + 90, "said": "exit 0 after 1 s"}))
    assert "exit 0 after 1 s" in shell.said("runs", "rss_agg").splitlines()[0]
    unknown = shell("runs", "rss_ag")
    assert (unknown.returncode, "did you mean rss_agg" in unknown.stderr) == (2, True)
    system.stop()
    assert shell("runs", "rss_agg").returncode == 3
