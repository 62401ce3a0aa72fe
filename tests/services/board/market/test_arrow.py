"""Arrow streams without a database: their pieces are one stream, and what fails is never taken for whole."""

import asyncio
import contextlib
import io
from datetime import UTC, date, datetime

import polars as pl
import pytest

from marketswarm.web.limits import RefusedError
from services.board.market import arrow_response
from services.board.market.archive_reader import STREAMS, TOO_BUSY, DatabaseAwayError
from services.board.market.arrow_batches import END, STREAM_TYPE, ArrowEncoder
from services.board.market.arrow_response import PER_ADDRESS, ArrowResponse, StreamPlaces
from services.board.market.many_rows import find_many_cursor, list_stream_columns, list_values
from services.board.market.query import QueryError, TableFormat, TableQuery
from services.tables.rows import ColumnType
from services.tables.tables import BAR_TABLE, FEATURE_TABLE

COLUMNS = {
    "symbol": ColumnType.TEXT,
    "start": ColumnType.TIME,
    "close": ColumnType.NUMBER,
    "trades": ColumnType.COUNT,
    "final": ColumnType.FLAG,
    "day": ColumnType.DATE,
}
ROWS = (
    b"SPY,1767623400000,0.1,7,true,2026-01-05\n",
    b'"a ""b"",\nc",-5,1e-07,,false,\n',
    b"EUR/USD,4102444800000,123456.789,0,true,2026-01-06\n",
)
READ = [
    ("SPY", datetime(2026, 1, 5, 14, 30, tzinfo=UTC), 0.1, 7, True, date(2026, 1, 5)),
    ('a "b",\nc', datetime(1969, 12, 31, 23, 59, 59, 995_000, tzinfo=UTC), 1e-07, None, False, None),
    ("EUR/USD", datetime(2100, 1, 1, tzinfo=UTC), 123456.789, 0, True, date(2026, 1, 6)),
]


@pytest.mark.parametrize(
    ("pieces", "count"),
    [((b"",), 0), (ROWS[:1], 1), (ROWS, 3), ((b"".join(ROWS),), 3), ((b"", ROWS[0], b"", *ROWS[1:]), 3)],
)
def test_the_pieces_are_one_stream_with_every_row_and_type(pieces, count):
    encoder = ArrowEncoder(COLUMNS)
    frame = pl.read_ipc_stream(
        io.BytesIO(b"".join(encoder.encode(encoder.parse(piece)) for piece in pieces) + END)
    )
    assert frame.rows() == READ[:count]
    assert frame.schema == {
        "symbol": pl.String(), "start": pl.Datetime("ms", "UTC"), "close": pl.Float64(), "trades": pl.Int64(),
        "final": pl.Boolean(), "day": pl.Date(),
    }  # fmt: skip


class Connection:
    """A client's end: what it was sent; it stays until it is told to go."""

    def __init__(self):
        self.sent, self.is_gone = [], asyncio.Event()

    async def receive(self):
        await self.is_gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    @property
    def body(self):
        return b"".join(each.get("body", b"") for each in self.sent)

    @property
    def is_whole(self):
        return bool(self.sent) and not self.sent[-1].get("more_body", True)


async def test_a_head_of_a_stream_runs_no_statement_and_takes_no_place():
    connection = Connection()
    places = StreamPlaces()
    response = ArrowResponse(refuse, COLUMNS, places.take("a"), {})
    await response({"type": "http", "is_head": True}, connection.receive, connection.send)
    assert connection.sent[0]["status"] == 200
    assert dict(connection.sent[0]["headers"])[b"content-type"].decode() == STREAM_TYPE
    assert (connection.is_whole, connection.body, len(places)) == (True, b"", 0)


async def refuse(_take_rows):
    raise AssertionError("the statement of a HEAD was run")


async def answer(copy_rows, connection=None, place=None):
    """Answer with what `copy_rows` passes on; return the client's end."""
    connection = connection or Connection()
    response = ArrowResponse(copy_rows, COLUMNS, place or contextlib.nullcontext(), {"X-Left": "3"})
    await response({"type": "http"}, connection.receive, connection.send)
    return connection


async def test_rows_are_sent_in_pieces_of_bounded_size(monkeypatch):
    monkeypatch.setattr(arrow_response, "PIECE_BYTES", 100)

    async def copy_rows(take_rows):
        for _ in range(50):
            await take_rows(ROWS[0])

    connection = await answer(copy_rows)
    head = {name.decode(): value.decode() for name, value in connection.sent[0]["headers"]}
    assert (head["content-type"], head["x-left"], head["cache-control"]) == (STREAM_TYPE, "3", "no-store")
    assert connection.is_whole
    assert pl.read_ipc_stream(io.BytesIO(connection.body)).rows() == READ[:1] * 50
    pieces = connection.sent[1:-1]
    assert len(pieces) == 50 * len(ROWS[0]) // 120 + 1, "three rows each, and the rest"


