import math
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.actions import MAX_AMOUNT, MAX_RATIO, MIN_RATIO, find_day, is_no_split
from services.market.entries import (
    encode_entry,
    encode_provenance,
    format_number,
    parse_action,
    parse_bar,
    parse_entry,
    parse_observation,
    parse_provenance,
    parse_quote,
)
from services.market.fields import MAX_MS, MAX_NUMBER, MIN_MS, SYMBOL, TRADED_SINCE_MS, EntryError
from services.market.records import (
    TIMEFRAME_SEC,
    ActionKind,
    Adjustment,
    AssetClass,
    Bar,
    CorporateAction,
    Observation,
    Provenance,
    Quote,
    settle_range,
)

NUMBERS = st.floats(-MAX_NUMBER, MAX_NUMBER)
MAYBE = st.none() | NUMBERS
TIMES = st.integers(MIN_MS, MAX_MS - 1)
TRADED = st.integers(TRADED_SINCE_MS, MAX_MS - 1)
WITHIN_DAY = [name for name, sec in TIMEFRAME_SEC.items() if sec < 86_400]
EX_DAYS = st.dates(find_day(MIN_MS), find_day(MAX_MS - 1))
SYMBOLS = st.from_regex(SYMBOL, fullmatch=True)
PRICES = dict.fromkeys(("open", "high", "low", "close"), NUMBERS)
VOLUMES = {"volume": MAYBE, "vwap": MAYBE, "trades": st.none() | st.integers(0, 2**53)}
DAYS = sorted(TIMEFRAME_SEC.keys() - WITHIN_DAY)
RECORDS = st.one_of(
    *(
        # a close that is above its high by a rounding error is settled when it is read
        st.builds(Bar, SYMBOLS, st.sampled_from(names), times, **PRICES, **VOLUMES).map(settle_range)
        for names, times in ((WITHIN_DAY, TRADED), (DAYS, TIMES))
    ),
    st.builds(
        Quote,
        symbol=SYMBOLS,
        at_ms=TRADED,
        price=NUMBERS,
        bid=MAYBE,
        ask=MAYBE,
        volume=MAYBE,
        open_interest=MAYBE,
        implied_volatility=MAYBE,
    ),
    st.builds(Observation, symbol=SYMBOLS, start_ms=TIMES, value=NUMBERS),
    st.builds(
        CorporateAction,
        symbol=SYMBOLS,
        kind=st.just(ActionKind.SPLIT),
        ex_day=EX_DAYS,
        ratio=st.floats(MIN_RATIO, MAX_RATIO).filter(lambda ratio: not is_no_split(ratio)),
    ),
    st.builds(
        CorporateAction,
        symbol=SYMBOLS,
        kind=st.just(ActionKind.DIVIDEND),
        ex_day=EX_DAYS,
        amount=st.floats(0, MAX_AMOUNT, exclude_min=True),
    ),
    st.builds(
        CorporateAction,
        symbol=st.just("FB"),
        kind=st.just(ActionKind.RENAME),
        ex_day=EX_DAYS,
        new_symbol=SYMBOLS.filter(lambda symbol: symbol != "FB"),
    ),
    st.builds(
        CorporateAction,
        symbol=st.just("FB"),
        kind=st.sampled_from([ActionKind.SPIN_OFF, ActionKind.RIGHTS, ActionKind.MERGER]),
        ex_day=EX_DAYS,
        ratio=st.none() | st.floats(MIN_RATIO, MAX_RATIO),
        new_symbol=SYMBOLS.filter(lambda symbol: symbol != "FB"),
    ),
)
PROVENANCES = st.builds(
    Provenance,
    source=st.sampled_from(["kraken", "ws", "unknown"]),
    asked_at=st.integers(0, 4 * 10**9).map(float),
    digest=st.sampled_from(["", "ab" * 32]),
    is_replay=st.booleans(),
    played_at=st.sampled_from([0.0, 1_700_000_000.125]),
)
MINUTE = {
    b"sym": b"SPY",
    b"start": b"1795444200000",
    b"open": b"1",
    b"high": b"2",
    b"low": b"0.5",
    b"close": b"1.5",
}


PARSERS = {
    Bar: parse_bar,
    Quote: parse_quote,
    Observation: parse_observation,
    CorporateAction: parse_action,
}
SPLIT = {b"sym": b"AAPL", b"kind": b"split", b"ex_day": b"2020-08-31", b"ratio": b"4"}


