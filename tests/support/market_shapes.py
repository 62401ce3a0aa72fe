"""Answer questions about a market as nineteen public sources document their answers. Pure.

Each shape reads the address as its source's pages describe it, and knows nothing of the product's catalogue:
what both understand alike is what the pages say.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from support.market_answers import (
    Answer,
    Asked,
    json_answer,
)
from support.market_exchanges import (
    answer_binance,
    answer_bitstamp,
    answer_bybit,
    answer_coinbase,
    answer_kraken,
    answer_okx,
)
from support.market_series import (
    answer_bank_of_england,
    answer_cboe,
    answer_ecb,
    answer_frankfurter,
    answer_fred,
    answer_us_treasury,
)
from support.market_vendors import (
    answer_alpaca,
    answer_alpha_vantage,
    answer_finnhub,
    answer_massive,
    answer_oanda,
    answer_twelve_data,
    answer_yahoo,
    twelve_data_error,
)
from support.market_view import MarketView

_UNAUTHORIZED: Final = json_answer({"error": "unauthorized"}, 401)
_TOO_MANY: Final = json_answer({"error": "too many requests"}, 429)


@dataclass(frozen=True, slots=True)
class Shape:
    """Say how a source is asked and answers.

    Attributes:
        answer: makes its answer.
        key: returns the key in a question; None for a source without keys.
        unauthorized: what it says without a good key.
        refused: its own notice of too many requests.
    """

    answer: Callable[[MarketView, Asked], Answer]
    key: Callable[[Asked], str] | None = None
    unauthorized: Answer = _UNAUTHORIZED
    refused: Answer = _TOO_MANY


def _query_key(name: str) -> Callable[[Asked], str]:
    return lambda asked: asked.query.get(name, "")


def _header_key(name: str, prefix: str = "") -> Callable[[Asked], str]:
    return lambda asked: asked.headers.get(name, "").removeprefix(prefix)


_BEARER: Final = _header_key("authorization", "Bearer ")
_ALPHA_NOTICE: Final = "Your key has reached its rate limit of 25 requests a day."
SHAPES: Final[Mapping[str, Shape]] = {
    "alpaca": Shape(
        answer_alpaca, _header_key("apca-api-key-id"), json_answer({"message": "forbidden."}, 403)
    ),
    "alpha_vantage": Shape(
        answer_alpha_vantage,
        _query_key("apikey"),
        json_answer({"Error Message": "apikey: invalid or missing"}),
        json_answer({"Information": _ALPHA_NOTICE}),
    ),
    "bank_of_england": Shape(answer_bank_of_england),
    "binance": Shape(answer_binance, refused=json_answer({"code": -1003, "msg": "Too many requests."}, 429)),
    "bitstamp": Shape(answer_bitstamp),
    "bybit": Shape(answer_bybit, refused=json_answer({"retCode": 10006, "retMsg": "Too many visits!"})),
    "cboe": Shape(answer_cboe),
    "coinbase": Shape(answer_coinbase, refused=json_answer({"message": "rate limit exceeded"}, 429)),
    "ecb": Shape(answer_ecb),
    "finnhub": Shape(
        answer_finnhub,
        lambda asked: asked.headers.get("x-finnhub-token") or asked.query.get("token", ""),
        json_answer({"error": "no key"}, 401),
        json_answer({"error": "limit reached"}, 429),
    ),
    "frankfurter": Shape(answer_frankfurter),
    "fred": Shape(
        answer_fred,
        _query_key("api_key"),
        json_answer({"error_code": 400, "error_message": "api_key: wrong"}, 400),
        json_answer({"error_code": 429, "error_message": "Too Many Requests."}, 429),
    ),
    "kraken": Shape(answer_kraken, refused=json_answer({"error": ["EGeneral:Too many requests"]})),
    "massive": Shape(
        answer_massive, _BEARER, json_answer({"status": "ERROR", "error": "Unknown API Key"}, 401)
    ),
    "oanda": Shape(
        answer_oanda,
        _BEARER,
        json_answer({"errorMessage": "not authorized"}, 401),
    ),
    "okx": Shape(answer_okx, refused=json_answer({"code": "50011", "msg": "Too Many Requests", "data": []})),
    "twelve_data": Shape(
        answer_twelve_data,
        _header_key("authorization", "apikey "),
        twelve_data_error(401, "apikey: wrong or missing"),
        twelve_data_error(429, "no credits are left in this minute"),
    ),
    "us_treasury": Shape(answer_us_treasury),
    "yahoo": Shape(answer_yahoo, refused=Answer(429, b"Too Many Requests\r\n", "text/plain")),
}
