"""News about symbols, as foreign writers have it."""

import orjson
import pytest

from marketswarm.bus.stream import StreamEntry
from marketswarm.truth import parse_truth
from services.board.market.news import cut_news, find_notes, parse_news, select_news

NOTE = {
    b"kind": b"note",
    b"title": b"Apple gains",
    b"link": b"https://news.example/1",
    b"feed": b"wire",
    b"tickers": b'["AAPL", "EUR/USD"]',
    b"topics": b'["profits"]',
    b"sentiment": b"0.440",
}


def make_entry(**changes):
    return StreamEntry(
        b"1700000000000-0", 0, NOTE | {name.encode(): value for name, value in changes.items()}
    )


def test_a_note_is_read_with_its_time_and_its_symbols():
    one = parse_news(make_entry())
    assert (one.at, one.title, one.link, one.feed) == (1.7e9, "Apple gains", "https://news.example/1", "wire")
    assert (one.sentiment, one.tickers, one.topics) == (0.44, ("AAPL", "EUR/USD"), ("profits",))


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"link": b"javascript:alert(1)"}, "link", ""),
        ({"link": b"https://[x"}, "link", ""),
        ({"tickers": b"[5, null, {}]"}, "tickers", ()),
        ({"tickers": b"{"}, "tickers", ()),
        ({"tickers": b'{"AAPL": 1}'}, "tickers", ()),
        ({"sentiment": b"nan"}, "sentiment", None),
        ({"sentiment": b"7"}, "sentiment", None),
        ({"sentiment": b""}, "sentiment", None),
        ({"title": "a\u202eb".encode()}, "title", "a\\u202eb"),
        ({"title": b"\xff" + b"x" * 5000}, "title", "\ufffd" + "x" * 299),
    ],
)
def test_one_bad_value_costs_itself_alone(changes, name, value):
    one = parse_news(make_entry(**changes))
    assert getattr(one, name) == value
    assert one.feed == "wire"


def test_a_digest_is_no_news():
    assert parse_news(make_entry(kind=b"digest")) is None
    assert parse_news(StreamEntry(b"1-0", 0, None)) is None


def test_the_news_of_a_symbol_name_it():
    items = [parse_news(make_entry(title=title)) for title in (b"1", b"2", b"3")]
    assert [one.title for one in select_news(items, "EUR/USD", 2)] == ["1", "2"]
    assert select_news(items, "EUR", 9) == []
    assert len(select_news(items, None, 9)) == 3


def test_as_of_an_instant_news_are_those_of_then_and_before_the_oldest_others_may_lack():
    first, second = parse_news(make_entry()), parse_news(make_entry(title=b"later"))._replace(at=1.7e9 + 60)
    items, at_ms = [second, first], round(1000 * first.at)
    assert cut_news(items, None, None) == (items, None)
    assert cut_news(items, None, at_ms + 60_000) == (items, None)
    assert cut_news(items, None, at_ms) == ([first], None)
    assert cut_news(items, None, at_ms - 1) == ([], "the notes that are kept begin on 2023-11-14")
    assert cut_news(items, "the bus is away", at_ms - 1) == ([], "the bus is away")


def test_the_stream_of_notes_is_that_of_the_truth():
    def make_truth(*keys):
        points = [{"bus": "market-redis", "key": key} for key in keys]
        return parse_truth(
            orjson.dumps({"services": {"notes": {"access_points": {"publish_to": points}}}})
        ).truth

    assert find_notes(make_truth("vexy:dead", "vexy:notes")) == ("market-redis", "vexy:notes")
    assert find_notes(make_truth("other:notes")) == ("market-redis", "other:notes")
    assert find_notes(make_truth("rss:items")) is None
