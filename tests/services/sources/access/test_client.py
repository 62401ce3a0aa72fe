"""Asking a source over HTTP, of a real server that answers as it likes."""

import asyncio
import errno
import gzip
import time
from dataclasses import replace
from datetime import UTC, date, datetime

import anyio
import orjson
import pytest
from structlog.testing import capture_logs

from marketswarm.tasks import end_tasks
from services.market.records import ActionKind, AssetClass, Bar, CorporateAction, RecordKind, VolumeKind
from services.sources.access import client as module
from services.sources.catalog.answer import AnswerStatus, Misfit
from services.sources.catalog.request import Question
from support.rig import free_port
from support.rig.receiver import Answer
from support.scenes.source_client import (
    BY_KEY,
    KEY,
    START,
    Account,
    hours_of,
    make_source,
    question,
    row,
    rows,
)
from support.waiting import auntil


async def test_an_answer_has_its_records_and_where_they_are_from(ask, site):
    account, begun = Account(), time.time()
    answer = await ask(account=account)
    assert (answer.source, answer.outcome, len(answer.records)) == ("example", AnswerStatus.OK, 4)
    assert answer.records[1] == Bar("AAPL", "1h", round(1000 * START.timestamp()) + 3_600_000, 1, 3, 0.5, 2)
    assert begun <= answer.asked_at <= time.time()
    assert len(answer.digest) == 64
    assert account.taken == [(None, ((60, 60),))]
    assert account.outcomes == ["ok"]
    [request] = site.seen
    assert request.path == f"/bars/AAPL?from={START.timestamp():.0f}&to={START.timestamp() + 14400:.0f}"
    assert request.headers["user-agent"].startswith("marketswarm-sources/")


@pytest.mark.parametrize(
    ("endpoint", "kind"),
    [
        ({}, VolumeKind.NONE),  # it has no volume
        ({"fields": {"volume": {"path": "[4]"}}}, VolumeKind.CONSOLIDATED),
        ({"fields": {"volume": {"path": "[4]"}}, "volume": "venue"}, VolumeKind.VENUE),
    ],
)
async def test_an_answer_says_whose_volume_its_bars_have_by_the_file_of_its_source(ask, endpoint, kind):
    usual = make_source().serves["bars"].fields
    fields = {name: rule.model_dump() for name, rule in usual.items()} | endpoint.pop("fields", {})
    assert (await ask(make_source(**endpoint, fields=fields))).volume_kind is kind


async def test_rows_that_do_not_fit_are_named_and_the_others_are_kept(ask, site):
    site.always = Answer(200, {}, orjson.dumps({"rows": [row(0), [*row(1)[:1], "x", 1, 1, 1], row(2)]}))
    answer = await ask()
    assert (answer.outcome, len(answer.records)) == (AnswerStatus.OK, 2)
    assert answer.misfits == (Misfit(1, "open", "'x' is not a number"),)


async def test_what_was_not_asked_is_left_out_and_what_came_twice_is_there_once(ask, site):
    site.always = rows(9, 3, 1, 1, 0, -1, 4)
    answer = await ask()
    assert hours_of(answer) == [0, 1, 3]
    site.always = rows(9)
    answer = await ask()
    assert (answer.outcome, answer.reason) == (AnswerStatus.EMPTY, "nothing of that time")


async def test_pages_are_followed_to_the_last_by_token_and_by_address(ask, site):
    pages = {"": rows(0, next="p2"), "p2": rows(1, next="p3"), "p3": rows(2)}
    site.choose = lambda asked: pages[asked.path.partition("page=")[2]]
    answer = await ask(make_source(paging={"next": "next", "param": "page"}))
    assert (answer.outcome, len(answer.records), len(site.seen)) == (AnswerStatus.OK, 3, 3)
    site.choose = None
    site.script += [rows(0, next="https://api.example.org/more?cursor=2"), rows(1)]
    answer = await ask(
        make_source(paging={"next": "next"}, auth=BY_KEY),
        keys=(KEY,),
    )
    assert len(answer.records) == 2
    assert site.seen[-1].path == "/more?cursor=2&key=the-key"


