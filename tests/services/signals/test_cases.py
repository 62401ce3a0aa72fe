"""A case is read strictly: what is wrong is named with file, line and field, and nothing is skipped."""

import orjson
import pytest

from marketswarm.exit import Mistake
from services.signals.backtest import describe_result, play_case
from services.signals.cases import CaseError, format_time, parse_time, read_case
from services.signals.commands import orders as backtest_orders

CASE = {
    "case": "bracket",
    "conventions": ["a comment"],
    "account": {"cash": 100000, "currency": "USD", "type": "cash", "periods_per_year": 252},
    "instruments": {
        "SPY": {"tick": 0.01, "lot": 1, "session": "XNYS", "fee": {"per_share": 0.005, "min_per_order": 1}}
    },
    "actions": [],
    "variants": [{"name": "margin", "account": {"type": "margin", "leverage": 2}}],
}
BARS = """symbol,start,end,open,high,low,close,volume
SPY,2026-01-05T14:30:00Z,2026-01-05T21:00:00Z,100,102,99,101,1000000
SPY,2026-01-06T14:30:00Z,2026-01-06T21:00:00Z,101.5,106,95,100,1000000
SPY,2026-01-07T14:30:00Z,2026-01-07T21:00:00Z,98,99,97,98.5,
"""
ORDERS = """decided_at,symbol,id,side,qty,target_percent,type,limit,stop,tif,parent,oco
2026-01-05T21:00:00Z,SPY,a,buy,100,,market,,,GTC,,
2026-01-05T21:00:00Z,SPY,t,sell,100,,limit,105,,GTC,a,x
2026-01-05T21:00:00Z,SPY,s,sell,100,,stop,,97,GTC,a,x
2026-01-06T21:00:00Z,SPY,d,buy,10,,limit,90,,DAY,,
2026-01-06T21:00:00Z,SPY,big,buy,100000,,market,,,,,
"""


def write(folder, case=CASE, bars=BARS, orders=ORDERS):
    raw = case if isinstance(case, bytes) else orjson.dumps(case)
    (folder / "case.json").write_bytes(raw)
    (folder / "bars.csv").write_text(bars, encoding="utf-8")
    (folder / "orders.csv").write_text(orders, encoding="utf-8")
    return folder


def play(folder, variant=None):
    case = read_case(folder, variant)
    return describe_result(play_case(case), 252.0)


def test_a_case_is_played_as_it_can_be_checked_by_hand(tmp_path):
    answer = play(write(tmp_path))
    at = "2026-01-06T14:30:00Z"
    assert answer["fills"] == [
        {
            "order": "a",
            "symbol": "SPY",
            "at": at,
            "side": "buy",
            "qty": "100",
            "price": "101.5",
            "fee": "1.00",
        },
        {"order": "s", "symbol": "SPY", "at": at, "side": "sell", "qty": "100", "price": "97", "fee": "1.00"},
    ]
    assert answer["refused"] == [
        {"order": "big", "at": "2026-01-07T14:30:00Z", "reason": "no_cash"},
        {"order": "d", "at": "2026-01-07T21:00:00Z", "reason": "expired"},
    ]
    assert [row["equity"] for row in answer["equity"]] == ["100000.00", "99548.00", "99548.00"]
    totals = answer["totals"]
    assert (totals["fees"], totals["realised"], totals["final_equity"]) == ("2.00", "-450.00", "99548.00")
    assert totals["max_drawdown"] == pytest.approx(0.00452)
    assert totals["sharpe"] == pytest.approx(-11.2250, abs=1e-4)  # -0.00226 / 0.0031961 x sqrt(252)


def test_a_variant_puts_its_values_over_those_of_the_account(tmp_path):
    assert [each["reason"] for each in play(write(tmp_path), "margin")["refused"]] == ["no_margin", "expired"]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"acount": {}}, "case.json: acount"),
        ({"account": {**CASE["account"], "cahs": 1}}, "case.json: account.cahs"),
        ({"account": {**CASE["account"], "cash": -1}}, "case.json: account.cash"),
        ({"instruments": {"SPY": {"tick": 0, "lot": 1}}}, "case.json: instruments.SPY.tick"),
        ({"instruments": {"SPY": {"tick": 1, "lot": 1, "session": "NOWHERE"}}}, "instruments.SPY.session"),
        ({"actions": [{"kind": "merger", "symbol": "SPY"}]}, "case.json: actions.0"),
        (
            {"actions": [{"kind": "split", "symbol": "X", "at": "2026-01-06T14:30:00Z", "new": 2, "old": 1}]},
            "case.json: actions.0.symbol",
        ),
        (
            {"actions": [{"kind": "split", "symbol": "SPY", "at": "2026-01-06", "new": 2, "old": 1}]},
            "case.json: actions.0.at",
        ),
        ({"variants": [{"name": "v", "account": {"leverage": "x"}}]}, "case.json: account.leverage"),
    ],
)
def test_what_is_wrong_in_a_case_is_named(tmp_path, change, where):
    with pytest.raises(CaseError, match=where.replace(".", r"\.")):
        play(write(tmp_path, {**CASE, **change}))


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"account": NaN}', b"[" * 100_000, b"\xff"])
def test_what_is_no_document_is_refused(tmp_path, raw):
    with pytest.raises(CaseError, match=r"case\.json"):
        play(write(tmp_path, raw))


