"""The entries of `signals:log`: what is written is what is read, and nothing else is."""

import pytest

from services.market.fields import EntryError
from services.signals.log.entries import PlaceOutcome, make_place
from services.signals.log.merkle import hash_entry
from services.tables.signals import (
    MAX_PLACE_BYTES,
    PublishedSignal,
    SignalCursor,
    SignalRow,
    find_signal_id,
    make_signal_fields,
    parse_signal_cursor,
    parse_signal_fields,
    parse_signal_id,
)

CONTENT = make_place("BRK.B", PlaceOutcome.SIGNAL, tick=7, side="short", before="flat", reasons=["Zürich €"])
ROW = SignalRow(
    *(7, "BRK.B", 3, 1_793_000_000_000, "signal", "short"),
    *("-0.450000000000", "0.450000000000", "0.100000000000", "1.000000000000"),
    replay=True,
    hash=hash_entry(CONTENT),
    content=CONTENT.decode(),
)


def encode(row=ROW):
    return {name.encode(): value.encode() for name, value in make_signal_fields(row, "stocks").items()}


def test_what_is_published_is_what_is_read():
    found = parse_signal_fields(encode())
    assert found == PublishedSignal(
        *(ROW.ident, 7, ROW.at, "BRK.B", "signal", "short"),
        *("-0.450000000000", "0.450000000000", "0.100000000000", "1.000000000000"),
        replay=True,
        asset="stocks",
        content=ROW.content,
    )
    assert found.id == find_signal_id(CONTENT) == hash_entry(CONTENT).hex()


def test_a_place_without_numbers_or_a_side_has_no_fields_of_them():
    content = make_place("SPY", PlaceOutcome.CLOSED, since=7)
    nothing = dict.fromkeys(("side", "score", "confidence", "conflict", "participation"))
    row = ROW._replace(
        symbol="SPY", outcome="closed", hash=hash_entry(content), content=content.decode(), **nothing
    )
    fields = encode(row)
    assert not fields.keys() & {name.encode() for name in nothing}
    found = parse_signal_fields(fields)
    assert (found.outcome, found.side, found.score) == ("closed", None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", b"0" * 64),
        ("id", None),
        ("content", b'{"symbol":"SPY"}'),
        ("content", b"no JSON"),
        ("content", None),
        ("content", b'"' + b"x" * MAX_PLACE_BYTES + b'"'),
        ("tick", b"0"),
        ("tick", b"-1"),
        ("tick", b"9" * 30),
        ("tick", None),
        ("at", b"now"),
        ("sym", b"a symbol"),
        ("sym", None),
        ("outcome", b"sure"),
        ("outcome", b"abstained"),
        ("outcome", None),
        ("side", b"up"),
        ("side", None),
        ("score", b"NaN"),
        ("score", b"1.000000000001"),
        ("score", b"1e-3"),
        ("score", b""),
        ("confidence", b"-0.5"),
        ("conflict", b"2"),
        ("participation", b"0.1234567890123"),
        ("replay", b"yes"),
        ("asset", b"\xff"),
    ],
)
def test_an_entry_that_is_wrong_in_one_field_is_refused_by_its_name(name, value):
    fields = encode()
    fields.pop(name.encode())
    if value is not None:
        fields[name.encode()] = value
    with pytest.raises(EntryError) as refused:
        parse_signal_fields(fields)
    assert str(refused.value).split(":")[0] in (name, "side", "id")


def test_an_id_is_64_digits_and_no_symbol_is_one():
    assert parse_signal_id(ROW.ident) == ROW.ident
    for text in ("", "SPY", ROW.ident.upper(), ROW.ident[:-1], f"{ROW.ident}0", f"{ROW.ident}\n"):
        assert parse_signal_id(text) is None


def test_a_cursor_names_a_tick_and_a_symbol():
    cursor = SignalCursor(12, "EUR/USD")
    assert parse_signal_cursor(str(cursor)) == cursor
    for text in ("", "12", "SPY", "0,SPY", "-1,SPY", "12,", f"{10**19},SPY", "12,SPY\n", f"1,{'S' * 41}"):
        assert parse_signal_cursor(text) is None
