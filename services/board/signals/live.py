"""Keep the newest signal of each symbol that the stream brought, and pass each new one on to followers."""

from collections import OrderedDict
from typing import Any, Final

from marketswarm.bus.stream import StreamEntry
from marketswarm.event import dump_compact
from marketswarm.web.updates import UpdateHub
from services.board.market.feed import require_fields
from services.board.market.topics import TopicKind, name_topic
from services.board.signals.views import describe_published
from services.tables.signals import PublishedSignal, parse_signal_fields

MAX_SYMBOLS: Final = 20_000


def parse_entry(entry: StreamEntry, _now: float) -> PublishedSignal:
    """Return the signal in an entry of `signals:log`. Raises EntryError."""
    return parse_signal_fields(require_fields(entry))


class LiveSignals:
    """Holds what the topics `signals` and `signals:<symbol>` are like now.

    What counts as newest is what the stream has last: its writer adds signals in the order of the log.
    """

    def __init__(self, hub: UpdateHub) -> None:
        self._hub = hub
        self._newest: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.version = 0
        """Another number after each signal."""

    def take(self, one: PublishedSignal, _at: float) -> None:
        """Keep a signal, and publish it unless it came twice; drop the symbol that is quiet longest."""
        known = self._newest.get(one.symbol)
        if known is not None and known["id"] == one.id:
            return
        self.version += 1
        self._newest[one.symbol] = described = describe_published(one)
        self._newest.move_to_end(one.symbol)
        if len(self._newest) > MAX_SYMBOLS:
            self._newest.popitem(last=False)
        topic = name_topic(TopicKind.SIGNALS, one.symbol)
        self._hub.publish(topic, dump_compact(described), wider=TopicKind.SIGNALS)

    def find_snapshot(self, symbol: str) -> Any:
        """Return the newest signal of a symbol, None if there is none; for an empty text, those of all."""
        return self._newest.get(symbol) if symbol else list(self._newest.values())
