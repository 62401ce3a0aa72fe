"""A request of a backtest is read strictly, and its report is written so that it can be read again."""

import orjson
import pytest

from services.signals.report import (
    MAX_REQUEST_BYTES,
    BacktestReport,
    BacktestRequest,
    ReportCounts,
    ReportError,
    ReportFill,
    ReportPoint,
    ReportPrices,
    ReportTotals,
)

REQUEST = {"strategy": "breakout", "symbols": ["SPY", "QQQ"], "from": "2024-01-02", "to": "2024-12-31"}


def make_request(**changes):
    return BacktestRequest.from_json(orjson.dumps({**REQUEST, **changes}))


def test_equal_requests_have_one_digest_however_their_numbers_are_written():
    plain = make_request(parameters={"share": 2.5}, account={"cash": 100000})
    other = make_request(parameters={"share": 2.50}, account={"cash": "1E+5", "currency": "USD"})
    assert plain.digest("bars", "code") == other.digest("bars", "code")
    written = BacktestRequest.from_document(plain.to_document())
    assert written.digest("bars", "code") == plain.digest("bars", "code")


def test_whatever_changes_the_result_changes_the_digest():
    request = make_request()
    changed = [
        make_request(**{"from": "2024-01-03"}),
        make_request(symbols=["QQQ", "SPY"]),
        make_request(timeframe="1h"),
        make_request(adjust="none"),
        make_request(account={"cash": 1}),
        make_request(fee={"percent": 0.1}),
        make_request(parameters={"days": 3}),
        make_request(strategy="reversion"),
    ]
    digests = {each.digest("bars", "code") for each in (request, *changed)}
    digests |= {request.digest("others", "code"), request.digest("bars", "other")}
    assert len(digests) == len(changed) + 3


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"strategy": "../evil"}, "strategy"),
        ({"symbols": []}, "symbols"),
        ({"symbols": ["SPY", "SPY"]}, "symbols"),
        ({"symbols": ["SPY\n"]}, "symbols"),
        ({"symbols": [f"S{n}" for n in range(101)]}, "symbols"),
        ({"from": "2025-01-01"}, "to"),
        ({"from": "2024-01-02T00:00:00"}, "from"),
        ({"from": 1_704_153_600}, "from"),
        ({"timeframe": "2d"}, "timeframe"),
        ({"adjust": "some"}, "adjust"),
        ({"account": {"cash": 0}}, "account.cash"),
        ({"account": {"cash": 1, "more": 1}}, "account.more"),
        ({"fee": {"percent": -1}}, "fee.percent"),
        ({"parameters": {"a": [1]}}, "parameters.a"),
        ({"parameters": {"a": "x" * 201}}, "parameters"),
        ({"parameters": {f"a{n}": 1 for n in range(41)}}, "parameters"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_request_is_refused_with_its_field(changes, field):
    with pytest.raises(ReportError) as error:
        make_request(**changes)
    assert str(error.value).startswith(field)


@pytest.mark.parametrize(
    "raw", [b"[]", b"nonsense", b"[" * 50_000, b'{"parameters": {"a": NaN}}', b" " * (MAX_REQUEST_BYTES + 1)]
)
def test_what_is_no_request_is_refused(raw):
    with pytest.raises(ReportError):
        BacktestRequest.from_json(raw)


def make_report():
    totals = ReportTotals("1.00", "0.00", "0.00", "5.00", "0.00", "100004.00", 0.00004, 0.1, 0.5, 0.4, None)
    return BacktestReport(
        digest="d" * 64,
        request=make_request(),
        data="e" * 64,
        code="f" * 64,
        title="Breakout",
        source="bars.csv",
        totals=totals,
        buy_and_hold=totals,
        counts=ReportCounts(10, 10, 1, 1, 0, 0, 0),
        points=(ReportPoint("2024-01-02T21:00:00Z", "1.00", "1.00", "0.00", 0.0, 0.0, "1.00", 0.0),),
        fills=(
            ReportFill(
                "o1", "SPY", "2024-01-02T21:00:00Z", "2024-01-03T14:30:00Z", "buy", "1", "2.5", "0.00"
            ),
        ),
        refused=(),
        prices=(ReportPrices("SPY", ("2024-01-02T21:00:00Z",), (2.5,)),),
        assumptions=("An order fills at the next open.",),
        warnings=(),
    )


def test_a_report_is_read_as_it_was_written():
    report = make_report()
    assert BacktestReport.from_json(report.to_json()).to_json() == report.to_json()


def test_a_report_of_another_form_is_refused():
    document = orjson.loads(make_report().to_json())
    for changed in ({**document, "extra": 1}, {**document, "points": [{"at": 1}]}, []):
        with pytest.raises(ReportError):
            BacktestReport.from_json(orjson.dumps(changed))