async def test_a_source_whose_pages_have_no_end_is_given_up(ask, site):
    site.always = rows(0, next="again")
    answer = await ask(make_source(paging={"next": "next", "param": "page", "max_pages": 3}))
    assert (answer.outcome, answer.reason, answer.records) == (AnswerStatus.FAILED, "too_many_pages", ())
    assert len(site.seen) == 3


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("https://[", "redirected"),
        ("https://api.example.org\u2100/", "redirected"),
        ("https://api.example.org:x/", "redirected"),
        ("HTTPS://api.example.org/more", "redirected"),
        ("https://api.example.org/\x01", "bad_url"),
        ("https://api.example.org/" + "a" * 70_000, "the next page's address is too long"),
    ],
)
async def test_a_next_page_whose_address_is_none_is_a_failure(ask, site, address, reason):
    site.always, account = rows(0, next=address), Account()
    answer = await ask(make_source(paging={"next": "next"}), account)
    assert (answer.outcome, answer.reason, account.outcomes) == (AnswerStatus.FAILED, reason, ["fail"])


@pytest.mark.parametrize("reader", ["read_page", "read_refusal"])
async def test_an_error_that_nobody_foresaw_in_a_document_is_a_failure_and_in_the_log(
    ask, site, monkeypatch, reader
):
    def read(*_args, key):
        raise KeyError(key.key)

    monkeypatch.setattr(module, reader, read)
    site.always = Answer(200 if reader == "read_page" else 500, {}, b"{}")
    account = Account()
    with capture_logs() as logged:
        answer = await ask(make_source(auth=BY_KEY), account, (KEY,))
    assert (answer.outcome, answer.reason, account.outcomes) == (AnswerStatus.FAILED, "malformed", ["fail"])
    [line] = logged
    assert (line["event"], line["source"]) == ("source.malformed", "example")
    assert "KeyError: 'KEY'" in line["exception"]


@pytest.mark.parametrize(
    ("how", "outcome", "reason"),
    [
        ({"source": make_source(auth=BY_KEY)}, AnswerStatus.FAILED, "no_key"),
        ({"question": replace(question(), asset=AssetClass.CRYPTO)}, AnswerStatus.FAILED, "not_served"),
        ({"account": Account(open_sec=9.0)}, AnswerStatus.FAILED, "breaker_open"),
        ({"deadline": 0.0}, AnswerStatus.LIMITED, "no_time"),
    ],
)
async def test_a_source_that_may_not_be_asked_gets_no_request_and_has_not_failed(
    ask, site, how, outcome, reason
):
    account = how.get("account", Account())
    answer = await ask(**how | {"account": account})
    assert (answer.outcome, answer.reason, answer.wait_sec) == (outcome, reason, account.open_sec)
    assert (account.taken, account.outcomes, site.seen) == ([], [], [])


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (Answer(500), AnswerStatus.FAILED, "500"),
        (Answer(403), AnswerStatus.FAILED, "403"),
        (Answer(204), AnswerStatus.EMPTY, "204"),
        (Answer(404), AnswerStatus.EMPTY, "404"),
        (Answer(400), AnswerStatus.REFUSED, "400"),
        (Answer(410, body=b"<html>"), AnswerStatus.REFUSED, "410"),
        (Answer(401), AnswerStatus.FAILED, "401"),
        (Answer(400, body=b'{"key": "bad"}'), AnswerStatus.FAILED, "bad"),
        (Answer(500, body=b'{"gone": "no AAPL"}'), AnswerStatus.REFUSED, "no AAPL"),
        (Answer(200, body=b"<html>"), AnswerStatus.FAILED, "no json"),
        (Answer(200, body=b'{"rows": []}'), AnswerStatus.EMPTY, "no rows"),
        (Answer(200, body=b'{"rows": [["x", 1, 1, 1, 1]]}'), AnswerStatus.FAILED, "no row fits"),
        (Answer(200, reset=True), AnswerStatus.FAILED, "broken"),
        (Answer(200, {"Content-Encoding": "br"}, b"x"), AnswerStatus.FAILED, "bad_encoding"),
        (Answer(200, {"Content-Encoding": "gzip"}, b"x"), AnswerStatus.FAILED, "bad_encoding"),
    ],
)
async def test_each_answer_that_is_none_has_its_outcome_and_a_reason(ask, site, answer, outcome, reason):
    site.always, account, seen = answer, Account(), []
    signs = {"unknown": ["gone"], "denied": ["key"]}
    found = await ask(make_source(empty_status=[404], signs=signs), account, seen=seen)
    assert found.outcome is outcome
    assert found.reason
    assert reason in found.reason
    assert found.records == ()
    assert account.outcomes == (["fail"] if outcome is AnswerStatus.FAILED else ["ok"])
    assert len(seen) == 1


