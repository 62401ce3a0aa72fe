import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.truth import parse_truth
from services.vexy_ai.notes import (
    MAX_FOUND,
    Lexicon,
    Note,
    make_lexicon,
    make_note,
    note_identity,
    parse_note,
)

SYMBOLS = {
    "AAPL": ["Apple", "Apple Inc"],
    "BRK.B": ["Berkshire Hathaway"],
    "T": ["AT&T"],
    "TGT": ["Target"],
    "ON": ["onsemi"],
    "SONY": ["ソニー"],
}
LEXICON = Lexicon(SYMBOLS, {"rates": ["interest rate", "Fed"], "energy": ["oil"], "経済": ["景気"]})


@pytest.mark.parametrize(
    ("text", "tickers"),
    [
        ("$AAPL and $XYZ rise", ["AAPL", "XYZ"]),
        ("($BRK.B)", ["BRK.B"]),
        ("it costs $500, $AAAAAA or US$AB", []),
        ("Apple's new phone", ["AAPL"]),
        ("APPLE RISES", ["AAPL"]),
        ("an apple a day", []),
        ("pineapple, Apples", []),
        ("Berkshire  Hathaway buys", ["BRK.B"]),
        ("Berkshire sheep", []),
        ("AT&T cuts", ["T"]),
        ("a target missed", []),
        ("Target misses", ["TGT"]),
        ("onsemi and OnSemi", ["ON"]),
        ("Acme (NASDAQ: AAPL) and (TGT)", ["AAPL", "TGT"]),
        ("Acme (NYSE: XYZ)", []),
        ("the AAPL of old", ["AAPL"]),
        ("MARKETS ON EDGE, TGT", []),
        ("Turn it ON, T", []),
        ("株式:ソニーが上昇", ["SONY"]),
        ("", []),
    ],
)
def test_tickers_are_found_by_mark_by_name_and_bare(text, tickers):
    assert LEXICON.tickers(text) == tickers


@pytest.mark.parametrize(
    ("text", "topics"),
    [
        ("the Fed raises an interest rate", ["rates"]),
        ("Interest-Rate news, OIL", ["rates", "energy"]),
        ("fed up", []),
        ("boiling", []),
        ("Rates", ["rates"]),
        ("景気が良い", ["経済"]),
    ],
)
def test_topics_are_found_by_their_words(text, topics):
    assert LEXICON.topics(text) == topics


@given(st.text(max_size=200))
def test_whatever_a_text_is_what_it_names_is_known_or_marked(text):
    found = LEXICON.tickers(text)
    assert all(each in SYMBOLS or f"${each}" in text for each in found)
    assert set(LEXICON.topics(text)) <= {"rates", "energy", "経済"}


def test_no_text_names_more_than_there_is_room_for():
    many = Lexicon({f"A{n}": [f"Name{n}"] for n in range(100)}, {f"t{n}": [] for n in range(100)})
    assert len(many.tickers(" ".join(f"Name{n}" for n in range(100)))) == MAX_FOUND
    assert len(many.topics(" ".join(f"t{n}" for n in range(100)))) == MAX_FOUND


MICROSOFT = Lexicon({"MSFT": ["Microsoft"]}, {"profits": ["profit"]})
WINDOW = "1200-1500"


def test_a_note_tells_what_an_item_is_about():
    item = {
        b"id": b"abc",
        b"version": b"2",
        b"feed": b"a",
        b"title": b"$AAPL beats Microsoft",
        b"summary": b"Great profits",
        b"link": b"https://a.example/1",
    }
    assert make_note("1-0", item, MICROSOFT, 5.0) == {
        "kind": "note",
        "id": "abc",
        "version": "2",
        "feed": "a",
        "title": "$AAPL beats Microsoft",
        "link": "https://a.example/1",
        "tickers": '["AAPL","MSFT"]',
        "topics": '["profits"]',
        "sentiment": "0.791",
        "ts": "5.000",
    }


def test_an_item_without_an_id_is_known_by_its_entry_and_one_without_a_title_by_its_summary():
    found = make_note("1-0", {b"summary": b"only this"}, MICROSOFT, 5.0)
    assert (found["id"], found["title"]) == ("1-0", "only this")
    assert "version" not in found


