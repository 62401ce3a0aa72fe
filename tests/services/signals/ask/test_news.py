"""Votes by the sentiment of news: by age, each feed once, and none from notes of later."""

import asyncio

import orjson
import pytest

from marketswarm.bus.stored_values import count_unusable
from marketswarm.bus.stream import StreamEntry, make_stream_entry
from marketswarm.keys import VEXY_NOTES
from services.signals.ask import news
from services.signals.ask.news import (
    NewsFollower,
    NewsMemory,
    SymbolNote,
    list_headlines,
    parse_symbol_note,
    vote_by_news,
)
from services.signals.consensus.consensus import UNIT, Abstention
from support.scenes.votes import AS_OF_MS, ask_of

HALF_SEC = 1800.0
HALF_MS = 1_800_000


def note(sentiment, *, ago_ms=0, title="", feed="a feed"):
    return SymbolNote(AS_OF_MS - ago_ms, sentiment, title or f"{sentiment} {ago_ms} {feed}", feed)


def vote(*notes):
    return vote_by_news(ask_of(), notes, HALF_SEC)


def test_without_a_note_there_is_no_vote():
    assert vote() is Abstention.NO_VOTE


def test_the_sign_of_the_sentiment_is_the_direction():
    assert vote(note(0.5)).direction == 1
    assert vote(note(-0.5)).direction == -1
    assert vote(note(0.0)).opinion == 0
    assert vote(note(0.5)).strength == UNIT // 2
    assert vote(note(0.5)).confidence == UNIT // 2
    assert vote(note(0.5)).reasons == ("1 feed with a mean sentiment of +0.50",)


def test_a_note_weighs_half_at_the_age_of_the_setting():
    found = vote(note(1.0), note(-1.0, ago_ms=HALF_MS, feed="another"))
    assert found.strength == round(UNIT / 3)
    assert found.direction == 1
    assert found.confidence == 6 * UNIT // 10


def test_one_feed_weighs_as_much_as_another_however_much_it_writes():
    flood = [note(1.0, title=f"Buy {at}", feed="flood") for at in range(40)]
    assert vote(*flood, note(-1.0, feed="calm")).opinion == 0
    assert vote(*flood).confidence == vote(flood[0]).confidence == UNIT // 2


def test_the_same_title_counts_once():
    copies = [note(1.0, title="Acme Rises", feed=f"copy {at}") for at in range(9)]
    assert vote(*copies).confidence == UNIT // 2
    assert vote(*copies, note(1.0, title="ACME RISES", feed="x")).confidence == UNIT // 2


def test_notes_of_later_and_old_ones_are_not_seen():
    memory = NewsMemory()
    for ago_ms in (7_200_000, 1000, 0, -1):
        memory.add("AAPL", note(0.5, ago_ms=ago_ms))
    assert [AS_OF_MS - each.at_ms for each in memory.find("AAPL", AS_OF_MS, 3600)] == [1000, 0]
    assert memory.find("MSFT", AS_OF_MS, 3600) == []


def test_the_memory_is_bounded_by_symbol_and_in_symbols(monkeypatch):
    monkeypatch.setattr(news, "SYMBOLS_KEPT", 3)
    memory = NewsMemory()
    for at in range(news.NOTES_KEPT + 5):
        memory.add("AAPL", note(0.1, ago_ms=1000 - at))
    found = memory.find("AAPL", AS_OF_MS, 3600)
    assert len(found) == news.NOTES_KEPT
    assert found[-1].at_ms - found[0].at_ms == news.NOTES_KEPT - 1
    for symbol in ("B", "AAPL", "C", "D"):
        memory.add(symbol, note(0.1))
    assert [bool(memory.find(each, AS_OF_MS, 3600)) for each in ("AAPL", "B", "C", "D")] == [
        True,
        False,
        True,
        True,
    ]


def test_headlines_are_the_newest_different_titles():
    notes = [SymbolNote(AS_OF_MS, 0.1, each, "feed") for each in ("a", "b", "", "a", "c")]
    assert list_headlines(notes, 2) == ["a", "c"]
    assert list_headlines(notes, 9) == ["b", "a", "c"]


def entry(**fields):
    named = {"kind": "note", "title": "Acme rises", "feed": "wire", "sentiment": "0.5", "tickers": '["ACME"]'}
    texts = {name: value for name, value in (named | fields).items() if value is not None}
    raw = {
        name.encode(): value if isinstance(value, bytes) else value.encode() for name, value in texts.items()
    }
    return make_stream_entry(b"1800000000000-0", raw)


def test_a_note_is_read_with_its_symbols():
    assert parse_symbol_note(entry()) == (SymbolNote(AS_OF_MS, 0.5, "Acme rises", "wire"), ("ACME",))


@pytest.mark.parametrize(
    "fields", [{"kind": "digest"}, {"kind": None}, *({"sentiment": each} for each in ("nan", "9", "", None))]
)
def test_what_is_no_note_is_none(fields):
    assert parse_symbol_note(entry(**fields)) is None
    assert parse_symbol_note(StreamEntry(b"1-0", 99_999, None)) is None


def test_foreign_text_is_cut_and_printable():
    found = parse_symbol_note(entry(title=b"a\n\x1b[31m\xff" + b"x" * 9999, feed="f" * 999, tickers="{}"))
    assert found is not None
    (at,), names = [found[0]], found[1]
    assert at.title.isprintable()
    assert len(at.title) <= 200
    assert len(at.feed) == 100
    assert names == ()


async def test_notes_are_followed_and_what_is_none_is_set_aside(server, bus):
    def write(at, **fields):
        flat = [text for pair in entry(**fields).fields.items() for text in pair]
        server.cmd("XADD", VEXY_NOTES, f"{AS_OF_MS + at}-0", *flat)

    write(-5000, title="Before")
    write(0)
    write(1, kind="digest")
    write(2, sentiment="NaN")
    write(3, title="Again", tickers=orjson.dumps(["ACME", "AAPL"]))
    memory, before = NewsMemory(), count_unusable()
    follower = NewsFollower(bus, VEXY_NOTES, memory, AS_OF_MS - 1000)
    assert await follower.read_new() == 2
    assert count_unusable() == before + 1
    assert [each.title for each in memory.find("ACME", AS_OF_MS + 3, 60)] == ["Acme rises", "Again"]
    assert [each.title for each in memory.find("AAPL", AS_OF_MS + 3, 60)] == ["Again"]
    assert await follower.read_new() == 0
    write(9, title="New")
    async with asyncio.timeout(20):
        assert await follower.read_new() == 1
