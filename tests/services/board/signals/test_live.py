"""The newest signals of the stream, and what is passed on of them."""

import orjson
import pytest

from marketswarm.bus.stream import StreamEntry
from marketswarm.web.updates import Follower, UpdateHub
from services.board.signals import live as module
from services.board.signals.live import LiveSignals, parse_entry
from services.market.fields import EntryError
from services.tables.signals import make_signal_fields
from support.signal_rows import NOW_MS, make_content, make_rows, make_tick


def make_entry(symbol="SPY", tick=1, **more):
    (row,) = make_rows(make_tick(tick, make_content(symbol, tick, **more), at_ms=NOW_MS))
    fields = make_signal_fields(row, "stocks")
    return StreamEntry(b"1-0", 1, {name.encode(): each.encode() for name, each in fields.items()})


@pytest.fixture
def hub():
    return UpdateHub("b")


async def hear(hub, *topics):
    follower = Follower()
    hub.subscribe(follower, topics)
    return follower


async def test_each_signal_is_passed_on_once(hub):
    live, follower = LiveSignals(hub), await hear(hub, "signals")
    one, other = (parse_entry(make_entry(tick=tick), 0.0) for tick in (1, 2))
    for each in (one, one, other):
        live.take(each, 0.0)
    _, (update,) = await follower.take()
    assert (hub.published, orjson.loads(update.data)["id"], update.topic) == (2, other.id, "signals:SPY")
    assert live.find_snapshot("SPY")["id"] == other.id
    assert live.find_snapshot("QQQ") is None
    assert [each["id"] for each in live.find_snapshot("")] == [other.id]


def test_a_tick_of_the_far_future_does_not_hide_the_ones_after_it(hub):
    live = LiveSignals(hub)
    for tick in (10**15, 5):
        live.take(parse_entry(make_entry(tick=tick), 0.0), 0.0)
    assert live.find_snapshot("SPY")["tick"] == 5


def test_only_so_many_symbols_are_kept(hub, monkeypatch):
    monkeypatch.setattr(module, "MAX_SYMBOLS", 2)
    live = LiveSignals(hub)
    for symbol in ("A", "B", "C", "A", "D"):
        live.take(parse_entry(make_entry(symbol), 0.0), 0.0)
    assert [each["symbol"] for each in live.find_snapshot("")] == ["A", "D"]


@pytest.mark.parametrize(
    "change", [{b"id": b"0" * 64}, {b"content": b"{}"}, {b"at": b"soon"}, {b"sym": b"<b>"}, {b"side": b"up"}]
)
def test_an_entry_that_is_no_signal_is_set_aside(change):
    entry = make_entry()
    with pytest.raises(EntryError):
        parse_entry(StreamEntry(b"1-0", 1, {**entry.fields, **change}), 0.0)


def test_an_entry_that_was_too_long_to_read_is_set_aside():
    with pytest.raises(EntryError, match="too long"):
        parse_entry(StreamEntry(b"1-0", 10**6, None), 0.0)
