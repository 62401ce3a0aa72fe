import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vexy_ai.naming import NAMED_AT_MOST, Lexicon

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
    assert len(many.tickers(" ".join(f"Name{n}" for n in range(100)))) == NAMED_AT_MOST
    assert len(many.topics(" ".join(f"t{n}" for n in range(100)))) == NAMED_AT_MOST
