"""What reading one source keeps from one question to the next."""

import asyncio
import time
from dataclasses import replace

import orjson
import pytest

from marketswarm.metrics.family import MAX_FOREIGN_VALUES, OTHER
from services.market.records import AssetClass, RecordKind
from services.market.sessions import get_session
from services.sources.cascade import source_reader
from services.sources.cascade.loader import LoadOutcome, LoadResult
from services.sources.cascade.series import Series
from services.sources.cascade.source_reader import SourceReader
from services.sources.cascade.state import SourceFinding, SourceVerdict
from services.sources.catalog.answer import AnswerStatus, SourceAnswer
from services.sources.catalog.request import ApiKey
from services.sources.metrics import SourcesMetrics
from services.sources.settings import WorkSettings
from support.catalog_samples import SAMPLES
from support.recording_log import RecordingLog
from support.rig.receiver import Answer
from support.scenes import sources as scene
from support.scenes.sources import SourcesMarket, last_minutes

COIN = replace(scene.COIN, history_days=0.1, sources=("coinbase",))
FACEBOOK = Series("FB", RecordKind.ACTIONS, "", AssetClass.STOCKS, "XNYS", ("alpaca",), 172_800.0, 7305.0)
HALF_A_DAY_SEC = 43_200.0


@pytest.fixture
def log(monkeypatch):
    log = RecordingLog()
    monkeypatch.setattr(source_reader, "log", log)
    return log


def count(metrics, name):
    family = next(each for each in metrics.collect() if each.name == f"marketswarm_sources_{name}_total")
    return dict(family.values)


async def test_rows_that_break_a_rule_are_counted_and_logged_once_until_an_answer_has_none(log):
    metrics, seen = SourcesMetrics(), []

    def answer(_request):
        return Answer(
            200, {}, orjson.dumps([[at, low, 3, 2, 2, 5] for at, low in zip(minutes, lows, strict=True)])
        )

    async with SourcesMarket({"coinbase": answer}) as market, market.make_client() as client:
        loader, minutes = market.make_loader(client), last_minutes()
        for lowest in (0, 0, 1, 0):
            lows = [*[1] * (len(minutes) - 1), lowest]
            metrics.count_load("bars", await loader.load(COIN, forced=True))
            seen.append((sum(count(metrics, "rows_set_aside").values()), len(log.lines)))
    assert seen == [(1, 1), (2, 1), (2, 1), (3, 2)]
    assert log.lines[0] == (
        "series.rows_set_aside",
        {"series": COIN.id, "source": "coinbase", "rows": 1, "reason": "a price that is not positive"},
    )


async def test_actions_of_a_kind_that_no_record_can_hold_are_counted_and_each_kind_is_logged_once(log):
    metrics, document = SourcesMetrics(), orjson.loads((SAMPLES / "alpaca.actions.json").read_bytes())
    document["next_page_token"] = None

    async with SourcesMarket({"alpaca": lambda _request: Answer(200, {}, orjson.dumps(document))}) as market:
        market.keys = {"alpaca": (ApiKey("a-key", "a-secret"),)}
        async with market.make_client() as client:
            loader = market.make_loader(client)
            for _ in range(2):
                metrics.count_load("actions", await loader.load(FACEBOOK, forced=True))
                market.ahead_sec += HALF_A_DAY_SEC
    assert count(metrics, "unknown_actions") == {("alpaca", "unit_split"): 2}
    assert log.lines == [
        ("series.actions_unknown", {"series": FACEBOOK.id, "source": "alpaca", "kinds": ["unit_split"]})
    ]


async def test_so_many_kinds_of_a_series_are_known_and_logged_and_no_more(log):
    reader = SourceReader(None, None, {}, WorkSettings)
    for number in range(5):
        kinds = {f"kind_{number}_{each:02}": 1 for each in range(90)}
        answer = SourceAnswer("alpaca", AnswerStatus.OK, unknown_actions=kinds)
        finding = SourceFinding("alpaca", SourceVerdict.FRESH, answer=answer)
        reader._note_set_aside(FACEBOOK, finding)  # noqa: SLF001 - no file of a source has so many kinds
    assert [name for name, _ in log.lines] == ["series.actions_unknown"] * 3


def test_however_many_kinds_of_actions_a_source_invents_a_scrape_stays_small_and_counts_all():
    metrics = SourcesMetrics()
    for number in range(3 * MAX_FOREIGN_VALUES):
        answer = SourceAnswer("alpaca", AnswerStatus.OK, unknown_actions={f"kind{number}": 1})
        finding = SourceFinding("alpaca", SourceVerdict.FRESH, answer=answer)
        metrics.count_load("actions", LoadResult(LoadOutcome.LOADED, findings=(finding,)))
    counted = count(metrics, "unknown_actions")
    assert len(counted) == MAX_FOREIGN_VALUES + 1
    assert counted["alpaca", OTHER] == 2 * MAX_FOREIGN_VALUES


async def test_loads_that_begin_at_once_compute_each_calendar_once_and_one_at_a_time(monkeypatch):
    running, computed = [], []

    def compute(code):
        running.append(code)
        computed.append(code)
        time.sleep(0.05)  # long enough for others to come meanwhile
        assert running == [code]
        running.clear()
        return get_session("24x7")

    monkeypatch.setattr(source_reader, "get_session", compute)
    reader = SourceReader(None, None, {}, WorkSettings, time.time)
    await asyncio.gather(*(reader.find_session(code) for code in ("XNYS", "XLON") * 5))
    assert computed == ["XNYS", "XLON"]
