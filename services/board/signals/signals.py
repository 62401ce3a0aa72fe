"""Hold what answers about signals are made from: the database's log of them, and what the stream brings."""

from collections.abc import Callable, Sequence

from marketswarm.bus import BusError
from marketswarm.bus.stored_values import read_strings
from marketswarm.keys import SIGNALS_LOG, SIGNALS_SHADOW, SIGNALS_WITNESS
from marketswarm.truth import Truth
from marketswarm.web.limits import require_found
from services.board.market.market import Market
from services.board.market.topics import TopicKind
from services.board.signals.live import LiveSignals, parse_entry
from services.board.signals.reader import SignalReader
from services.board.signals.views import SignalSum, SignalView, WholeSignal, list_weights, weigh_place
from services.tables.signal_shadow import MAX_REPORT_BYTES, ShadowReport, parse_shadow
from services.tables.signal_witness import MAX_WITNESS_BYTES, WitnessReport, parse_witness_report
from services.tables.signals import SIGNALS, SignalCursor, SignalQuery, find_signal_log


class SignalBoard:
    """Reads signals for the API and the pages, and has the feed of the market follow them."""

    def __init__(self, market: Market, truth_now: Callable[[], Truth]) -> None:
        self.market, self._truth_now = market, truth_now
        self.reader = SignalReader(market.archive)
        self.live = LiveSignals(market.hub)
        market.feed.add_stream(SIGNALS_LOG, find_signal_log, parse_entry, self.live.take)
        market.more_topics[TopicKind.SIGNALS] = self.live.find_snapshot

    @property
    def is_published(self) -> bool:
        """Whether the truth has the service that publishes signals."""
        return find_signal_log(self._truth_now()) is not None

    def weigh(self, whole: WholeSignal) -> SignalSum | None:
        """Return the sum of a signal's votes; None if its place can't be read."""
        section, place = self._truth_now().services.get(SIGNALS), whole.view.place
        weights = {} if section is None else list_weights(section.endpoints)
        return None if place is None else weigh_place(place, weights, whole.rules)

    async def find_shadow(self) -> ShadowReport | None:
        """Return what a revision in the shadow would have decided; None if none is known."""
        return parse_shadow(await self._read_report(SIGNALS_SHADOW, MAX_REPORT_BYTES))

    async def find_witness(self) -> WitnessReport | None:
        """Return what signals says of its witness; None while no process that leads says it."""
        return parse_witness_report(await self._read_report(SIGNALS_WITNESS, MAX_WITNESS_BYTES))

    async def _read_report(self, key: str, max_bytes: int) -> bytes | None:
        """Return what is under a key beside the log of signals; None if nothing is, or the bus is away."""
        place = self.market.feed.find_place(SIGNALS_LOG)
        if place is None:
            return None
        try:
            (raw,) = await read_strings(place[0], (key,), max_bytes)
        except BusError:
            return None
        return raw

    async def find_page(self, query: SignalQuery, as_of_ms: int | None = None) -> list[SignalView]:
        """Return a page, the oldest first. Raises DatabaseAwayError; UnknownNameError for its symbol."""
        views = await self.reader.read_page(query, as_of_ms)
        if not views and query.symbol is not None:
            await self.market.names.require_symbols((query.symbol,))
        return views

    async def find_newest(self, symbol: str, as_of_ms: int | None = None) -> SignalView | None:
        """Return the newest signal of a symbol as of an instant. Raises DatabaseAwayError."""
        until_ms = None if as_of_ms is None else as_of_ms + 1
        query = SignalQuery(symbol=symbol, until_ms=until_ms, limit=1)
        views = await self.reader.read_page(query, as_of_ms)
        return views[0] if views else None

    async def find_signal(self, ident: str) -> WholeSignal:
        """Return a signal by its id. Raises DatabaseAwayError, and RefusedError (404) if there is none."""
        return require_found(await self.reader.read_signal(ident), "signal")


def find_cursor(views: Sequence[SignalView], query: SignalQuery) -> str | None:
    """Return the cursor to the signals before a page; None if the page is not full."""
    first = views[0].found if len(views) == query.limit else None
    return None if first is None else str(SignalCursor(first.tick, first.symbol))