async def test_questions_that_are_not_in_the_plan_of_a_key_close_no_breaker(ask, site):
    site.always, account = Answer(403, body=b'{"message": "available starting with Pro"}'), Account()
    answers = [await ask(make_source(auth=BY_KEY), account, (KEY,)) for _ in range(3)]
    assert {(each.outcome, each.reason) for each in answers} == {(AnswerStatus.REFUSED, "403")}
    assert account.outcomes == ["ok"] * 3


async def test_a_port_where_nobody_listens_is_a_failure_with_its_reason(ask):
    answer = await ask(port=free_port())
    assert (answer.outcome, answer.reason) == (AnswerStatus.FAILED, "refused")


async def test_without_a_file_descriptor_no_source_is_at_fault(ask, monkeypatch):
    async def fail(*_args, **_more):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(anyio, "connect_tcp", fail)
    account, seen = Account(), []
    answer = await ask(account=account, seen=seen)
    assert (answer.outcome, answer.reason, answer.wait_sec) == (AnswerStatus.LIMITED, "no_resources", 60.0)
    assert (account.outcomes, seen) == ([], []), "five that are limited would be an outage of the source"


@pytest.mark.parametrize("packed", [False, True])
async def test_an_answer_that_is_too_long_is_given_up(ask, site, packed):
    body = b" " * 200_000 + orjson.dumps({"rows": [row(0)]})
    site.always = (
        Answer(200, {"Content-Encoding": "gzip"}, gzip.compress(body)) if packed else Answer(200, {}, body)
    )
    answer = await ask(make_source(max_bytes=100_000))
    assert (answer.outcome, answer.reason) == (AnswerStatus.FAILED, "too_long")
    assert (await ask(make_source(max_bytes=300_000))).outcome is AnswerStatus.OK


async def test_an_answer_that_never_ends_is_given_up(ask, site, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_SEC", 0.5)
    site.always = Answer(200, drip=True)
    answer = await ask()
    assert (answer.outcome, answer.reason) == (AnswerStatus.FAILED, "timeout")


async def test_packed_answers_are_read(ask, site):
    packed = gzip.compress(orjson.dumps({"rows": [row(0)]}))
    site.always = Answer(200, {"Content-Encoding": "gzip"}, packed)
    assert (await ask()).outcome is AnswerStatus.OK
    assert site.seen[0].headers["accept-encoding"] == "gzip"


def make_source_of_actions():
    """A source that has splits and dividends in two places."""
    endpoint = {
        "kind": "actions",
        "assets": ["stocks"],
        "timeframes": {},
        "adjustment": None,
        "path": "/splits/{symbol}",
        "params": {},
        "fields": {"ex_day": {"path": "day", "format": "period"}, "ratio": {"path": "ratio"}},
    }
    source = make_source(**endpoint)
    bars = source.serves["bars"]
    fields = {
        "ex_day": bars.fields["ex_day"],
        "amount": bars.fields["ratio"].model_copy(update={"path": "amount"}),
    }
    dividends = bars.model_copy(update={"path": "/div/{symbol}", "fields": fields, "min_interval_sec": 60.0})
    return source.model_copy(update={"serves": {"splits": bars, "dividends": dividends}})


OF_ACTIONS = {
    "question": Question(
        "AAPL",
        AssetClass.STOCKS,
        RecordKind.ACTIONS,
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2021, 1, 1, tzinfo=UTC),
    )
}
SPLITS = Answer(200, {}, b'{"rows": [{"day": "2020-08-31", "ratio": 4}, {"day": "2021-08-31", "ratio": 2}]}')
DIVIDENDS = Answer(
    200, {}, b'{"rows": [{"day": "2020-08-07", "amount": 0.82}, {"day": "2019-08-09", "amount": 1}]}'
)