async def test_rows_that_come_slowly_are_sent_all_the_same(monkeypatch):
    monkeypatch.setattr(arrow_response, "PIECE_SEC", 0.0)
    connection = Connection()

    async def copy_rows(take_rows):
        await take_rows(ROWS[0])
        assert len(connection.sent) == 2

    assert (await answer(copy_rows, connection)).is_whole


async def test_what_fails_before_the_first_row_is_an_answer_and_later_a_stream_without_end(monkeypatch):
    async def fail_first(_take_rows):
        raise DatabaseAwayError("gone")

    connection = Connection()
    with pytest.raises(DatabaseAwayError, match="gone"):
        await answer(fail_first, connection)
    assert connection.sent == []
    monkeypatch.setattr(arrow_response, "PIECE_BYTES", 1)

    async def fail_later(take_rows):
        await take_rows(ROWS[0])
        raise DatabaseAwayError("gone")

    connection = await answer(fail_later)
    assert (len(connection.sent), connection.is_whole) == (2, False)
    assert not connection.body.endswith(END)


@pytest.mark.parametrize("name", ["FIRST_SEC", "STREAM_SEC"])
async def test_a_database_that_takes_too_long_is_not_waited_for(monkeypatch, name):
    monkeypatch.setattr(arrow_response, name, 0.02)
    monkeypatch.setattr(arrow_response, "PIECE_BYTES", 1)
    ended = []

    async def copy_rows(take_rows):
        if name == "STREAM_SEC":
            await take_rows(ROWS[0])
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    if name == "FIRST_SEC":
        with pytest.raises(DatabaseAwayError, match=TOO_BUSY):
            await answer(copy_rows)
    else:
        assert not (await answer(copy_rows)).is_whole
    assert ended == [name]


async def test_when_the_client_is_gone_nothing_more_is_read_and_its_place_is_free(monkeypatch):
    monkeypatch.setattr(arrow_response, "FIRST_SEC", 3600.0)  # it is not this that ends it
    places, connection, ended = StreamPlaces(), Connection(), []

    async def copy_rows(_take_rows):
        connection.is_gone.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(len(places))

    async with asyncio.timeout(60):
        await answer(copy_rows, connection, places.take("a"))
    assert (ended, len(places), connection.sent) == ([1], 0, [])


def test_so_many_streams_are_open_at_once_and_so_many_of_one_address():
    places = StreamPlaces()
    with contextlib.ExitStack() as held:
        for _ in range(PER_ADDRESS):
            held.enter_context(places.take("a"))
        with pytest.raises(RefusedError) as refused:
            held.enter_context(places.take("a"))
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "5")
        for number in range(STREAMS - PER_ADDRESS):
            held.enter_context(places.take(f"b{number}"))
        with pytest.raises(RefusedError) as refused:
            held.enter_context(places.take("c"))
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "5")
    assert len(places) == 0
    with places.take("a"):
        assert len(places) == 1


def test_a_page_begins_after_the_last_row_of_the_page_before():
    query = TableQuery(from_ms=10, to_ms=90, limit=2)
    assert list_values(["A", "B", "C"], query, "1d") == [["A", "B", "C"], [10, 10, 10], 90, 2, "1d"]
    cursor = find_many_cursor([("A", 80), ("B", 20)], query)
    following = TableQuery(from_ms=10, to_ms=90, limit=2, cursor=cursor)
    assert list_values(["A", "B", "C"], following, None) == [["B", "C"], [21, 10], 90, 2]
    assert find_many_cursor([("A", 80)], query) is None
    past = TableQuery(from_ms=10, to_ms=90, limit=2, as_of_ms=85)
    assert list_values(["A"], past, "1d")[4:] == ["1d", 85]
    assert list_values(["A"], past, None)[4:] == [85]
    stream = TableQuery(from_ms=10, limit=2, format=TableFormat.ARROW)
    assert list_values(["A"], stream, None) == [["A"], [10], None, None], "a stream has no pages"


@pytest.mark.parametrize("cursor", ["A", "D,5", "A,x", "\0,5", "A,", ",5"])
def test_a_cursor_that_no_page_gave_is_refused(cursor):
    with pytest.raises(QueryError, match="cursor"):
        list_values(["A", "B"], TableQuery(cursor=cursor), None)


def test_each_value_has_a_column_of_its_own():
    columns = list_stream_columns(FEATURE_TABLE)
    assert list(columns)[:3] == ["symbol", "start", "rev"]
    assert columns["ret_1"] is ColumnType.NUMBER
    assert list(columns)[-1] == "other_values"
    assert "values" not in columns
    assert list(list_stream_columns(BAR_TABLE))[1:] == list(BAR_TABLE.answered)
