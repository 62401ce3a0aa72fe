"""Keep the streams of this instance's series connected, and publish each minute that they bring.

A stream brings minutes sooner than a load, and costs no request. What it can't bring is loaded: the history,
what was missed while it was away, and everything when it is silent. So a series has one state, wherever
its newest record comes from, and a minute that comes both ways is published once.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from marketswarm.bus import BusError
from marketswarm.bus.circuit_breaker import CircuitBreaker
from marketswarm.keys import source_breaker_key
from marketswarm.net.retry import Backoff
from marketswarm.tasks import run_until_first
from services.market.records import RecordKind
from services.sources.cascade.loader import LoadOutcome, LoadResult
from services.sources.cascade.series import Series
from services.sources.catalog.answer import AnswerStatus, SourceAnswer
from services.sources.catalog.source import MarketSource
from services.sources.dispatcher import SeriesDispatcher
from services.sources.settings import STREAM_SUFFIX
from services.sources.websocket import MAX_STREAMS, Anomaly, KlineReader, StreamedBar, stream_klines

MINUTE: Final = "1m"
PAUSED_EVERY_SEC: Final = 2.0
"""How often it is looked whether an operator has paused the source."""
DEGRADED_AFTER: Final = 3
"""The connections in a row without a bar after which the service is degraded."""
AT_ONCE: Final = 20
"""The minutes that are published at the same time."""
MAX_WAITING: Final = 8
"""The minutes of a series that wait to be published; one that has no place is loaded."""
RETRY_SEC: Final = 0.2
ERROR_BACKOFF: Final = Backoff(5.0, 900.0)
"""The pauses of a stream that ends with an error of ours."""
TRIES: Final = 25
"""How often a minute is tried whose series is just being loaded."""


class SeriesStreams:
    """Run one stream for each source that brings series of this instance.

    The dispatcher's loader publishes what the streams bring, and the dispatcher loads what they miss.
    `base_urls` says where to find sources instead of where their files say, and as `NAME_stream` streams.
    """

    def __init__(self, dispatcher: SeriesDispatcher, base_urls: Mapping[str, str] | None) -> None:
        self._dispatcher, self._base_urls = dispatcher, base_urls or {}
        self._followed: Mapping[str, Series] = {}
        self._streams: dict[str, tuple[SourceStream, asyncio.Task[None]]] = {}

    def follow(self, series: Mapping[str, Series]) -> None:
        if series is self._followed:  # the main loop asks at each turn
            return
        self._followed = series
        catalog = self._dispatcher.loader.reader.catalog
        wanted = group_streamed(series.values(), catalog, self._base_urls)
        for source in self._streams.keys() - wanted.keys():
            self._stop(source)
        for source, by_spelling in wanted.items():
            url = find_stream_url(catalog[source], self._base_urls)
            if url is None or (source in self._streams and self._streams[source][0].adopt(by_spelling)):
                continue
            self._stop(source)
            stream = SourceStream(self._dispatcher, source, url, by_spelling)
            self._streams[source] = stream, self._dispatcher.me.task(stream.run(), name=f"stream {source}")

    def _stop(self, source: str) -> None:
        if source in self._streams:
            _, task = self._streams.pop(source)
            task.cancel()


def find_stream_url(source: MarketSource, base_urls: Mapping[str, str]) -> str | None:
    """A source that is asked elsewhere has a stream only if its URL is given: the real one has other bars."""
    if source.stream is None:
        return None
    usual = None if source.name in base_urls else source.stream.url
    return base_urls.get(source.name + STREAM_SUFFIX, usual)


def group_streamed(
    series: Iterable[Series], catalog: Mapping[str, MarketSource], base_urls: Mapping[str, str]
) -> dict[str, dict[str, Series]]:
    """Return the series that streams bring: by source, then by the source's spelling of the symbol.

    A series is brought by the first source of its cascade that has a stream of it. What is too much for one
    connection is left to loads.
    """
    found: dict[str, dict[str, Series]] = {}
    for each in series:
        if each.kind is not RecordKind.BARS or each.timeframe != MINUTE or not each.may_stream:
            continue
        for source in filter(None, map(catalog.get, each.sources)):
            spelled = source.spell_streamed(each.asset, each.symbol)
            if spelled is not None and find_stream_url(source, base_urls) is not None:
                grouped = found.setdefault(source.name, {})
                if len(grouped) < MAX_STREAMS:
                    grouped.setdefault(spelled, each)
                break
    return found


class SourceStream:
    """Stream the minutes of one source while no operator has paused it.

    `series` are by the source's spelling of their symbols.
    """

    def __init__(
        self, dispatcher: SeriesDispatcher, source: str, url: str, series: Mapping[str, Series]
    ) -> None:
        self._symbols = {spelled: each.symbol for spelled, each in series.items()}
        self._series = {each.symbol: each for each in series.values()}
        self._me, self._loader, self._metrics = dispatcher.me, dispatcher.loader, dispatcher.metrics
        self._dispatcher, self._source, self._url = dispatcher, source, url
        self._anomalies: Counter[Anomaly] = Counter()
        self._is_streaming, self._failures = False, 0
        self._errors: set[type[Exception]] = set()
        self._waiting: dict[str, deque[SourceAnswer]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._metrics.anomalies[source] = self._anomalies

    def adopt(self, series: Mapping[str, Series]) -> bool:
        """Take over what the truth says of the series; return False if other symbols need a new stream."""
        if {spelled: each.symbol for spelled, each in series.items()} != self._symbols:
            return False
        self._series = {each.symbol: each for each in series.values()}
        return True

    async def run(self) -> None:
        """Stream until cancelled; after an error of ours again, with a growing pause."""
        errors = 0
        try:
            while True:
                try:
                    await self._wait_while(is_paused=True)
                    await self._stream_until_paused()
                except Exception as error:  # noqa: BLE001 - one stream must not end the service
                    self._note_error(error)
                    errors += 1
                    await asyncio.sleep(ERROR_BACKOFF.pause_sec(errors))
                else:
                    errors = 0
        finally:
            self._set_away(None)

    def _note_error(self, error: Exception) -> None:
        """Report an error of ours: log it once for each type, count it, and degrade."""
        if type(error) not in self._errors:
            self._errors.add(type(error))
            self._me.log.error("source_stream.error", source=self._source, exc_info=error)
        self._metrics.stream_ends_total[self._source, "error"] += 1
        self._set_away(f"error ({type(error).__name__})")

    def _set_away(self, reason: str | None) -> None:
        """Degrade since the stream is away; end that with None."""
        why = reason and f"the stream of {self._source} is away: {reason}"
        self._me.set_degraded(why, part=f"stream {self._source}")

    async def _stream_until_paused(self) -> None:
        """When an operator pauses the source, its series are loaded from others."""
        reader = KlineReader(self._symbols, self._anomalies)
        work = stream_klines(reader, self._take, self._note_end, url=self._url)
        try:
            await run_until_first(work, self._wait_while(is_paused=False))
        finally:
            self._return_to_loads()

    async def _wait_while(self, *, is_paused: bool) -> None:
        while await self._is_paused() is is_paused:  # noqa: ASYNC110 - another process pauses it
            await asyncio.sleep(PAUSED_EVERY_SEC)

    async def _is_paused(self) -> bool:
        try:
            return await CircuitBreaker(self._loader.store.bus, source_breaker_key(self._source)).is_paused()
        except BusError:
            return False

    def _note_end(self, reason: str, bars: int) -> None:
        """Report that a connection ended, which was of no use if it brought no bars."""
        self._return_to_loads()
        self._metrics.stream_ends_total[self._source, reason] += 1
        self._failures = 1 if bars else self._failures + 1
        if self._failures == 1:
            self._me.log.warning("source_stream.closed", source=self._source, reason=reason, bars=bars)
        if self._failures >= DEGRADED_AFTER:
            self._set_away(reason)

    def _return_to_loads(self) -> None:
        """Load the series that were streamed until now."""
        self._metrics.streamed_series[self._source] = 0
        if self._is_streaming:
            self._is_streaming = False
            self._dispatcher.load_now([each.id for each in self._series.values()])

    async def _take(self, bars: Sequence[StreamedBar]) -> None:
        """Queue the minutes that have ended, to be published; any bar says that the stream is open."""
        if not self._is_streaming:
            self._is_streaming, self._failures = True, 0
            self._metrics.streamed_series[self._source] = len(self._series)
            self._set_away(None)
            self._me.log.info("source_stream.opened", source=self._source, series=len(self._series))
        now = time.time()
        for each in bars:
            if each.is_final:
                series, source = self._series[each.bar.symbol], self._loader.reader.catalog.get(self._source)
                asked = series.asset, series.symbol, MINUTE
                kind = None if source is None else source.find_volume_kind(*asked)
                answer = SourceAnswer(
                    self._source,
                    AnswerStatus.OK,
                    records=(each.bar,),
                    asked_at=now,
                    digest=each.digest,
                    volume_kind=kind,
                )
                self._add_waiting(series, answer)

    def _add_waiting(self, series: Series, answer: SourceAnswer) -> None:
        """Queue a streamed minute behind those of its series; start the task that publishes them if needed.

        A full queue drops its oldest minute: the gap that it leaves is loaded.
        """
        waiting = self._waiting.get(series.id)
        if waiting is not None:
            waiting.append(answer)
            return
        self._waiting[series.id] = deque([answer], maxlen=MAX_WAITING)
        self._me.task(self._publish_waiting(series), name=f"publish {series.id}")

    async def _publish_waiting(self, series: Series) -> None:
        """Publish the waiting minutes in their order; what can't be published is loaded later."""
        waiting = self._waiting[series.id]
        try:
            while waiting:
                result = await self._publish(series, waiting.popleft())
                self._metrics.count_streamed(self._source, result)
                if result.outcome is LoadOutcome.LOADED:
                    self._dispatcher.update_streamed(series, result)
                elif result.outcome not in (LoadOutcome.UNUSED, LoadOutcome.ERROR):
                    self._dispatcher.load_now([series.id])
        except BusError as error:
            self._dispatcher.outage.record(error)
        finally:
            del self._waiting[series.id]

    async def _publish(self, series: Series, answer: SourceAnswer) -> LoadResult:
        """Publish a minute; wait a little while its series is just being loaded. Raise BusError."""
        for _ in range(TRIES):
            async with self._turns:
                result = await self._loader.publish_streamed(series, answer)
            if result.outcome is not LoadOutcome.CLAIMED:
                break
            await asyncio.sleep(RETRY_SEC)
        return result
