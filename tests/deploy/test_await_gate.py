"""What a reader's pod runs before the reader: it waits for the gate, on a real server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from marketswarm.keys import CHECKED_BARS, PRELOAD_STATUS
from support.rig import Server, free_port
from support.rig.kubernetes import ROOT

pytestmark = pytest.mark.live
MODULE = "services.sources.await_gate"
HASTY = """
import asyncio
from services.sources import await_gate
await_gate.EVERY_SEC = 0.05
asyncio.run(await_gate.main())
"""
OPEN, CLOSED = (json.dumps({"state": state}) for state in ("open", "closed"))


@contextmanager
def await_gate(url: str, folder: Path, line: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    """Start the program for a bus at this URL."""
    file = folder / f"url-{len(list(folder.iterdir()))}"
    file.write_text(f"{url}\n", encoding="ascii")
    urls = dict.fromkeys(("MARKET_REDIS_URL_FILE", "SYSTEM_REDIS_URL_FILE"), str(file))
    environ = {"PATH": os.environ["PATH"], **urls}
    with subprocess.Popen(
        [sys.executable, *line], cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True
    ) as reader:
        try:
            yield reader
        finally:
            reader.kill()


def test_readers_wait_while_the_gate_is_away_or_closed_and_begin_when_it_opens_or_there_are_bars(tmp_path):
    """A truth may name another stream for the bars, and then its services have no right to the usual one."""
    with (
        Server(tmp_path / "bus") as server,
        redis.Redis.from_url(server.url) as bus,
        await_gate(server.url, tmp_path, ("-c", HASTY)) as reader,
    ):
        bus.acl_setuser(
            "archive", enabled=True, passwords=["+secret"], keys=[PRELOAD_STATUS], commands=["+@all"]
        )
        assert "unknown" in reader.stderr.readline()
        bus.set(PRELOAD_STATUS, CLOSED)
        assert "closed" in reader.stderr.readline()
        bus.set(PRELOAD_STATUS, b"\xff no JSON")
        assert "no JSON" in reader.stderr.readline()
        assert reader.poll() is None
        bus.set(PRELOAD_STATUS, CLOSED)
        url = server.url.replace("redis://", "redis://archive:secret@")
        with await_gate(url, tmp_path, ("-c", HASTY)) as without_right:
            assert "closed" in without_right.stderr.readline()
            bus.set(PRELOAD_STATUS, OPEN)
            assert without_right.wait(30) == reader.wait(30) == 0
        bus.set(PRELOAD_STATUS, CLOSED)
        bus.xadd(CHECKED_BARS, {"sym": "SPY"})
        with await_gate(server.url, tmp_path, ("-m", MODULE, "sh", "-c", "exit 7")) as restarted:
            assert restarted.wait(30) == 7  # it became the command


def test_readers_of_a_truth_without_sources_wait_for_no_gate(tmp_path):
    """Its bars come from massive alone, say; the gate ends with 2 there, and never opens."""
    truths = [
        json.dumps({"services": {svc: {} for svc in names}}) for names in (("bars", "sources"), ("bars",))
    ]
    with (
        Server(tmp_path / "bus") as server,
        redis.Redis.from_url(server.url) as bus,
        await_gate(server.url, tmp_path, ("-c", HASTY)) as reader,
    ):
        assert "unknown" in reader.stderr.readline()  # there is no truth yet
        bus.set("truth:doc", truths[0])
        bus.set(PRELOAD_STATUS, CLOSED)
        assert "closed" in reader.stderr.readline()
        bus.set("truth:doc", "no truth")
        bus.set(PRELOAD_STATUS, "{}")
        assert "unknown" in reader.stderr.readline()
        assert reader.poll() is None
        bus.set("truth:doc", truths[1])
        assert reader.wait(30) == 0


def test_a_reader_with_a_wrong_variable_ends_as_its_service_would(tmp_path):
    with Server(tmp_path / "bus") as server:
        file = tmp_path / "url"
        file.write_text(server.url, encoding="ascii")
        ended = subprocess.run(
            [sys.executable, "-m", MODULE],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "MARKET_REDIS_URL_FILE": str(file), "LOG_LEVEL": "loud"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (ended.returncode, "LOG_LEVEL" in ended.stderr, "Traceback" in ended.stderr) == (2, True, False)


def test_a_reader_that_waits_beats_degraded_and_says_goodbye_when_it_begins(tmp_path):
    with Server(tmp_path / "bus") as server, redis.Redis.from_url(server.url) as bus, bus.pubsub() as heard:
        bus.set(PRELOAD_STATUS, CLOSED)
        heard.subscribe("prices:heartbeat")
        heard.get_message(timeout=10)
        with await_gate(server.url, tmp_path, ("-m", MODULE, "true", "services.prices")) as reader:
            beat = json.loads(heard.get_message(timeout=60)["data"])
            assert (beat["svc"], beat["status"], beat["detail"]) == (
                "prices",
                "degraded",
                "waits for the gate of sources",
            )
            bus.set(PRELOAD_STATUS, OPEN)
            assert reader.wait(60) == 0
        assert json.loads(heard.get_message(timeout=10)["data"])["status"] == "stopping"


def test_a_reader_whose_bus_does_not_answer_says_why_and_one_without_a_url_of_a_bus_ends(tmp_path):
    port = free_port()
    urls = ("redis+sentinel://127.0.0.1:{}/market", "redis://127.0.0.1:{}", "http://127.0.0.1:{}")
    with ExitStack() as ends:
        *refused, wrong = (
            ends.enter_context(await_gate(url.format(port), tmp_path, ("-m", MODULE))) for url in urls
        )
        for reader in refused:
            assert "refused" in reader.stderr.readline()
            assert reader.poll() is None
        assert wrong.wait(30) == 1
        assert "MARKET_REDIS_URL_FILE" in wrong.stderr.read()