FIRST = "SPY,2026-01-05T14:30:00Z,2026-01-05T21:00:00Z,"


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("volume\n", "volume,note\n", "bars.csv: line 1: unknown column 'note'"),
        ("close,volume\n", "close\n", "bars.csv: line 1: the column volume is missing"),
        (f"{FIRST}100,102", f"{FIRST}100,99.5", "bars.csv: line 2: open: is not between low and high"),
        (f"{FIRST}100", f"{FIRST}NaN", "bars.csv: line 2: open: must be a decimal"),
        (f"{FIRST}100", f"{FIRST}1e2", "bars.csv: line 2: open: must be a decimal"),
        ("05T14:30:00Z", "05T14:30:00", "bars.csv: line 2: start: must be a time in UTC"),
        ("05T21:00:00Z", "05T14:30:00Z", "bars.csv: line 2: end: must be after start"),
        ("1000000\nSPY,2026-01-06", "1000000,1\nSPY,2026-01-06", "bars.csv: line 2: has 9 cells"),
        (
            "SPY,2026-01-06T14:30:00Z",
            "SPY,2026-01-05T14:30:00Z",
            "line 3: start: is there twice, with other numbers",
        ),
        (
            "SPY,2026-01-06T14:30:00Z",
            "SPY,2026-01-05T20:00:00Z",
            "line 3: start: begins before the bar above",
        ),
        ("SPY,2026-01-07", "QQQ,2026-01-07", "bars.csv: line 4: symbol: 'QQQ' is not in the instruments"),
        ("1000000", "-1", "bars.csv: line 2: volume: must not be below 0"),
    ],
)
def test_what_is_wrong_in_the_bars_is_named(tmp_path, old, new, where):
    with pytest.raises(CaseError) as caught:
        play(write(tmp_path, bars=BARS.replace(old, new, 1)))
    assert where in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("SPY,t", "SPY,a", "orders.csv: line 3: id: is there twice"),
        ("SPY,a,buy", "QQQ,a,buy", "orders.csv: line 2: symbol: 'QQQ'"),
        ("a,buy", "a,Buy", "orders.csv: line 2: side: must be one of buy, sell"),
        ("a,buy,100", "a,buy,0", "orders.csv: line 2: qty: must be above 0"),
        ("a,buy,100,,", "a,buy,100,50,", "orders.csv: line 2: side: must be empty beside target_percent"),
        ("limit,105", "limit,", "orders.csv: line 3: limit: must be a decimal"),
        ("market,,,GTC", "market,1,,GTC", "orders.csv: line 2: limit: must be empty"),
        (
            ",GTC,a,x\n2026-01-05T21:00:00Z,SPY,s",
            ",GTC,b,x\n2026-01-05T21:00:00Z,SPY,s",
            "line 3: parent: no order",
        ),
        ("market,,,GTC,,", "market,,,GTC,t,", "parent: goes round in a circle"),
        ("DAY", "FOK", "orders.csv: line 5: tif: must be one of"),
        ("2026-01-06T21:00:00Z,SPY,d", "2126-01-06T21:00:00Z,SPY,d", "orders.csv: line 5: decided_at"),
    ],
)
def test_what_is_wrong_in_the_orders_is_named(tmp_path, old, new, where):
    with pytest.raises(CaseError) as caught:
        play(write(tmp_path, orders=ORDERS.replace(old, new, 1)))
    assert where in str(caught.value)


def test_the_same_bar_twice_is_one(tmp_path):
    lines = BARS.splitlines(keepends=True)
    assert play(write(tmp_path, bars="".join([*lines[:2], lines[1], *lines[2:]]))) == play(write(tmp_path))


def test_a_missing_file_and_an_unknown_variant_are_mistakes_of_the_command(tmp_path):
    with pytest.raises(Mistake, match=r"case\.json: No such file"):
        backtest_orders(tmp_path, as_json=True)
    with pytest.raises(Mistake, match="no 'x'; there are: margin"):
        backtest_orders(write(tmp_path), variant="x", as_json=True)


@pytest.mark.parametrize("text", ["2026-01-05T14:30:00Z", "2026-01-05T14:30:00.250Z"])
def test_times_are_read_back(text):
    assert format_time(parse_time(text)) == text
