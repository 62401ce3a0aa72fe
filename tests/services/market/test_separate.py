"""The name of the bars of one source, and entries whose name and source do not belong together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.entries import encode_entry, parse_bar
from services.market.fields import EntryError
from services.market.records import AssetClass, Bar, Provenance
from services.market.separate import join_source, read_separate, split_source

BAR = Bar("EUR/USD", "1d", 1_793_000_040_000, 1.0, 2.0, 0.5, 1.5)


def entry(**more):
    fields = encode_entry(BAR, AssetClass.FOREX, Provenance("massive")) | more
    return {name.encode(): value.encode() for name, value in fields.items()}


def test_a_name_has_the_symbol_and_the_source_and_no_plain_symbol_is_one():
    name = join_source("EUR/USD", "massive")
    assert name == "EUR/USD@massive"
    assert split_source(name) == ("EUR/USD", "massive")
    assert split_source("EUR/USD") == ("EUR/USD", None)
    plain, symbol, source = read_separate(entry(sym=name))
    assert (parse_bar(plain), symbol, source) == (BAR, "EUR/USD", "massive")
    with pytest.raises(EntryError, match="sym: no symbol"):
        parse_bar(entry(sym=name))  # who does not know such names leaves the entry alone


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({}, "sym: not the bars of one source"),
        ({"sym": "EUR/USD@"}, "sym: not"),
        ({"sym": "@massive"}, "sym: not"),
        ({"sym": "EUR/USD@Massive"}, "sym: not"),
        ({"sym": "EUR/USD@massive@massive"}, "sym: not"),
        ({"sym": "EUR/USD@massive", "source": "yahoo"}, "source: not that of its sym"),
        ({"sym": "EUR/USD@" + "m" * 200}, "sym: must be ASCII"),
    ],
)
def test_what_is_not_of_the_source_of_its_name_is_refused(more, why):
    with pytest.raises(EntryError, match=why):
        read_separate(entry(**more))


@given(st.dictionaries(st.sampled_from((b"sym", b"source")), st.binary(max_size=200)))
def test_whatever_stands_in_an_entry_it_is_read_or_refused(fields):
    try:
        _, symbol, source = read_separate(fields)
    except EntryError:
        return
    assert fields[b"sym"].decode() == join_source(symbol, source)
