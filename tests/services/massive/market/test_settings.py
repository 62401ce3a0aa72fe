"""What the truth may say of market data, and what it is told when it may not."""

import pytest
from pydantic import ValidationError

from services.massive.market.loop import source_identity
from services.massive.market.settings import (
    MarketEnvironment,
    MarketSettings,
)
from services.massive.market.status import backoff_sec

RIGHT = [
    {},
    {"symbols": ["AAPL", "BRK.B", "ABRpD", "X:BTCUSD"]},
    {"rest_url": "https://api.example/v9", "ws_url": "wss://socket.example/stocks"},
    {"rest_url": "http://127.0.0.1:8080", "ws_url": "ws://[::1]:8080/x"},
    {"rest_url": "http://localhost:1"},
]
WRONG = [
    ({"symbols": ["*"]}, "symbols.0: Value error, must name tickers"),
    ({"symbols": ["AAPL,MSFT"]}, "symbols.0: Value error, must be a ticker"),
    ({"symbols": [""]}, "symbols.0"),
    ({"symbols": ["AAPL\n"]}, "symbols.0"),
    ({"symbols": ["A" * 21]}, "symbols.0"),
    ({"symbols": ["AAPL", "IBM", "AAPL"]}, "names AAPL more than once"),
    ({"symbols": [f"S{n}" for n in range(501)]}, "symbols"),
    ({"source": "both"}, "source"),
    ({"source": "replay"}, "source"),
    ({"feed": "fast"}, "feed"),
    ({"rest_url": "http://api.example"}, "must be https://"),
    ({"ws_url": "ws://socket.example/stocks"}, "must be wss://"),
    ({"ws_url": "https://socket.example/stocks"}, "must be wss://"),
    ({"rest_url": "https://me:pass@api.example"}, "no user, password or query"),
    ({"rest_url": "https://api.example/?apiKey=pass"}, "no user, password or query"),
    ({"rest_url": "http://127.0.0.1.example"}, "must be https://"),
    ({"rest_url": "http://[::1"}, "must be https://"),
    ({"rest_url": "https://host:99999"}, "must be https://"),
    ({"rest_url": ""}, "must be https://"),
    ({"backfill_sec": 8 * 86_400}, "backfill_sec"),
    ({"keep": 0}, "keep"),
]


@pytest.mark.parametrize("said", RIGHT)
def test_what_is_right_is_taken(said):
    MarketSettings.model_validate(said)


@pytest.mark.parametrize(("said", "told"), WRONG)
def test_what_is_wrong_is_named_without_its_value(said, told):
    with pytest.raises(ValidationError) as error:
        MarketSettings.model_validate(said)
    words = "; ".join(
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}"
        for each in error.value.errors(include_input=False, include_url=False)
    )
    assert told in words
    assert "pass" not in words.replace("password", "")


def test_the_truth_goes_before_the_environment_and_that_before_where_the_api_always_is():
    silent, says = MarketSettings(), MarketSettings(rest_url="https://a.example", ws_url="wss://a.example")
    nowhere = MarketEnvironment()
    elsewhere = MarketEnvironment(massive_rest_url="https://b.example", massive_ws_url="wss://b.example")
    assert elsewhere.find_urls(says) == ("https://a.example", "wss://a.example")
    assert elsewhere.find_urls(silent) == ("https://b.example", "wss://b.example")
    assert nowhere.find_urls(silent) == ("https://api.massive.com", "wss://delayed.massive.com/stocks")
    assert nowhere.find_urls(MarketSettings(feed="real-time"))[1] == "wss://socket.massive.com/stocks"


def test_other_symbols_are_no_other_work_and_another_place_is():
    some = MarketSettings(symbols=("AAPL",))
    assert source_identity(some) == source_identity(
        MarketSettings(symbols=("MSFT", "IBM"), keep=5, settle_sec=1)
    )
    assert source_identity(some) != source_identity(MarketSettings())
    assert source_identity(some) != source_identity(MarketSettings(symbols=("AAPL",), feed="real-time"))


def test_pauses_double_up_to_a_minute_and_are_spread():
    assert [backoff_sec("broken", n, 0.5) for n in (1, 2, 3, 7, 8, 1000)] == [1, 2, 4, 60, 60, 60]
    assert (backoff_sec("broken", 1, 0.0), backoff_sec("broken", 1, 1.0)) == (0.75, 1.25)


def test_what_hurry_makes_worse_is_not_hurried():
    assert backoff_sec("max_connections", 1, 0.0) >= 45
    assert backoff_sec("auth_failed", 1, 0.0) >= 225