def to_wire(fields: dict[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in fields.items()}


@given(RECORDS, st.sampled_from(AssetClass), PROVENANCES)
def test_what_is_written_is_read_back(record, asset, provenance):
    fields = to_wire(encode_entry(record, asset, provenance))
    assert parse_entry(PARSERS[type(record)], fields) == (record, asset, provenance)


@given(NUMBERS)
def test_a_number_is_its_shortest_text(number):
    text = format_number(number)
    assert float(text) == number
    assert len(text) <= len(repr(number))


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0"), (150.0, "150"), (-37.63, "-37.63"), (1e15, "1000000000000000"), (5e-324, "5e-324")],
)
def test_a_whole_number_has_no_point(number, text):
    assert format_number(number) == text


def test_what_is_none_is_left_out():
    fields = encode_entry(Bar("SPY", "1m", 60_000, 1.0, 2.0, 0.5, 1.5), AssetClass.STOCKS, Provenance("ws"))
    assert fields == {
        "sym": "SPY",
        "asset": "stocks",
        "timeframe": "1m",
        "start": "60000",
        "end": "120000",
        "open": "1",
        "high": "2",
        "low": "0.5",
        "close": "1.5",
        "source": "ws",
    }


def test_a_month_has_no_end_of_fixed_length():
    fields = encode_entry(Bar("SPY", "1mo", 0, 1.0, 1.0, 1.0, 1.0), AssetClass.STOCKS, Provenance("x"))
    assert "end" not in fields


def test_a_bar_of_massive_is_a_minute_of_a_stock():
    for source in (b"ws", b"rest", b"replay"):
        bar, asset, provenance = parse_entry(parse_bar, {**MINUTE, b"source": source})
        assert (bar.timeframe, asset) == ("1m", AssetClass.STOCKS)
        assert provenance.is_replay == (source == b"replay")


def test_a_bar_whose_close_is_a_hair_above_its_high_is_read_with_that_high():
    bar = parse_bar({**MINUTE, b"close": b"2.00001"})
    assert (bar.high, bar.close) == (2.00001, 2.00001)
    assert parse_bar({**MINUTE, b"close": b"2.1"}).high == 2, (
        "that is more than rounding, and not settled here"
    )


def test_any_other_source_has_to_name_the_asset_class():
    for extra in ({}, {b"source": b"kraken"}, {b"source": b"ws", b"asset": b"tulips"}):
        with pytest.raises(EntryError, match="asset: unknown"):
            parse_entry(parse_bar, {**MINUTE, **extra})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"sym", b""),
        (b"sym", b"SPY\n"),
        (b"sym", b"-SPY"),
        (b"sym", b"S" * 41),
        (b"sym", "é".encode()),
        (b"timeframe", b"7m"),
        (b"timeframe", b"1m" * 100),
        (b"start", b""),
        (b"start", b"1e12"),
        (b"start", b"--5"),
        (b"start", "²".encode()),
        (b"start", str(MAX_MS).encode()),
        (b"start", str(MIN_MS - 1).encode()),
        (b"start", b"1" * 5000),
        (b"open", b"nan"),
        (b"open", b"inf"),
        (b"high", b"-Infinity"),
        (b"low", b"0x10"),
        (b"close", b"1e19"),
        (b"close", b"1" * 33),
        (b"close", b"\xff"),
        (b"close", b""),
        (b"volume", b"lots"),
        (b"trades", b"inf"),
    ],
)
def test_a_wrong_field_is_named_and_its_value_is_not_repeated(field, value):
    with pytest.raises(EntryError) as error:
        parse_bar({**MINUTE, field: value})
    assert str(error.value).startswith(f"{field.decode()}: ")
    assert len(str(error.value)) < 60


@pytest.mark.parametrize("field", sorted(MINUTE))
def test_a_bar_without_what_it_needs_is_none(field):
    with pytest.raises(EntryError, match=f"^{field.decode()}: "):
        parse_bar({name: value for name, value in MINUTE.items() if name != field})


def test_a_quote_and_an_observation_need_their_price_and_value():
    with pytest.raises(EntryError, match="price: missing"):
        parse_quote({b"sym": b"SPY", b"at": b"1795444200000"})
    with pytest.raises(EntryError, match="value: missing"):
        parse_observation({b"sym": b"US.CPI", b"start": b"-5000000000000"})
    assert parse_observation({b"sym": b"US.CPI", b"start": b"-5", b"value": b"1"}).start_ms == -5


@pytest.mark.parametrize("at", [b"0", b"-1", b"1795444200", b"%d" % (TRADED_SINCE_MS - 1)])
def test_a_quote_or_a_minute_of_before_1990_is_refused_by_name_and_an_old_day_is_taken(at):
    """Whoever writes seconds, or nothing, for a time would begin each symbol in 1970."""
    with pytest.raises(EntryError, match=r"^at: before 1990"):
        parse_quote({b"sym": b"SPY", b"at": at, b"price": b"5"})
    for timeframe in WITHIN_DAY:
        with pytest.raises(EntryError, match=r"^start: before 1990"):
            parse_bar({**MINUTE, b"timeframe": timeframe.encode(), b"start": at})
    assert parse_bar({**MINUTE, b"timeframe": b"1d", b"start": at}).start_ms == int(at)


