"""Every query of the market's dashboards, put to a real Prometheus over the fleet of `make market`."""

import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import orjson
import pytest

from support.dashboards import find_empty, list_queries
from support.pages import ROOT
from support.rig import free_port
from support.rig.metrics import Prometheus, answers
from support.rig.process import HOST, Proc
from support.waiting import until

pytestmark = [pytest.mark.live, pytest.mark.needs("prometheus"), pytest.mark.timeout(900)]

RULES = (ROOT / "deploy/prometheus/rules.yml").read_text(encoding="utf-8")
NAMES = ("api", "collectors", "database", "processors", "signals")
OUTSIDE = ("Votes from a cache", "How long they take", "Questions without a vote", "Votes from caches")
OUTSIDE += ("Questions", "What became of them", "Breakers that are not closed")
WITNESSED = ("Newest checkpoint", "Newest cosignature", "Age of checkpoint and cosignature")
MAY_BE_EMPTY = {("signals", panel) for panel in (*OUTSIDE, *WITNESSED)} | {("database", "Age of the backup")}
"""Panels of what `make market` has none of: voters outside, a witness, and a backup in its first minutes."""


@pytest.fixture
def folder():
    """A folder that the user of the database can reach, which a test's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="dashboards-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def ask_for_charts(port):
    """Ask the board for charts and pages, so that there is something to measure."""
    for path in ("/api/v1/bars/SPY", "/api/v1/bars/BTC%2FUSD?timeframe=1m", "/market", "/api/v1/symbols"):
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=10) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            error.close()


def test_each_query_of_the_market_has_an_answer_from_a_fleet_of_make_market(folder, tmp_path):
    services = orjson.loads((ROOT / "examples/market.json").read_bytes())["services"]
    (folder / "examples").symlink_to(ROOT / "examples")
    first, board = free_port(), free_port()
    ports = [first + place for place in range(len(services))]
    words = ("up", "--truth", "examples/market.json", "--port", str(free_port()), "--board-port", str(board))
    with Proc("marketswarm", {"METRICS_PORT": str(first)}, folder, *words) as fleet:
        fleet.wait_log("fleet.up", 240)
        until(lambda: sum(map(answers, ports)) >= len(ports) - 1, 60, fleet.text)
        with Prometheus(tmp_path / "prometheus", ports, RULES) as prometheus:

            def list_missing():
                ask_for_charts(board)
                empty, refused = find_empty(prometheus, NAMES)
                assert not refused, refused
                return [one.place for one in empty if one.place[:2] not in MAY_BE_EMPTY]

            until(lambda: not list_missing(), 180, lambda: f"a series for each: {list_missing()}")
        assert fleet.stop(60) == 0


def test_the_exceptions_are_queries_that_there_are():
    assert {one.place[:2] for one in list_queries(NAMES)} >= MAY_BE_EMPTY
