"""A person has a real sources load a series now whose turn is an hour away: `marketswarm source refresh`."""

import orjson
import pytest

from marketswarm.keys import MARKET_SERIES
from support.rig import Fleet
from support.rig.receiver import Receiver
from support.rig.shell import Shell
from support.scenes.sources import answer_as_kraken
from support.waiting import until

pytestmark = pytest.mark.live
SERIES = "BTC/USD:bars:1m"
SERIES_OF_AN_HOUR = {
    "symbol": "BTC/USD",
    "asset": "crypto",
    "from": ["kraken"],
    "every_sec": 3600,
    "max_age_sec": 3600,
}


def test_a_series_is_loaded_at_once_when_a_person_asks_and_the_outcome_is_shown(tmp_path):
    beats = {"interval_sec": 0.3, "timeout_sec": 5}
    document = {"services": {"sources": {"heartbeat": beats, "endpoints": [SERIES_OF_AN_HOUR]}}}
    with Receiver() as site:
        site.choose = answer_as_kraken
        env = {"SOURCES_BASE_URLS": orjson.dumps({"kraken": f"http://127.0.0.1:{site.port}"}).decode()}
        with Fleet(tmp_path, document, ["sources"], env, tail=False) as fleet:
            shell = Shell(tmp_path)

            def state():
                return orjson.loads(fleet.market.cmd("HGET", MARKET_SERIES, SERIES) or b"{}")

            def refresh(*words):
                return shell("source", "refresh", *words, **fleet.env)

            until(lambda: state().get("status") == "fresh", what=fleet["sources"].text)
            loaded_at = state()["loaded_at"]
            assert state()["due_at"] > loaded_at + 3000
            done = refresh("kraken", "--json")
            assert done.returncode == 0, done.stdout + done.stderr
            report = orjson.loads(done.stdout)
            assert (report["state"], report["source"]) == ("done", "kraken")
            assert (report["series"], report["tried"], report["loaded"]) == (1, 1, 1)
            assert state()["loaded_at"] > loaded_at
            wrong = refresh("krakn")
            assert (wrong.returncode, "did you mean kraken" in wrong.stderr) == (2, True), wrong.stderr
            done = refresh()
            assert "done: 1 of 1 series tried, 1 loaded" in done.stdout, done.stdout + done.stderr
            fleet["sources"].kill()
            lost = refresh()
            assert (lost.returncode, "no instance of sources" in lost.stderr) == (1, True), lost.stderr
