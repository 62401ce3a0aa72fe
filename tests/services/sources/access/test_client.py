"""Asking a source over HTTP, of a real server that answers as it likes."""

import asyncio
import gzip
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from structlog.testing import capture_logs

from marketswarm.bus import BusError
from services.market.records import AssetClass, Bar, RecordKind
from services.sources.access import client as module
from services.sources.access.circuit_breaker import BreakerReading, BreakerState
from services.sources.access.client import AskContext, SourceClient
from services.sources.access.rate_limiter import Permission
from services.sources.catalog.answer import AnswerStatus, Misfit
from services.sources.catalog.request import ApiKey, Question
from services.sources.catalog.source import MarketSource
from support.rig import free_port
from support.rig.receiver import Answer, Receiver

START = datetime(2026, 11, 2, tzinfo=UTC)
KEY = ApiKey("the-key", "the-secret")
BY_KEY = {"place": "query", "name": "key", "env": "EXAMPLE_KEY"}
TWO_HEADERS = {"place": "header", "name": "X-Key", "secret_name": "X-Secret", "secret_env": "SECRET"}


def make_source(*, auth=None, limits=None, **endpoint):
    """A source of hourly bars, one row an hour, whose file says what is given."""
    fields = {name: {"path": f"[{at}]"} for at, name in enumerate(("open", "high", "low", "close"), 1)}
    bars = {
        "kind": "bars",
        "assets": ["stocks"],
        "timeframes": {"1h": "60"},
        "path": "/bars/{symbol}",
        "params": {"from": "{start:epoch_s}", "to": "{end:epoch_s}"},
        "records": "rows",
        "fields": {"start": {"path": "[0]", "format": "epoch_s"}, **fields},
        **endpoint,
    }
    return MarketSource.model_validate(
        {
            "name": "example",
            "title": "Example",
            "docs": ["https://example.org/"],
            "base_url": "https://api.example.org",
            "auth": auth or {"place": "none"},
            "limits": limits or {"per_minute": 60},
            "serves": {"bars": bars},
        }
    )


def question(hours=4):
    return Question("AAPL", AssetClass.STOCKS, RecordKind.BARS, START, START + timedelta(hours=hours), "1h")


def row(hour):
    return [int(START.timestamp()) + 3600 * hour, 1, 3, 0.5, 2]


