import orjson
from hypothesis import given
from hypothesis import strategies as st

from services.vexy_ai.notes import entries_of, note


def test_a_note_tells_what_an_item_is_about():
    item = {
        b"id": b"abc",
        b"feed": b"a",
        b"title": b"$AAPL beats $MSFT, $AAPL rises",
        b"summary": b"Profits, profits",
    }
    found = note("1-0", item, 5.0)
    assert found == {
        "id": "abc",
        "feed": "a",
        "title": "$AAPL beats $MSFT, $AAPL rises",
        "mentions": '["AAPL","MSFT"]',
        "words": '["aapl","profits","beats","msft","rises"]',
        "ts": "5.000",
    }


def test_an_item_without_an_id_is_known_by_its_entry():
    assert note("1-0", {}, 5.0)["id"] == "1-0"


@given(
    st.dictionaries(st.sampled_from([b"id", b"feed", b"title", b"summary", b"x"]), st.binary(max_size=200))
)
def test_whatever_an_item_holds_there_is_a_short_note(item):
    found = note("1-0", item, 5.0)
    assert orjson.loads(orjson.dumps(found)) == found
    assert all(len(text) <= 400 for text in found.values())


def test_a_huge_item_makes_a_short_note():
    found = note("1-0", {b"title": b"$ABC " * 1_000_000, b"id": b"x" * 1_000_000}, 5.0)
    assert sum(map(len, found.values())) < 1000


def test_a_reply_is_a_list_of_entries_and_nothing_is_an_empty_one():
    assert entries_of(None) == []
    assert entries_of([]) == []
    assert entries_of([[b"s", [(b"1-0", {b"a": b"b"}), (b"2-0", None)]]]) == [
        (b"1-0", {b"a": b"b"}),
        (b"2-0", {}),
    ]
