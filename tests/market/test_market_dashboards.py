"""Every query of the market's dashboards, put to a real Prometheus over the fleet of `make market`."""

import shutil
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import orjson
import pytest

from support.dashboards import find_empty, list_queries
from support.pages import ROOT
from support.rig import free_port
from support.rig.metrics import Prometheus
from support.rig.process import HOST, Proc

pytestmark = [pytest.mark.live, pytest.mark.needs("prometheus"), pytest.mark.timeout(300)]

ANSWERED_SEC = 90
RULES = (ROOT / "deploy/prometheus/rules.yml").read_text(encoding="utf-8")
NAMES = ("api", "collectors", "database", "processors", "signals")
OUTSIDE = ("Opinions without a call", "How long they take", "Questions without a vote", "Votes from caches")
OUTSIDE += ("Questions", "What became of them", "Breakers that are not closed")
WITNESSED = ("Newest checkpoint", "Newest cosignature", "Age of checkpoint and cosignature")
MAY_BE_EMPTY = {("signals", panel) for panel in (*OUTSIDE, *WITNESSED)} | {
    ("collectors", "Requests left"),
    ("database", "Age of the backup"),
    ("database", "Age of the newest rows"),
}
"""Panels of what `make market` has none of: voters outside, a source with a limit, a rule of the medic about
a table; and of what it has none of in its first minutes: a cosignature, a backup."""


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


@pytest.mark.nightly(
    "tests/deploy/test_dashboards.py holds their metrics to docs/metrics.md, tests that to programs"
)
def test_each_query_of_the_market_has_an_answer_from_a_fleet_of_make_market(folder, tmp_path):
    services = orjson.loads((ROOT / "examples/market.json").read_bytes())["services"]
    (folder / "examples").symlink_to(ROOT / "examples")
    first, board = free_port(), free_port()
    ports = [first + place for place in range(len(services))]
    words = ("up", "--truth", "examples/market.json", "--port", str(free_port()), "--board-port", str(board))
    with Proc("marketswarm", {"METRICS_PORT": str(first)}, folder, *words) as fleet:
        fleet.wait_log("fleet.up", 90)
        with Prometheus(tmp_path / "prometheus", ports, RULES) as prometheus:
            missing = ask_until_answered(prometheus, board)
        assert not missing, f"no series for {missing}; {fleet.text()[-2000:]}"
        assert fleet.stop(60) == 0


def ask_until_answered(prometheus, board):
    """Return the queries that have no series after ANSWERED_SEC; one with a series is not asked again.

    The clock counts, not `until`: a round asks a hundred queries, of which `until` counts a quarter second.
    """
    missing = [one for one in list_queries(NAMES) if one.place[:2] not in MAY_BE_EMPTY]
    end = time.monotonic() + ANSWERED_SEC
    while missing and time.monotonic() < end:
        ask_for_charts(board)
        missing, refused = find_empty(prometheus, missing)
        assert not refused, refused
    return missing


def test_the_exceptions_are_queries_that_there_are():
    assert {one.place[:2] for one in list_queries(NAMES)} >= MAY_BE_EMPTY
