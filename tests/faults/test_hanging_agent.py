"""FAILURES row 35: an agent's work loop hangs."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from marketswarm.fleet.child import Child, Program
from support.rig import AlertTail
from support.scenes.faults import SLACK, Scene, fits_beat, fits_outage, only, service
from support.waiting import auntil

WATCHDOG_SEC = 2.0


@pytest.mark.parametrize(
    ("string", "reason", "where"),
    [
        pytest.param(signal.SIGUSR1, "work_hung", "hang_here", id="work hangs"),
        pytest.param(
            *(signal.SIGUSR2, "loop_hung", "block_here"),
            id="loop blocked",
            marks=pytest.mark.nightly("[work hangs]; tests/live/test_agent_end.py has a loop that hangs"),
        ),
    ],
)
async def test_row_35_a_hung_agent_shows_its_stacks_ends_with_5_is_restarted_and_never_beats_on(
    tmp_path, string, reason, where
):
    said: list[bytes] = []
    told: list[dict] = []
    with (
        Scene(tmp_path, {"worker": service(), "alpha": service()}, idle={"worker"}) as scene,
        AlertTail(scene.system.url, "worker:heartbeat") as tail,
    ):
        environ = {
            **scene.env,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parent / "programs"),
            "WATCHDOG_SEC": str(WATCHDOG_SEC),
        }
        program = Program("worker", [sys.executable, "-m", "worker_that_hangs"], environ)

        def tell(event: str, level: str = "info", **facts: Any) -> None:
            told.append(facts)

        child = Child(program, tell, said.append)
        child.start()
        supervising = asyncio.create_task(child.supervise())
        try:
            await auntil(lambda: len(tail.seen) >= 3, what="beats")
            boot = tail.seen[-1][1]["boot"]
            assert child.pid is not None
            await auntil(lambda: scene.roster().get("worker", {}).get("verdict") == "up", what="it to be up")
            hung_at = time.time()
            os.kill(child.pid, string)
            count = len(tail.seen)
            await auntil(lambda: told, what=lambda: f"its end; it said {said}")
            assert told[0]["code"] == 5
            hung = only([line for line in map(orjson.loads, said) if line["event"] == "agent.hung"])
            assert hung["reason"] == reason
            assert where in str(hung["threads"]) + str(hung["tasks"])
            assert WATCHDOG_SEC <= hung["silent_sec"] <= SLACK * (WATCHDOG_SEC + 1)
            late = [beat for _, beat in tail.seen[count:] if beat["boot"] == boot]
            assert len(late) <= 2  # what was made of the last progress

            # it is back, and the healer has told all of it with the right numbers
            def alerts() -> list[dict]:  # before that it was missed until it was started
                return [event for event in scene.alerts.of(svc="worker") if event["ts"] > hung_at]

            await auntil(lambda: len(alerts()) >= 2, what="the miss and the ok")
            await auntil(lambda: tail.seen[-1][1]["boot"] != boot, what="its first beat")
            miss, ok = alerts()
            last = [beat for _, beat in tail.seen if beat["boot"] == boot][-1]
            first = next(beat for _, beat in tail.seen[count:] if beat["boot"] != boot)
            assert (miss["type"], ok["type"]) == ("heartbeat_miss", "heartbeat_ok")
            assert miss["reason"] == "silent"
            assert fits_beat(miss["since"], last["ts"])
            assert fits_outage(ok["down_sec"], first["ts"] - last["ts"])
            assert scene.alarms(svc="alpha") == []
        finally:
            hurry = asyncio.Event()
            hurry.set()
            await child.end(hurry)
            await supervising
