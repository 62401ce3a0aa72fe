"""Stand-ins of three sources, and loads of their series over a bus in memory."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import orjson

from marketswarm.agent.outage_alerts import OutageAlerts
from marketswarm.agent.outage_state import SOURCES, Thresholds
from marketswarm.keys import MARKET_SOURCES
from marketswarm.testing import MemoryBus
from services.market.records import AssetClass, RecordKind
from services.sources.access.client import SourceClient
from services.sources.cascade.loader import LoadResult, SeriesLoader
from services.sources.cascade.series import Series
from services.sources.cascade.source_reader import SourceReader
from services.sources.cascade.store import SeriesStore
from services.sources.catalog.files import shipped_catalog
from services.sources.catalog.request import ApiKey
from services.sources.catalog.source import MarketSource
from services.sources.settings import SourcesSettings
from support.rig.receiver import Answer, Receiver, Request
from support.waiting import auntil

COIN = Series(
    "BTC/USD", RecordKind.BARS, "1m", AssetClass.CRYPTO, "24x7", ("coinbase", "kraken"), 300.0, 5.0, 60.0
)
STOCK = replace(COIN, symbol="AAPL", asset=AssetClass.STOCKS, sources=("twelve_data",), history_days=0.1)


def last_minutes(count: int = 30) -> range:
    """The beginnings of the last minutes, the running one aside, in epoch seconds."""
    now = int(time.time()) // 60 * 60
    return range(now - 60 * count, now, 60)


def answer_as_kraken(_request: Request) -> Answer:
    """Answer with the last minutes as Kraken does."""
    rows = [[at, "2", "3", "1", "2", "2", "5", 1] for at in last_minutes()]
    return Answer(200, {}, orjson.dumps({"error": [], "result": {"XXBTZUSD": rows, "last": 1}}))


def answer_as_coinbase(_request: Request) -> Answer:
    """Answer with the last minutes as Coinbase does."""
    return Answer(200, {}, orjson.dumps([[at, 1, 3, 2, 2, 5] for at in last_minutes()]))


def answer_range_as_coinbase(request: Request) -> Answer:
    """Answer with the bars that are asked for, up to now, as Coinbase does."""
    asked = dict(parse_qsl(urlsplit(request.path).query))
    start, end = (datetime.fromisoformat(asked[name]).timestamp() for name in ("start", "end"))
    length_sec = int(asked["granularity"])
    first = -int(-start // length_sec) * length_sec
    rows = [[at, 1, 3, 2, 2, 5] for at in range(first, min(int(end), int(time.time())), length_sec)]
    return Answer(200, {}, orjson.dumps(rows))


def answer_as_twelve_data(_request: Request) -> Answer:
    """Answer with the last minutes as Twelve Data does."""
    rows = [
        {"datetime": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at)), "volume": "1"}
        | dict.fromkeys(("open", "high", "low", "close"), "2")
        for at in last_minutes()
    ]
    return Answer(200, {}, orjson.dumps({"meta": {}, "values": rows, "status": "ok"}))


ANSWERS = {
    "coinbase": answer_as_coinbase,
    "kraken": answer_as_kraken,
    "twelve_data": answer_as_twelve_data,
}


class SourcesMarket:
    """A site for each source of `answers`, and loaders that find the sources there.

    Attributes:
        sites: by the name of the source.
        keys: those of the sources that need some.
        work: `settings` of sources.
        catalog: the files of the sources.
        ahead_sec: how far the clocks of the loaders are ahead.
    """

    def __init__(self, answers: Mapping[str, Callable[[Request], Answer]] = ANSWERS) -> None:
        self.bus = MemoryBus("market-redis")
        self._answers = answers
        self.sites = {name: Receiver() for name in answers}
        self.keys: dict[str, Sequence[ApiKey]] = {}
        self.work: Mapping[str, Any] = {}
        self.catalog: Mapping[str, MarketSource] = shipped_catalog()
        self.ahead_sec = 0.0
        self._stack = ExitStack()
        store = SeriesStore(lambda: self.bus)
        me: Any = SimpleNamespace(
            name="sources",
            boot="boot",
            bus=lambda _name: self.bus,
            truth=SimpleNamespace(services={"sources": None}, alert_target=lambda channel: ("bus", channel)),
            settings=SimpleNamespace(alert_channel=None),
        )
        self.alerts = OutageAlerts(me, SOURCES, on_states=store.write_verdicts)
        self.alerts.follow(dict.fromkeys(answers, Thresholds(3, 1)))

    async def __aenter__(self) -> Self:
        for name, site in self.sites.items():
            self._stack.enter_context(site)
            site.choose = self._answers[name]
        self._alerting = asyncio.create_task(self.alerts.run())
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._alerting.cancel()
        await asyncio.wait([self._alerting])
        self._stack.close()
        await self.bus.aclose()

    def __getitem__(self, source: str) -> Receiver:
        return self.sites[source]

    def make_client(self) -> SourceClient:
        """A client of its own, to be entered."""
        urls = {name: f"http://127.0.0.1:{site.port}" for name, site in self.sites.items()}
        return SourceClient(self.keys, urls)

    def make_loader(self, client: SourceClient) -> SeriesLoader:
        """A loader of its own."""
        settings = SourcesSettings.model_validate({"settings": self.work}).settings
        store = SeriesStore(lambda: self.bus)
        return SeriesLoader(
            SourceReader(
                client, store, self.catalog, lambda: settings, now=lambda: time.time() + self.ahead_sec
            )
        )

    async def load(self, series: Series, **more: Any) -> LoadResult:
        """Load a series and then its history by a process of its own, and return what became of both."""
        async with self.make_client() as client:
            loader = self.make_loader(client)
            result = await loader.load(series, **more)
            older = await loader.complete_history(series, result)
        for source, error in result.outcomes.items():
            self.alerts.add_outcome(source, result.answered_at, error)
        if older is None:
            return result
        requests = (*result.requests, *older.requests)
        return replace(result, state=older.state, new=result.new + older.new, requests=requests)

    async def settle(self) -> None:
        """Wait until what came of the sources is stored and published."""
        await auntil(lambda: self.alerts.is_idle and not self.alerts.pending_count())

    async def read_source(self, name: str) -> dict[str, Any]:
        """What is stored of a source."""
        await self.settle()
        raw = await self.bus.ask(self.bus.client.hget(MARKET_SOURCES, name))
        found: dict[str, Any] = orjson.loads(raw or b"{}")
        return found