def hours_of(answer):
    return [each.start_ms // 3_600_000 % 24 for each in answer.records]


def rows(*hours, **more):
    return Answer(
        200, {"Content-Type": "application/json"}, orjson.dumps({"rows": [*map(row, hours)], **more})
    )


class Account:
    """Stands for limiter and breaker; `waits` are the seconds of requests that are not granted at once."""

    def __init__(self, *waits, open_sec=0.0):
        self.waits, self.open_sec = list(waits), open_sec
        self.taken, self.blocked, self.outcomes = [], [], []

    async def take(self, key, windows):
        self.taken.append((key, tuple(windows)))
        wait_sec = self.waits.pop(0) if self.waits else 0.0
        return Permission(wait_sec, "limited" if wait_sec else "")

    async def count_left(self, _key, windows, _waited_for_sec=0.0):
        return [count for _, count in windows]

    async def block(self, key, sec, _windows):
        self.blocked.append((key, sec))

    async def ask(self):
        return BreakerReading(BreakerState.OPEN if self.open_sec else BreakerState.CLOSED, self.open_sec)

    async def record_success(self):
        self.outcomes.append("ok")

    async def record_failure(self, *, is_trial=False):
        self.outcomes.append("failed trial" if is_trial else "fail")


@pytest.fixture
def site():
    with Receiver() as site:
        site.always = rows(0, 1, 2, 3)
        yield site


@pytest.fixture
async def ask(site):
    """Asks a source that is found at `site`."""

    async def ask_source(source=None, account=None, keys=(), port=site.port, seen=None, **more):
        source = source or make_source()
        where, known = {"example": f"http://127.0.0.1:{port}"}, {"example": keys} if keys else {}
        async with SourceClient(known, where, None if seen is None else seen.append) as client:
            account, asked = account or Account(), more.pop("question", question())
            return await client.ask(source, asked, account, AskContext(account, **more))

    return ask_source


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


async def test_rows_that_do_not_fit_are_named_and_the_others_are_kept(ask, site):
    site.always = Answer(200, {}, orjson.dumps({"rows": [row(0), [*row(1)[:1], "x", 1, 1, 1], row(2)]}))
    answer = await ask()
    assert (answer.outcome, len(answer.records)) == (AnswerStatus.OK, 2)
    assert answer.misfits == (Misfit(1, "open", "'x' is not a number"),)


async def test_a_long_question_is_asked_in_parts_and_each_part_takes_a_request(ask, site):
    site.choose = lambda asked: rows(int(asked.path.split("from=")[1].split("&")[0]) % 86_400 // 3600)
    account = Account()
    answer = await ask(make_source(limit=1), account, question=question(3))
    assert hours_of(answer) == [0, 1, 2]
    assert len(account.taken) == len(site.seen) == 3
    assert answer.parts_left == 0


class ScarceAccount(Account):
    """Has so many requests left, in one window of so many seconds."""

    def __init__(self, left, sec):
        super().__init__()
        self.left, self.sec = left, sec

    async def count_left(self, _key, _windows, waited_for_sec=0.0):
        return [0 if sum(self.waits) > waited_for_sec else self.left]


def answer_parts(site):
    """Answer each part with the bar of its first hour; return the hours that are asked for, in order."""
    hours = []

    def choose(request):
        hours.append(int(request.path.split("from=")[1].split("&")[0]) % 86_400 // 3600)
        return rows(hours[-1])

    site.choose = choose
    return hours


@pytest.mark.parametrize(
    ("limits", "left", "asked"),
    [
        ({"per_minute": 3}, 3, [9, 8, 7]),
        ({"per_month": 100}, 6, [9, 8, 7]),  # others need some, too, and so does this series tomorrow
        ({"per_month": 100}, 0, [9]),
        ({"per_second": 1}, 0, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),  # it is waited for
    ],
)
async def test_a_history_that_the_limits_do_not_allow_is_shorter(ask, site, limits, left, asked):
    hours, account = answer_parts(site), ScarceAccount(left, 0)
    answer = await ask(make_source(limits=limits, limit=1), account, question=question(10))
    assert hours == asked
    assert (answer.outcome, answer.parts_left) == (AnswerStatus.OK, 10 - len(asked))
    assert hours_of(answer) == asked[::-1]


async def test_a_pause_that_the_first_part_waits_for_makes_no_history_shorter(ask, site):
    """While it lasts no request may be sent; but all that may be sent after it count."""
    hours, account = answer_parts(site), ScarceAccount(4, 60)
    account.waits = [0.1]
    answer = await ask(make_source(limit=1), account, question=question(3), patience_sec=1.0)
    assert (hours, answer.parts_left) == ([2, 1, 0], 0)


class PausedAccount(Account):
    """Grants none of a key's requests while the source wants a pause, as the limiter on the bus does."""

    def __init__(self):
        super().__init__()
        self.pauses = []

    async def take(self, key, windows):
        await super().take(key, windows)
        until = max((begun + sec for each, begun, sec in self.pauses if each == key), default=0.0)
        wait_sec = max(0.0, until - time.monotonic())
        return Permission(wait_sec, "limited" if wait_sec else "")

    async def block(self, key, sec, windows):
        await super().block(key, sec, windows)
        self.pauses.append((key, time.monotonic(), sec))


async def test_what_came_before_the_limits_were_used_up_is_kept(ask, site):
    """Others sent requests meanwhile; and the last part, of which a page is missing, is no part."""
    site.script += [rows(3), rows(2, next="p2"), Answer(429, {"Retry-After": "3600"})]
    account = PausedAccount()
    answer = await ask(make_source(limit=1, paging={"next": "next", "param": "page"}), account)
    assert (answer.outcome, answer.parts_left) == (AnswerStatus.OK, 3)
    assert hours_of(answer) == [3]
    assert account.blocked == [(None, 3600.0)]
    assert account.outcomes == ["ok"]


@pytest.mark.parametrize(("pauses", "hours"), [(1, [0, 1, 2]), (3, [0, 1, 2]), (4, [2])])
async def test_once_a_part_came_short_pauses_that_the_source_asks_for_are_waited_out(
    ask, site, monkeypatch, pauses, hours
):
    """What comes next is older; but a source that goes on like that is left alone."""
    monkeypatch.setattr(module, "SHORTEST_BLOCK_SEC", 0.01)
    pause = Answer(429, {"Retry-After": "0"})
    site.script += [rows(2), *[pause] * pauses, rows(1), rows(0)]
    answer = await ask(make_source(limit=1), PausedAccount(), question=question(3))
    assert (answer.outcome, hours_of(answer)) == (AnswerStatus.OK, hours)
    assert answer.parts_left == 3 - len(hours)
    assert len(site.seen) == 1 + min(pauses, 4) + len(hours) - 1


async def test_before_a_part_came_no_pause_is_waited_out(ask, site):
    site.script.append(Answer(429, {"Retry-After": "1"}))
    answer = await ask(make_source(limit=1), PausedAccount(), question=question(3))
    assert (answer.outcome, answer.wait_sec, len(site.seen)) == (AnswerStatus.LIMITED, 1.0, 1)


async def test_once_a_part_came_the_next_one_waits_for_longer(ask, site):
    answer_parts(site)
    answer = await ask(make_source(limit=1), Account(0.0, 0.3, 0.3), question=question(3), patience_sec=0.1)
    assert (answer.outcome, len(answer.records)) == (AnswerStatus.OK, 3)
    answer = await ask(make_source(limit=1), Account(0.3), question=question(3), patience_sec=0.1)
    assert (answer.outcome, answer.reason) == (AnswerStatus.LIMITED, "limited")


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


async def test_no_key_goes_to_another_host(ask, site):
    with Receiver() as other:
        source = make_source(paging={"next": "next"}, auth={"place": "bearer", "env": "EXAMPLE_KEY"})
        site.script.append(rows(0, next=f"http://127.0.0.1:{other.port}/more"))
        answer = await ask(source, keys=(KEY,))
        assert (answer.outcome, answer.reason, answer.records) == (AnswerStatus.FAILED, "redirected", ())
        site.script.append(Answer(302, {"Location": f"http://127.0.0.1:{other.port}/"}))
        answer = await ask(source, keys=(KEY,))
        assert (answer.outcome, answer.reason) == (AnswerStatus.FAILED, "302")
        assert other.seen == []


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


async def test_a_key_that_no_header_can_have_is_a_failure_of_its_source(ask, site):
    source = make_source(auth={"place": "bearer", "env": "EXAMPLE_KEY"})
    answer = await ask(source, keys=(ApiKey("kéy\u2028"),))
    assert (answer.outcome, site.seen) == (AnswerStatus.FAILED, [])


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
    ("auth", "where", "sent"),
    [
        ({"place": "query", "name": "apikey"}, "path", "apikey=the-key"),
        ({"place": "header", "name": "X-Key", "prefix": "Token "}, "x-key", "Token the-key"),
        (TWO_HEADERS, "x-secret", "the-secret"),
        ({"place": "bearer"}, "authorization", "Bearer the-key"),
        ({"place": "basic"}, "authorization", "Basic dGhlLWtleTp0aGUtc2VjcmV0"),
    ],
)
async def test_a_key_is_sent_where_the_source_wants_it_and_told_to_nobody(ask, site, auth, where, sent):
    seen = []
    answer = await ask(make_source(auth=auth | {"env": "EXAMPLE_KEY"}), keys=(KEY,), seen=seen)
    assert answer.outcome is AnswerStatus.OK
    [request] = site.seen
    assert sent in (request.path if where == "path" else request.headers[where])
    told = f"{answer!r} {seen!r}"
    assert "the-key" not in told
    assert "the-secret" not in told


async def test_several_keys_take_turns(ask, site):
    keys = (ApiKey("one"), ApiKey("two"))
    account = Account()
    source = make_source(limit=1, auth=BY_KEY)
    await ask(source, account, keys)
    assert [key.key for key, _ in account.taken] == ["one", "two", "one", "two"]


KEYS = (ApiKey("one"), ApiKey("two"), ApiKey("three"))


class KeyAccount(Account):
    """Has keys that must wait, each for so many seconds."""

    def __init__(self, **waits):
        super().__init__()
        self.by_key = waits

    async def take(self, key, windows):
        self.taken.append((key, tuple(windows)))
        wait_sec = self.by_key.get(key.key, 0.0)
        return Permission(wait_sec, "limited" if wait_sec else "")


def keys_of(site):
    return [request.path.partition("key=")[2] for request in site.seen]


async def test_while_a_key_is_used_up_the_others_are_sent(ask, site):
    account = KeyAccount(one=72_000.0, two=5.0)
    answer = await ask(make_source(limit=2, auth=BY_KEY), account, KEYS)
    assert (answer.outcome, keys_of(site)) == (AnswerStatus.OK, ["three", "three"])


async def test_when_all_keys_are_used_up_the_wait_is_the_shortest(ask, site):
    account = KeyAccount(one=72_000.0, two=5.0, three=900.0)
    answer = await ask(make_source(auth=BY_KEY), account, KEYS)
    assert (answer.outcome, answer.reason, answer.wait_sec) == (AnswerStatus.LIMITED, "limited", 5.0)
    assert site.seen == []


async def test_a_key_that_the_source_refuses_is_left_alone_and_the_next_one_is_sent(ask, site):
    site.script += [Answer(429, {"Retry-After": "3600"}), Answer(429, {"Retry-After": "60"})]
    account, seen = Account(), []
    answer = await ask(make_source(auth=BY_KEY), account, KEYS, seen=seen)
    assert (answer.outcome, keys_of(site)) == (AnswerStatus.OK, ["one", "two", "three"])
    assert account.blocked == [(KEYS[0], 3600.0), (KEYS[1], 60.0)]
    assert [each.outcome for each in seen] == ["limited", "limited", "ok"]
    site.always = Answer(429, {"Retry-After": "60"})
    site.script.append(Answer(429, {"Retry-After": "7"}))
    answer = await ask(make_source(auth=BY_KEY), account, KEYS)
    assert (answer.outcome, answer.wait_sec) == (AnswerStatus.LIMITED, 7.0)


async def test_what_a_refusal_repeats_of_the_key_is_hidden(ask, site):
    said = {"error": "the key the-key (the-secret) has no plan", "rows": []}
    site.always = Answer(200, {}, orjson.dumps(said))
    source = make_source(signs={"failed": ["error"]}, auth=BY_KEY)
    answer = await ask(source, keys=(KEY,))
    assert (answer.outcome, answer.reason) == (AnswerStatus.FAILED, "the key KEY (KEY) has no plan")


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


async def test_a_key_that_is_optional_is_not_needed(ask):
    assert (await ask(make_source(auth=BY_KEY | {"optional": True}))).outcome is AnswerStatus.OK


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


@pytest.mark.parametrize(
    ("headers", "wait_sec"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0"}, 1.0),
        ({"Retry-After": "Mon, 02 Nov 2026 00:00:00 GMT"}, 1.0),  # which is over
        ({}, module.LIMITED_SEC),
    ],
)
@pytest.mark.parametrize("status", [429, 418])
async def test_too_many_requests_are_no_failure_but_a_pause_for_everybody(
    ask, site, headers, wait_sec, status
):
    site.always, account = Answer(status, headers), Account()
    answer = await ask(account=account)
    assert (answer.outcome, answer.reason, answer.wait_sec) == (AnswerStatus.LIMITED, str(status), wait_sec)
    assert account.blocked == [(None, wait_sec)]
    assert account.outcomes == []


async def test_a_source_that_is_down_for_a_named_time_is_limited_and_else_it_has_failed(ask, site):
    site.always, account = Answer(503, {"Retry-After": "120"}), Account()
    answer = await ask(account=account)
    assert (answer.outcome, answer.reason, answer.wait_sec) == (AnswerStatus.LIMITED, "503", 120.0)
    assert (account.blocked, account.outcomes) == ([(None, 120.0)], [])
    site.always = Answer(503)
    answer = await ask(account=account)
    assert (answer.outcome, answer.reason, account.outcomes) == (AnswerStatus.FAILED, "503", ["fail"])


async def test_a_refused_request_is_reported_also_when_the_bus_cannot_be_told_of_the_pause(ask, site):
    class DeafAccount(Account):
        async def block(self, *_about):
            raise BusError("market-redis", "refused")

    site.always, seen = Answer(429), []
    with pytest.raises(BusError):
        await ask(account=DeafAccount(), seen=seen)
    assert [(each.status, each.outcome, each.reason) for each in seen] == [(429, AnswerStatus.LIMITED, "429")]


async def test_a_document_that_says_too_many_requests_is_the_same(ask, site):
    site.always, account = rows(note="call frequency"), Account()
    answer = await ask(make_source(signs={"limited": ["note"]}), account)
    assert (answer.outcome, answer.reason, account.outcomes) == (AnswerStatus.LIMITED, "call frequency", [])
    assert account.blocked == [(None, module.LIMITED_SEC)]


async def test_requests_that_wait_for_the_limits_are_let_go_in_the_order_in_which_they_came(site):
    """Without turns the second one would be let go while the first one waits."""
    calls = []

    class NamedAccount(Account):
        """Writes down who takes a request: the server sees two that are let go at once in any order."""

        def __init__(self, name, *waits):
            super().__init__(*waits)
            self.name = name

        async def take(self, key, windows):
            calls.append(self.name)
            return await super().take(key, windows)

    accounts = (NamedAccount("first", 0.05, 0.0), NamedAccount("second", 0.0))
    where = {"example": f"http://127.0.0.1:{site.port}"}
    async with SourceClient({}, where) as client:
        asks = (client.ask(make_source(), question(), each, AskContext(each, 5.0)) for each in accounts)
        answers = await asyncio.gather(*asks)
    assert {answer.outcome for answer in answers} == {AnswerStatus.OK}
    assert calls == ["first", "first", "second"]


async def test_what_others_wait_for_the_limits_is_no_failure_of_the_source(site, monkeypatch):
    """Whoever waits in the queue in vain takes no request out of what the limits allow, and sends none."""
    monkeypatch.setattr(module, "QUEUE_SEC", 0.1)
    is_waiting = asyncio.Event()

    class WaitingAccount(Account):
        async def take(self, key, windows):
            is_waiting.set()
            return await super().take(key, windows)

    patient, others = WaitingAccount(1.5), [Account() for _ in range(3)]
    async with SourceClient({}, {"example": f"http://127.0.0.1:{site.port}"}) as client:

        async def ask(account, **how):
            return await client.ask(make_source(), question(), account, AskContext(account, **how))

        first = asyncio.create_task(ask(patient, patience_sec=60.0))
        await is_waiting.wait()
        deadline = time.monotonic() + 0.6
        answers = await asyncio.gather(*(ask(each, deadline=deadline) for each in others))
        assert (await first).outcome is AnswerStatus.OK
    assert {(each.outcome, each.reason) for each in answers} == {(AnswerStatus.LIMITED, "limited")}
    assert [(each.taken, each.outcomes) for each in others] == [([], [])] * 3
    assert len(site.seen) == 1


async def test_a_request_without_patience_waits_for_those_who_only_ask_the_bus(site):
    class SlowAccount(Account):
        async def take(self, key, windows):
            await asyncio.sleep(0.01)
            return await super().take(key, windows)

    account = SlowAccount()
    async with SourceClient({}, {"example": f"http://127.0.0.1:{site.port}"}) as client:
        asks = (client.ask(make_source(), question(), account, AskContext(account)) for _ in range(5))
        answers = await asyncio.gather(*asks)
    assert {answer.outcome for answer in answers} == {AnswerStatus.OK}


async def test_a_request_waits_for_the_limits_as_long_as_it_may(ask, site):
    begun = time.monotonic()
    answer = await ask(account=Account(0.2, 0.1), patience_sec=5.0)
    assert answer.outcome is AnswerStatus.OK
    assert time.monotonic() - begun >= 0.3
    answer = await ask(account=Account(60.0), patience_sec=5.0)
    assert (answer.outcome, answer.reason, answer.wait_sec) == (AnswerStatus.LIMITED, "limited", 60.0)
    assert len(site.seen) == 1


async def test_half_a_series_is_none(ask, site):
    site.script += [rows(0), Answer(500)]
    account = Account()
    answer = await ask(make_source(limit=1), account)
    assert (answer.outcome, answer.records, account.outcomes) == (AnswerStatus.FAILED, (), ["fail"])


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
