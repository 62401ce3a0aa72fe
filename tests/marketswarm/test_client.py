"""The client of a board's market, with servers that refuse, cut and lie; a real board is in tests/board."""

import io
import sys
from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest

from marketswarm.client import (
    NAME_CHARS,
    BoardUnreachableError,
    MarketClient,
    NotAllowedError,
    RequestRefusedError,
    TryLaterError,
    UnknownSymbolError,
    join_known,
    split_names,
)
from support.rig.process import HOST, free_port
from support.rig.receiver import Answer, Receiver

TOKEN = "kim"  # noqa: S105 - opens nothing
FRAME = pl.DataFrame({"symbol": ["SPY"], "close": [1.5]})


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


def open_client(receiver, **how):
    return MarketClient(f"http://{receiver.host}:{receiver.port}/", **how)


def make_stream(frame=FRAME):
    target = io.BytesIO()
    frame.write_ipc_stream(target, compat_level=pl.CompatLevel.oldest())
    return target.getvalue()


def ask(receiver, *answers, **how):
    """Ask a server that answers so for bars; return the frame."""
    receiver.script.extend(answers)
    with open_client(receiver, **how) as market:
        return market.bars("SPY", "1d", "2024-01-01", date(2024, 2, 1))


def test_a_frame_is_what_was_sent_and_the_request_says_what_was_asked(receiver):
    assert ask(receiver, Answer(body=make_stream()), token=TOKEN).equals(FRAME)
    (request,) = receiver.seen
    path, _, query = request.path.partition("?")
    assert path == "/api/v1/bars"
    assert set(query.split("&")) == {"symbols=SPY", "timeframe=1d", "from=2024-01-01", "to=2024-02-01"}
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["accept"] == "application/vnd.apache.arrow.stream"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Answer(404, body=b'{"detail":"the archive has no SPX"}'), UnknownSymbolError, "the archive"),
        (Answer(401, body=b"a token is needed\n"), NotAllowedError, "a token is needed"),
        (Answer(403, body=b'{"detail":5}'), NotAllowedError, "5"),
        (Answer(422, body=b'{"detail":"from: is not a time"}'), RequestRefusedError, "from: is not a time"),
        (Answer(500, body=b""), RequestRefusedError, "status 500"),
        (Answer(303, {"Location": "/sign-in"}, b"x" * 5000), RequestRefusedError, "x" * 1000),
        (Answer(429, {"Retry-After": "20"}, b'{"detail":"100 requests"}'), TryLaterError, "100 requests"),
    ],
)  # fmt: skip
def test_a_refusal_is_an_error_of_its_kind_in_the_words_of_the_board(receiver, answer, kind, words):
    with pytest.raises(RequestRefusedError) as refused:
        ask(receiver, answer)
    assert type(refused.value) is kind
    assert str(refused.value).startswith(words)
    assert len(str(refused.value)) <= 1000
    assert refused.value.status == answer.status
    if kind is TryLaterError:
        assert refused.value.retry_after_sec == 20.0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(body=make_stream()[:-8]), "broken"),  # whole by HTTP, and without the end of the stream
        (Answer(body=b""), "broken"),
        (Answer(body=b"x" * 3000), "too_long"),
        (Answer(reset=True), "broken"),
        (Answer(hang=True), "timeout"),
    ],
)
def test_what_is_not_a_whole_answer_is_never_a_frame(receiver, answer, reason):
    with pytest.raises(BoardUnreachableError) as found:
        ask(receiver, answer, max_bytes=2000, timeout_sec=0.3)
    assert found.value.reason == reason


def test_a_board_that_is_not_there_is_said():
    with (
        MarketClient(f"http://{HOST}:{free_port()}") as market,
        pytest.raises(BoardUnreachableError) as found,
    ):
        market.symbols()
    assert found.value.reason == "refused"


def test_more_symbols_than_a_request_takes_are_asked_for_in_several(receiver):
    names = [f"S{number:04}" for number in range(690)]
    parts = list(split_names(names))
    assert ",".join(parts).split(",") == names
    assert max(map(len, parts)) <= NAME_CHARS
    assert len(parts) == 3
    receiver.script.extend([Answer(body=make_stream())] * 3)
    with open_client(receiver) as market:
        assert market.features(names).height == 3
        with pytest.raises(ValueError, match="none is named"):
            market.features([])


def test_without_polars_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"marketswarm\[market\]"):
        MarketClient("http://127.0.0.1:8080")


def days(*texts):
    return [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in texts]


def make_table(symbols, starts, **columns):
    times = pl.Series("start", starts, dtype=pl.Datetime("ms", "UTC"))
    return pl.DataFrame({"symbol": symbols, "start": times, **columns})


def test_no_bar_sees_the_features_of_its_own_day():
    friday, monday = "2026-01-02T14:30", "2026-01-05T14:30"
    features = make_table(
        ["SPY", "SPY", "QQQ"], days(friday, monday, friday), ret_1=[0.1, 0.2, 0.3], rev=[7, 8, 9]
    )
    starts = days(friday, monday, "2026-01-05T20:00", "2026-01-06T14:29", "2026-01-06T14:30")
    bars = make_table(["SPY"] * 5, starts, rev=[0] * 5)
    found = join_known(bars.reverse(), features)
    assert found["start"].to_list() == starts
    assert found["ret_1"].to_list() == [None, 0.1, 0.1, 0.1, 0.2]
    assert found["start_features"].to_list() == [None, *days(friday, friday, friday, monday)]
    assert found["rev"].to_list() == [0] * 5


def test_what_says_when_it_was_known_is_known_from_then_on():
    (day,) = days("2026-01-05T14:30")
    (close,) = known_at = days("2026-01-05T21:00")
    features = make_table(["SPY", "QQQ"], [day, day], ret_1=[0.1, 0.2]).with_columns(
        known_at=pl.Series([*known_at, None], dtype=pl.Datetime("ms", "UTC"))
    )
    bars = make_table(["SPY", "SPY", "QQQ"], [close - timedelta(minutes=1), close, close])
    assert join_known(bars, features)["ret_1"].to_list() == [None, None, 0.1]


@pytest.mark.parametrize(
    ("tokyo", "new_york"),
    [("2026-01-05T00:00", "2026-01-05T21:00"), ("2026-07-06T00:00", "2026-07-06T20:00")],
)
def test_what_compares_markets_is_known_when_the_last_of_them_has_closed(tokyo, new_york):
    """New York closes 21 hours after Tokyo's day began."""
    features = make_table(["7203.T"], days(tokyo), breadth_up_1=[0.5])
    (closed,) = days(new_york)
    bars = make_table(["7203.T"] * 2, [closed - timedelta(minutes=1), days(tokyo)[0] + timedelta(days=1)])
    assert join_known(bars, features)["breadth_up_1"].to_list() == [None, 0.5]


def test_a_time_with_a_zone_is_sent_as_it_is(receiver):
    receiver.script.append(Answer(body=make_stream()))
    with open_client(receiver) as market:
        market.observations(start=datetime(2024, 1, 1, 9, tzinfo=timezone(timedelta(hours=2))), end="30d")
    assert receiver.seen[0].path == "/api/v1/observations?from=2024-01-01T09:00:00%2B02:00&to=30d"
