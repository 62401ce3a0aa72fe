"""JSON out, JSON back: for receivers that read and write it. What can go wrong is SendError."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from pydantic import SecretStr

from marketswarm.channels.http import Http
from marketswarm.channels.refusing import Answer, refusal_of

JSON: Final = "application/json; charset=utf-8"


async def post(http: Http, url: str, payload: Mapping[str, Any], token: SecretStr | None = None) -> Answer:
    """POSTs an object, with a bearer token if there is one. Raises SendError unless the answer is a 2xx."""
    answer = await ask(http, url, payload, token)
    if not 200 <= answer.status < 300:
        raise refusal_of(answer)
    return answer


async def ask(http: Http, url: str, payload: Mapping[str, Any], token: SecretStr | None = None) -> Answer:
    """The same for who reads refusals too. Raises SendError only where there is no answer at all."""
    headers = {"content-type": JSON}
    if token is not None:
        headers["authorization"] = f"Bearer {token.get_secret_value()}"
    return await http.exchange("POST", url, body=orjson.dumps(payload), headers=headers)


def said(answer: Answer) -> dict[str, Any]:
    """The object in an answer; an empty one if it holds none."""
    try:
        found: Any = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def pause_of(value: Any) -> float | None:
    """Seconds, as an answer gives them in a header or in JSON; None if that is no such number."""
    try:
        sec = float(value)
    except (TypeError, ValueError):
        return None
    return sec if 0 <= sec < float("inf") else None