@pytest.mark.parametrize("link", [b"javascript:alert(1)", b"http://[", b"/1", b"https://a/" + b"x" * 2000])
def test_a_link_that_is_none_is_left_out(link):
    assert make_note("1-0", {b"link": link}, MICROSOFT, 5.0)["link"] == ""


def test_two_notes_are_about_the_same_when_stream_id_and_version_are_the_same():
    def of(stream="s", entry="1-0", **fields):
        return note_identity(stream, entry, {name.encode(): value for name, value in fields.items()})

    assert of(id=b"a") == of(id=b"a", entry="2-0", title=b"changed")
    others = [of(id=b"a"), of(id=b"b"), of(id=b"a", version=b"2"), of(id=b"a", stream="t"), of()]
    others += [of(entry="2-0"), of(id=b"x" * 300 + b"1"), of(id=b"x" * 300 + b"2")]
    assert len(set(others)) == len(others)


@given(
    st.dictionaries(
        st.sampled_from([b"id", b"feed", b"title", b"summary", b"version", b"link"]), st.binary(max_size=200)
    )
)
def test_whatever_an_item_holds_there_is_a_short_note_that_can_be_read_back(item):
    found = make_note("1-0", item, MICROSOFT, 5.0) | {"window": WINDOW}
    assert all(len(text) <= 1000 and (text.isprintable() or not text) for text in found.values())
    fields = {name.encode(): text.encode() for name, text in found.items()}
    assert parse_note(fields, WINDOW).id == found["id"]
    assert parse_note(fields, "1500-1800") is None


def test_a_huge_item_makes_a_short_note():
    found = make_note("1-0", {b"title": b"$ABC " * 1_000_000, b"id": b"x" * 1_000_000}, MICROSOFT, 5.0)
    assert sum(map(len, found.values())) < 1000


@pytest.mark.parametrize("raw", [b"", b"x", b"nan", b"inf", b"-inf", b"1" * 400, b"\xff"])
def test_a_sentiment_that_is_no_number_is_0_and_a_great_one_1(raw):
    note = parse_note({b"kind": b"note", b"window": WINDOW.encode(), b"sentiment": raw}, WINDOW)
    assert note.sentiment == float(raw.isdigit())


def test_what_others_write_to_the_notes_is_no_harm():
    fields = {
        b"kind": b"note",
        b"window": WINDOW.encode(),
        b"tickers": b'["A", 1]',
        b"topics": b"{",
        b"id": b"i",
    }
    assert parse_note(fields | {b"sentiment": b"7"}, WINDOW) == Note("i", tickers=("A",), sentiment=1.0)
    assert parse_note(fields | {b"sentiment": b"x"}, WINDOW) == Note("i", tickers=("A",))
    assert parse_note({b"kind": b"digest"}, WINDOW) is None


def test_many_or_long_tickers_of_others_are_cut():
    fields = {b"kind": b"note", b"window": WINDOW.encode(), b"tickers": orjson.dumps(["x" * 500] * 20)}
    assert all(len(each) == 100 for each in parse_note(fields, WINDOW).tickers)


def test_the_symbols_of_the_market_in_the_truth_are_found_and_need_no_settings():
    points = [{"bus": "market-redis", "key": "market:series"}]
    endpoints = [
        {"symbols": ["AAPL", "EUR/USD", "IBM"], "group": "any"},
        {"symbol": "US.CPI", "kind": "observations", "asset": "economic"},
    ]
    sources = {"access_points": {"publish_to": points}, "endpoints": endpoints}
    named = {"settings": {"symbols": {"AAPL": ["Apple"]}}}
    truth = parse_truth(orjson.dumps({"services": {"sources": sources, "vexy_ai": named}})).truth
    lexicon = make_lexicon(truth, {"VOD.L": ["Vodafone"]}, {})
    assert lexicon.tickers("Apple and IBM gain while EUR/USD falls, US.CPI rises") == [
        "AAPL",
        "EUR/USD",
        "IBM",
    ]
    assert lexicon.tickers("the euro and an apple") == []
    assert lexicon.tickers("Vodafone gains") == ["VOD.L"], "of the settings"
