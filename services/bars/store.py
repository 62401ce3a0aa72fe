"""Read the states of symbols, and commit them together with what is to be published."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from marketswarm.bus import Bus
from marketswarm.bus.stored_values import read_time
from marketswarm.bus.stream_length import StreamLength
from marketswarm.bus.transaction import BusTransaction, commit_each
from marketswarm.keys import CHECKED_BARS, INDICATORS, MARKET_QUARANTINE, SOURCE_BARS, bars_state_key
from marketswarm.pages import split_pages
from services.bars.outputs import Outputs
from services.bars.settings import BarsOptions
from services.bars.state import VERSION
from services.market.separate import split_source

STATES_PER_READ: Final = 16
COMMITS_AT_ONCE: Final = 50
ENTRIES_AT_ONCE: Final = 2000
STATES_BYTES: Final = 128 * 1024 * 1024
"""The most bytes of the states that are read at once."""
KEPT_SEC: Final = 60 * 86_400
"""The seconds for which the state of a symbol is kept that no truth names any more."""
WITHIN_SEC: Final = 10.0
BUS_SEC: Final = 20.0
"""A time limit beyond those of all single requests, for `Agent.waiting`."""

Waiting = Callable[[float], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class SymbolCommit:
    """What to set (`fields`) and remove (`deleted`) in the state of a symbol that is stored as `version`."""

    symbol: str
    version: int
    outputs: Outputs
    fields: Mapping[str, bytes]
    deleted: Sequence[str]


class BarsStore:
    """Read and commit the states of symbols on one bus.

    Args:
        bus: the bus of the states and of all streams of results.
        waiting: `Agent.waiting`: a bus that answers late must not look like work that hangs.
    """

    def __init__(self, bus: Bus, streams: Mapping[str, str], waiting: Waiting) -> None:
        self.bus, self.streams, self._waiting = bus, streams, waiting
        self._lengths = {name: StreamLength() for name in (CHECKED_BARS, SOURCE_BARS, INDICATORS)}

    async def load(self, symbols: Sequence[str]) -> tuple[dict[str, dict[bytes, bytes]], int]:
        """Return the stored fields of each symbol, none for one that has no state, and when they were read.

        The time is in epoch milliseconds, by the clock of the bus. Raises BusError.
        """
        found: dict[str, dict[bytes, bytes]] = {}
        for page in split_pages(symbols, STATES_PER_READ):
            pipe = self.bus.pipeline()
            for symbol in page:
                pipe.hgetall(bars_state_key(symbol))
            async with self._waiting(BUS_SEC):
                replies = await self.bus.ask(pipe.execute(), WITHIN_SEC, max_bytes=STATES_BYTES)
            found |= dict(zip(page, replies, strict=True))
        async with self._waiting(BUS_SEC):
            return found, round(1000 * await read_time(self.bus))

    async def discard(self, symbol: str) -> None:
        """Delete the state of a symbol: it restarts at the start of the streams. Raises BusError."""
        async with self._waiting(BUS_SEC):
            await self.bus.ask(self.bus.client.delete(bars_state_key(symbol)))

    async def commit(self, commits: Sequence[SymbolCommit], options: BarsOptions) -> list[str]:
        """Commit each symbol whole; return those that another instance has. Some may be before a BusError."""
        refused: list[str] = []
        if not commits:
            return refused
        lengths = {MARKET_QUARANTINE: options.quarantine}
        for name, length in self._lengths.items():
            async with self._waiting(BUS_SEC):
                lengths[name] = await length.compute(self.bus, self.streams[name], options.keep)
        for page in split_pages(commits, COMMITS_AT_ONCE, ENTRIES_AT_ONCE, lambda each: len(each.outputs)):
            transactions = [self._make_transaction(each, lengths) for each in page]
            async with self._waiting(BUS_SEC):
                done = await commit_each(self.bus, transactions, WITHIN_SEC)
            refused += [each.symbol for each, is_done in zip(page, done, strict=True) if not is_done]
        return refused

    def _make_transaction(self, commit: SymbolCommit, lengths: Mapping[str, int]) -> BusTransaction:
        """Return what publishes the outputs of a symbol and stores its state, if it has the same version."""
        transaction, state, outputs = BusTransaction(), bars_state_key(commit.symbol), commit.outputs
        transaction.require(state, VERSION, str(commit.version) if commit.version else "")
        _, source = split_source(commit.symbol)
        for name, published in (
            (CHECKED_BARS if source is None else SOURCE_BARS, outputs.bars),
            (INDICATORS, outputs.indicators),
            (MARKET_QUARANTINE, outputs.quarantine),
        ):
            for entry in published:
                transaction.add_entry(self.streams[name], entry, lengths[name])
        fields = {**commit.fields, VERSION: b"%d" % (commit.version + 1)}
        transaction.write_hash(state, fields, commit.deleted, kept_sec=KEPT_SEC)
        return transaction


async def count_unread(bus: Bus, stream: str) -> tuple[int, str]:
    """Return the count of the slowest group and its name; 0 and "" without a group. Raises BusError."""
    length = await bus.ask(bus.client.xlen(stream))
    if not length:
        return 0, ""
    groups = await bus.ask(bus.client.xinfo_groups(stream))
    # how far a group is behind is unknown after entries that it has not read were deleted
    unread = [
        (each["pending"] + (length if each["lag"] is None else each["lag"]), each["name"].decode())
        for each in groups
    ]
    return max(unread, default=(0, ""))
