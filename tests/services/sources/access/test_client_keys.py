"""Asking a source with its keys: where each is sent, whose turn it is, and that none is shown."""

import orjson
import pytest

from services.sources.catalog.answer import AnswerStatus
from services.sources.catalog.request import ApiKey
from support.rig.receiver import Answer, Receiver
from support.scenes.source_client import BY_KEY, KEY, Account, make_source, rows

TWO_HEADERS = {"place": "header", "name": "X-Key", "secret_name": "X-Secret", "secret_env": "SECRET"}


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


async def test_a_key_that_no_header_can_have_is_a_failure_of_its_source(ask, site):
    source = make_source(auth={"place": "bearer", "env": "EXAMPLE_KEY"})
    answer = await ask(source, keys=(ApiKey("kéy\u2028"),))
    assert (answer.outcome, site.seen) == (AnswerStatus.FAILED, [])


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
    assert [key for key, _ in account.taken] == ["one", "two", "one", "two"]


KEYS = (ApiKey("one"), ApiKey("two"), ApiKey("three"))


class KeyAccount(Account):
    """Has keys that must wait, each for so many seconds."""

    def __init__(self, **waits):
        super().__init__()
        self.by_key = waits

    async def take(self, key, windows):
        self.taken.append((key, tuple(windows)))
        return self.by_key.get(key, 0.0)


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
    assert account.blocked == [(KEYS[0].key, 3600.0), (KEYS[1].key, 60.0)]
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


async def test_a_key_that_is_optional_is_not_needed(ask):
    assert (await ask(make_source(auth=BY_KEY | {"optional": True}))).outcome is AnswerStatus.OK