def test_nobody_knows_where_a_record_came_from_that_does_not_say():
    assert parse_provenance({}) == Provenance("unknown")
    assert dict(encode_provenance(Provenance("kraken"))) == {"source": "kraken"}
    with pytest.raises(EntryError, match="source: "):
        parse_provenance({b"source": b"k" * 129})


@pytest.mark.parametrize("field", [b"asked_at", b"played_at"])
@pytest.mark.parametrize(
    "value", [b"-1e18", b"1e18", b"%d" % (MAX_MS // 1000 + 1), b"%d" % (MIN_MS // 1000 - 1)]
)
def test_a_source_that_was_asked_outside_of_these_centuries_is_refused(field, value):
    with pytest.raises(EntryError, match=rf"^{field.decode()}: out of bounds"):
        parse_provenance({b"source": b"kraken", field: value})
    assert parse_provenance({b"source": b"kraken", field: b"%d" % (MIN_MS // 1000)}).as_of == MIN_MS / 1000


FIELDS = [*MINUTE, *b"timeframe trades at price value asset source asked_at played_at digest".split()]


@given(
    st.sampled_from(list(PARSERS.values())), st.dictionaries(st.sampled_from(FIELDS), st.binary(max_size=40))
)
def test_whatever_comes_is_a_record_or_an_entry_error(parse, fields):
    try:
        record, _, provenance = parse_entry(parse, {**MINUTE, b"source": b"ws", **fields})
    except EntryError:
        return
    assert PARSERS[type(record)] is parse
    assert math.isfinite(provenance.asked_at)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", b"merger"),
        ("kind", b""),
        ("kind", b"dividend"),
        ("ex_day", b""),
        ("ex_day", b"2020-02-30"),
        ("ex_day", b"2020-8-31"),
        ("ex_day", b"1598832000000"),
        ("ex_day", b"1799-12-31"),
        ("ex_day", b"2100-01-01"),
        ("ex_day", b"2020-08-31T00:00"),
        ("ratio", b""),
        ("ratio", b"0"),
        ("ratio", b"1"),
        ("ratio", b"-4"),
        ("ratio", b"4:1"),
        ("ratio", b"nan"),
        ("ratio", b"inf"),
        ("ratio", b"1e7"),
        ("ratio", b"1_0"),
        ("amount", b"0.5"),
        ("new_symbol", b"A B"),
        ("new_symbol", b"APLE"),
        ("new_symbol", b"A" * 41),
        ("withdrawn", b"yes"),
        ("sym", b""),
    ],
)
def test_an_action_that_can_not_be_is_refused(field, value):
    assert parse_action(SPLIT) == CorporateAction("AAPL", ActionKind.SPLIT, date(2020, 8, 31), ratio=4.0)
    with pytest.raises(EntryError):
        parse_action({**SPLIT, field.encode(): value})


@pytest.mark.parametrize("amount", [b"0", b"-0.5", b"1e10", b"nan"])
def test_a_dividend_of_nothing_is_refused(amount):
    dividend = {name: value for name, value in SPLIT.items() if name != b"ratio"} | {b"kind": b"dividend"}
    assert parse_action({**dividend, b"amount": b"0.5"}).amount == 0.5
    with pytest.raises(EntryError, match="amount"):
        parse_action({**dividend, b"amount": amount})


def test_an_action_that_was_withdrawn_has_no_value():
    for fields in (SPLIT, {**SPLIT, b"ratio": b"nonsense"}):
        withdrawn = parse_action({**fields, b"withdrawn": b"1"})
        assert withdrawn == CorporateAction("AAPL", ActionKind.SPLIT, date(2020, 8, 31))


@pytest.mark.parametrize("adjustment", list(Adjustment))
def test_how_a_bar_is_adjusted_is_in_its_entry_and_raw_needs_no_word(adjustment):
    bar = Bar("NVDA", "1d", 0, 1.0, 1.0, 1.0, 1.0)
    fields = encode_entry(bar, AssetClass.STOCKS, Provenance("yahoo", 5.0, adjustment=adjustment))
    assert fields.get("adjustment") == (None if adjustment is Adjustment.RAW else adjustment.value)
    raw = {name.encode(): value.encode() for name, value in fields.items()}
    assert parse_provenance(raw).adjustment is adjustment
    with pytest.raises(EntryError, match="adjustment: unknown"):
        parse_provenance(raw | {b"adjustment": b"some"})
