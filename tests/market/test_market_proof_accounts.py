"""What the proof of the market says of requests that have a row, and of those that have none."""

import pytest

from marketproof import accounts
from marketproof.accounts import compare_requests
from marketproof.comparison import Comparison
from marketproof.station import Break
from support.market_server import Request

URL = "https://www.okx.com/api/v5/market/ticker?instId=ETH-USDT"
WEEK_MS = 1_761_782_400_000


def make_request(at, status=200):
    """Return a request that came at a time of the monotonic clock."""
    played_ms = WEEK_MS + round(1000 * at)
    return Request(at, played_ms, "okx", "/api/v5/market/ticker", {"instId": "ETH-USDT"}, "", status, "")


@pytest.fixture
def compare(monkeypatch):
    """Compare requests that came at some times with rows of those that were sent at others."""

    def compare(came, sent, breaks=(), statuses=()):
        rows = [
            ("okx", URL, status, WEEK_MS + round(1000 * at))
            for at, status in zip(sent, statuses or [200] * len(sent), strict=True)
        ]
        monkeypatch.setattr(accounts, "query", lambda _url, _sql: rows)
        found = Comparison()
        compare_requests(found, "", [make_request(at) for at in came], breaks, is_torn=False)
        return found

    return compare


def test_a_request_without_a_row_is_named_with_its_time_and_the_breaks_around_it(compare):
    breaks = [Break("market-redis", 102.0, 103.5), Break("archive", 300.0, 300.1), Break("bars", 1.0, 2.0)]
    found = compare([100.0, 101.0, 102.25, 103.0], [99.99, 100.99, 102.99], breaks)
    [text] = found.examples["downloads: missing"]
    assert text.startswith("1 times ('okx', '/api/v5/market/ticker', (('instId', 'ETH-USDT'),), 200): ")
    assert text.partition("200): ")[2].startswith("+0.250 s to market-redis, which took 1.500 s, +101.25")


def test_a_kill_of_sources_excuses_one_request_of_a_name_that_was_read_before_it_started_again(compare):
    for over, missing in ((102.3, 0), (102.2, 1)):
        found = compare([102.25], [], [Break("sources", 102.0, over)])
        assert found.differences["downloads: missing"] == missing
    found = compare([102.1, 102.25], [], [Break("sources", 102.0, 102.3)])
    assert found.examples["downloads: missing"][0].startswith("1 times")


def test_a_row_without_a_status_is_a_request_whose_answer_did_not_get_back(compare):
    assert compare([100.0, 101.0], [99.9, 100.9], statuses=[200, 0]).differences == {}
    found = compare([100.0, 101.0], [99.9, 90.9, 95.9], statuses=[0, 0, 0])
    assert (found.differences, found.rows["requests without an answer"]) == ({}, 2)
    found = compare([100.0, 101.0, 102.0], [99.9, 90.9], statuses=[0, 0])
    assert found.differences == {"downloads: missing": 1}


def test_a_row_of_a_request_that_never_came_is_found(compare):
    assert compare([100.0], [99.9, 100.9]).differences == {"downloads: nobody asked so": 1}
