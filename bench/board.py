"""Measure a board of 10,000 services: its page in a real browser, and what the board costs while 20 follow.

Servers, healer and board are real, and every service beats. The browser and those that follow are the ones of
`make boardload`: tests/boardload/page.py measures with them. The limits are a page with a word in the same
browser, and a bare program that reads the same keys as often as the board.
"""

import asyncio
import json
import time
from statistics import median
from typing import Any, Final

import hiredis

from bench.beats import Beats, name_services
from bench.figures import Pair, Sample, percentile
from bench.healer import INTERVAL_SEC, make_sections
from bench.pings import run_load
from bench.programs import ROOT, Worker, read_result, run_program
from bench.server import connect, find_free_port, pack_command, send_commands, start_buses, wait_for_port
from marketswarm.bus import Bus
from marketswarm.operator.tokens import Scope, create_token, write_token

SERVICES: Final = 10_000
READ_SEC: Final = 10.0
"""How often a board looks at so many services."""
MEASURE_SEC: Final = 60.0
CHANGING: Final = {f"changing{n}": {"heartbeat": {"interval_sec": 0.3, "timeout_sec": 1.5}} for n in range(6)}
"""The services that tests/boardload/page.py lets go and come."""


def make_token(url: str) -> str:
    """Write a token with which one may set silences; return its text."""

    async def write() -> str:
        bus = Bus("system-redis", url)
        token, text = create_token("bench", [Scope.WRITE], author="bench", now=time.time())
        assert await write_token(bus, token)
        await bus.aclose()
        return str(text)

    return asyncio.run(write())


def read_bare(port: int, services: int) -> float:
    """Return the processor seconds in which a bare program reads what the board reads of the services."""
    names = name_services(services)
    commands = [
        pack_command("HGETALL", "healer:roster"),
        pack_command("MGET", *(f"health:{svc}" for svc in names)),
        pack_command("MGET", *(key for svc in names for key in (f"beat:{svc}", f"run:{svc}"))),
        *(pack_command("PTTL", f"beat:{svc}") for svc in names),
    ]
    with connect(port) as sock:
        cpu = time.process_time()
        send_commands(sock, hiredis.Reader(), commands)
        return time.process_time() - cpu


def measure(scale: float) -> Sample:
    services, seconds = round(SERVICES * scale), MEASURE_SEC * max(scale, 0.3)
    bare_port, port = find_free_port(), find_free_port()
    sections = CHANGING | {"board": {}} | make_sections(services, INTERVAL_SEC)
    with (
        Worker("bench.limits", "http", bare_port),
        start_buses(sections) as buses,
        run_program("healer", buses),
        Beats(buses[0].port, services, services / INTERVAL_SEC, life_sec=6 * INTERVAL_SEC),
        run_program("services.board", buses, BOARD_PORT=str(port)) as board,
    ):
        wait_for_port(bare_port)
        wait_for_port(port)
        order = {
            "bare": f"http://127.0.0.1:{bare_port}",
            "board": f"http://127.0.0.1:{port}",
            "bus": buses[0].url,
            "pid": board.pid,
            "token": make_token(buses[0].url),
            "seconds": seconds,
        }
        found: dict[str, Any] = read_result("boardload.page", json.dumps(order), folder=ROOT / "tests")
        bare_answer_ms = 1000 * run_load(bare_port, 1.0, 1, 0, ["/"])["median_sec"]
        bare_read_sec = median(read_bare(buses[0].port, services) for _ in range(5))
    if found["unseen"]:
        raise RuntimeError(f"{found['unseen']} changes never came to the page")
    changes, frame_ms = found["change_ms"], median(found["bare_frame_ms"])
    change_ms = 10 * (found["changing_percent"] - found["quiet_percent"]) * seconds / len(changes)
    return {
        "paint": Pair(median(found["paint_ms"]), median(found["bare_paint_ms"])),
        "live": Pair(median(found["live_ms"]), median(found["bare_paint_ms"])),
        "change": Pair(percentile(changes, 0.99), frame_ms),
        "change_median": Pair(median(changes), frame_ms),
        "change_processor": Pair(change_ms, 1000 * bare_read_sec),
        "action": Pair(percentile(found["act_ms"], 0.95), frame_ms),
        "silence": Pair(median(found["silence_ms"]), bare_answer_ms),
        "memory": Pair(max(0.1, found["mb"] - found["bare_mb"]), found["bare_mb"]),
        "processor": Pair(found["quiet_percent"], 100 * bare_read_sec / READ_SEC),
    }
