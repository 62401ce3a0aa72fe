import pytest

from services.vexy_ai.making import make
from services.vexy_ai.naming import Lexicon
from services.vexy_ai.observing import Unusable
from services.vexy_ai.sources import Kind, Source

NOW = 1_795_198_500.0
BAR = {b"sym": b"A", b"start": b"1795198440000", b"open": b"1", b"high": b"1", b"low": b"1", b"close": b"1"}


def made(kind, fields):
    return make(Source("market-redis", "s", kind), b"1-0", fields, Lexicon({}, {}), NOW)


def test_what_becomes_of_an_entry_is_for_its_stream_to_say():
    assert (made(Kind.ITEMS, BAR).what, made(Kind.BARS, BAR).what) == ("note", "bar")
    probe = made(Kind.PROBES, {b"target": b"site", b"ok": b"1"})
    assert (probe.what, probe.whose) == ("probe", "site")


def test_a_bar_from_the_past_comes_to_nothing():
    assert made(Kind.BARS, BAR | {b"source": b"rest", b"start": b"1795000000000"}).what == "none"


def test_what_is_none_of_its_kind_is_unusable_but_any_item_is_an_item():
    for kind in (Kind.BARS, Kind.PROBES):
        with pytest.raises(Unusable):
            made(kind, {})
    assert made(Kind.ITEMS, {}).what == "note"
