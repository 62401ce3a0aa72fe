"""How long the board's answers take, by the class of their route."""

import asyncio

import pytest

from services.board.answer_times import ROUTE_CLASSES, AnswerTimes, classify_path

PATHS = {
    "/api/v1/bars/SPY": "chart",
    "/api/v1/market/economy": "market",
    "/api/v1/signals/SPY": "signals",
    "/api/v1/status": "api",
    "/api/" + 2000 * "x": "api",
    "/static/app.js": "static",
    "/healthz": "health",
    "/api/v1/health": "health",
    "/ping/secret": "ping",
    "/market/SPY": "page",
    "": "page",
}


def count_answers(times):
    return {
        label: dict(each.buckets())[float("inf")]
        for label, each in times.seconds.list_series()
        if each.sum or dict(each.buckets())[float("inf")]
    }


@pytest.mark.parametrize(("path", "name"), PATHS.items())
def test_a_path_has_one_of_few_classes(path, name):
    assert classify_path(path) == name
    assert name in ROUTE_CLASSES


async def ask(times, path="/api/v1/bars/SPY", kind="http"):
    async def drop(_message):
        pass

    await times({"type": kind, "path": path}, None, drop)


async def test_an_answer_is_observed_until_it_begins_and_a_socket_is_not():
    async def stream(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.3)  # the rest of a stream is not waited for
        await send({"type": "http.response.body"})

    times = AnswerTimes(stream)
    await ask(times)
    await ask(times, kind="websocket")
    assert count_answers(times) == {"chart": 1}
    assert dict(times.seconds.list_series())["chart"].sum < 0.3


async def test_an_answer_in_one_write_and_one_that_fails_are_observed():
    async def fail(scope, _receive, _send):
        if scope["path"].startswith("/api/"):
            raise ConnectionResetError

    times = AnswerTimes(fail)
    await ask(times, "/market")
    with pytest.raises(ConnectionResetError):
        await ask(times, "/api/v1/status")
    assert count_answers(times) == {"page": 1, "api": 1}
