"""A real medic has a real sources load a critical series now whose own turn is a quarter of an hour away."""

import orjson
import pytest

from marketswarm.keys import MARKET_SERIES, MEDIC_INCIDENTS
from marketswarm.operator.healing import TimelineEntry, fold_incidents
from support.rig import Fleet
from support.rig.receiver import Answer, Receiver
from support.scenes.sources import answer_as_kraken
from support.waiting import until

pytestmark = pytest.mark.live
SERIES = "BTC/USD:bars:1m"
BEATS = {"interval_sec": 0.3, "timeout_sec": 5}
QUICK = {
    "every_sec": 0.2,
    "wait_sec": 0.2,
    "degraded_sec": 1,
    "settle_sec": 120,  # a load may take half a minute on a busy machine, and is then verified all the same
    "stable_sec": 1,
    "start_grace_sec": 0.5,
}
SERIES_OF_AN_HOUR = {
    "symbol": "BTC/USD",
    "asset": "crypto",
    "from": ["kraken"],
    "every_sec": 3600,
    "max_age_sec": 3600,
    "critical": True,
}


def test_a_series_that_is_not_due_yet_is_loaded_when_its_source_is_back(tmp_path):
    targets = {"sources": {"ladder": ["reload_series"]}}
    document = {
        "services": {
            "healer": {"heartbeat": BEATS},
            "medic": {"heartbeat": BEATS, "settings": {**QUICK, "mode": "act", "targets": targets}},
            "sources": {"heartbeat": BEATS, "endpoints": [SERIES_OF_AN_HOUR]},
        }
    }
    with Receiver() as site:
        site.choose = lambda _request: Answer(500)
        env = {"SOURCES_BASE_URLS": orjson.dumps({"kraken": f"http://127.0.0.1:{site.port}"}).decode()}
        with Fleet(tmp_path, document, ["sources"], env, tail=False) as fleet:
            market, system, sources = fleet.market, fleet.system, fleet["sources"]

            def state():
                return orjson.loads(market.cmd("HGET", MARKET_SERIES, SERIES) or b"{}")

            until(lambda: state().get("status") == "failed", what=sources.text)
            assert state()["due_at"] > state()["asked_at"] + 800
            site.choose = answer_as_kraken
            fleet.start("healer")
            fleet.start("medic")

            def incident():
                entries = system.cmd("XRANGE", MEDIC_INCIDENTS, "-", "+")
                found = [TimelineEntry.parse(fields["entry"].encode()) for _, fields in entries]
                return next((each for each in fold_incidents(found) if each.svc == "sources"), None)

            until(
                lambda: (found := incident()) is not None and found.timeline[-1].what == "resolved",
                within=120,
                what=lambda: f"{incident()}; {sources.text()}",
            )
            told = [" ".join(filter(None, (each.what, each.reason))) for each in incident().timeline]
            assert told[-4:] == ["intended", "acted", "verified", "resolved healed"], told
            assert {each.remedy for each in incident().timeline if each.what == "acted"} == {"reload_series"}
            (done,) = sources.logs("remedy.followed")
            assert (done["remedy"], done["result"], done["loaded"]) == ("reload_series", "done", 1)
            assert state()["status"] == "fresh"