async def test_splits_and_dividends_from_two_places_are_one_answer(ask, site):
    site.script += [SPLITS, DIVIDENDS]
    answer = await ask(make_source_of_actions(), **OF_ACTIONS)
    assert answer.records == (
        CorporateAction("AAPL", ActionKind.DIVIDEND, date(2020, 8, 7), amount=0.82),
        CorporateAction("AAPL", ActionKind.SPLIT, date(2020, 8, 31), ratio=4.0),
    )
    assert [each.path for each in site.seen] == ["/splits/AAPL", "/div/AAPL"]
    assert (answer.outcome, answer.since_ms, answer.min_interval_sec) == (
        AnswerStatus.OK,
        1_577_836_800_000,
        60.0,
    )


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([Answer(200, {}, b'{"rows": []}'), DIVIDENDS], AnswerStatus.OK),
        ([SPLITS, Answer(200, {}, b'{"rows": []}')], AnswerStatus.OK),
        ([Answer(200, {}, b'{"rows": []}')] * 2, AnswerStatus.EMPTY),
        ([SPLITS, Answer(500, {}, b"")], AnswerStatus.FAILED),
        ([SPLITS, Answer(404, {}, b"")], AnswerStatus.REFUSED),
        ([SPLITS, Answer(429, {}, b"")], AnswerStatus.LIMITED),
        ([Answer(404, {}, b""), DIVIDENDS], AnswerStatus.REFUSED),
    ],
)
async def test_dividends_without_the_splits_are_no_answer(ask, site, answers, outcome):
    site.script += answers
    answer = await ask(make_source_of_actions(), **OF_ACTIONS)
    assert answer.outcome is outcome
    assert bool(answer.records) is (outcome is AnswerStatus.OK)


@pytest.mark.parametrize("status", [403, 404, 429, 500])
async def test_an_optional_question_without_an_answer_costs_only_what_it_has(ask, site, status):
    source = make_source_of_actions()
    optional = source.serves["dividends"].model_copy(update={"optional": True})
    source = source.model_copy(update={"serves": {**source.serves, "dividends": optional}})
    site.script += [SPLITS, Answer(status, {}, b"")]
    answer = await ask(source, **OF_ACTIONS)
    assert [each.kind for each in answer.records] == [ActionKind.SPLIT]
    assert (answer.outcome, answer.lacks_optional) == (AnswerStatus.OK, True)
    site.script += [SPLITS, DIVIDENDS]
    answer = await ask(source, **OF_ACTIONS)
    assert (len(answer.records), answer.lacks_optional) == (2, False)


@pytest.mark.parametrize("status", [500, 503])
async def test_a_request_that_the_server_failed_is_sent_again_as_often_as_the_truth_says(
    ask, site, monkeypatch, status
):
    monkeypatch.setattr(module, "RETRY_SEC", 0.0)
    site.script.extend([Answer(status), Answer(status)])
    account = Account()
    answer = await ask(account=account, retries=2)
    assert (answer.outcome, len(site.seen), len(account.taken)) == (AnswerStatus.OK, 3, 3)
    site.script.extend([Answer(status), Answer(status)])
    answer = await ask(retries=1)
    assert (answer.outcome, answer.reason, len(site.seen)) == (AnswerStatus.FAILED, str(status), 5)


async def test_what_is_no_passing_failure_is_not_sent_again(ask, site, monkeypatch):
    monkeypatch.setattr(module, "RETRY_SEC", 0.0)
    site.always = Answer(200, {}, b"[]")
    assert (await ask(retries=3)).outcome is AnswerStatus.FAILED
    site.always = Answer(404)
    assert (await ask(retries=3)).outcome is AnswerStatus.REFUSED
    assert len(site.seen) == 2


@pytest.mark.parametrize(
    "answer", [Answer(hang=True), Answer(429, body=b"no")], ids=["unanswered", "answered"]
)
async def test_a_request_that_is_broken_off_is_reported_once_with_what_came_of_it(ask, site, answer):
    is_read = asyncio.Event()

    class SlowAccount(Account):
        async def block(self, *_args):
            is_read.set()
            await anyio.sleep_forever()

    site.always, seen = answer, []
    asking = asyncio.create_task(ask(seen=seen, account=SlowAccount()))
    await auntil(lambda: site.seen and (answer.hang or is_read.is_set()), what="a request, and its answer")
    await end_tasks(asking)
    assert [(each.status, each.outcome, each.reason) for each in seen] == [
        (answer.accepts, AnswerStatus.FAILED, "cancelled")
    ]
