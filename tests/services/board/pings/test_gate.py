import asyncio
import time
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.operator.tokens import (
    create_ping_key,
    revoke_ping_key,
    rotate_ping_key,
    write_ping_key,
)
from marketswarm.pings import MAX_BODY_BYTES
from services.board.pings import desk, key_ring
from services.board.settings import PingKeySettings
from support.waiting import PATIENT_SEC

RID = "3f0c7e62-7f3e-4f0a-9c53-0d6f0b6f3c11"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_a_ping_is_ok_from_everywhere_and_is_on_the_bus_before_its_answer(rig, method):
    _, uuid = await rig.make_key("backup")
    status, body, headers = await rig.ask(f"/ping/{uuid}", method, user_agent="curl/8")
    assert (status, body) == (200, b"OK")
    assert headers[b"ping-body-limit"] == b"10000"
    assert headers[b"access-control-allow-origin"] == b"*"
    assert headers[b"content-security-policy"].startswith(b"default-src 'none'")
    assert b"no-store" in headers[b"cache-control"]
    (entry,) = await rig.entries("backup")
    assert (entry[b"kind"], entry[b"method"], entry[b"client"]) == (b"success", method.encode(), b"10.9.8.7")
    assert entry[b"user_agent"] == b"curl/8"
    assert rig.responses == {200: 1}
    assert rig.handed_on == []


@pytest.mark.parametrize(
    ("method", "ending", "status"),
    [("POST", "", 200), ("OPTIONS", "", 204), ("GET", "/no/ping", 400), ("GET", "x", 400), ("PUT", "", 405)],
)
async def test_an_answer_in_one_write_is_the_same_as_one_in_parts(rig, method, ending, status):
    _, uuid = await rig.make_key("backup")
    in_parts = await rig.ask(f"/ping/{uuid}{ending}", method)
    assert in_parts[0] == status
    assert await rig.ask(f"/ping/{uuid}{ending}", method, is_whole=True) == in_parts


async def test_a_revoked_key_is_refused_though_its_path_was_parsed_before(rig):
    key, secret = await rig.make_key()
    assert (await rig.ask(f"/ping/{secret}/backup"))[0] == 200
    assert await revoke_ping_key(rig.buses["system-redis"], key.id)
    assert (await rig.ask(f"/ping/{secret}/backup"))[0] == 404


@pytest.mark.parametrize(
    ("ending", "query", "kind", "run", "code", "is_life"),
    [
        ("", b"", "success", "ended", None, True),
        ("/0", b"", "success", "ended", 0, True),
        ("/start", b"", "start", "started", None, False),
        ("/fail", b"", "fail", "failed", None, False),
        ("/3", b"", "fail", "failed", 3, False),
        ("/log", b"", "log", "log", None, False),
        ("/start", b"rid=" + RID.encode(), "start", "started", None, False),
    ],
)
async def test_a_ping_becomes_a_beat_that_reports_a_run(rig, ending, query, *, kind, run, code, is_life):
    _, uuid = await rig.make_key("backup")
    bus = rig.buses["system-redis"].client
    async with bus.pubsub() as listener:
        await listener.subscribe("backup:heartbeat")
        await listener.get_message(timeout=PATIENT_SEC)
        assert (await rig.ask(f"/ping/{uuid}{ending}", query=query))[0] == 200
        message = await listener.get_message(ignore_subscribe_messages=True, timeout=PATIENT_SEC)
    beat = orjson.loads(message["data"])
    assert (beat["svc"], beat["i"], beat["boot"], beat["run"]) == ("backup", 1, "b00700b007aa", run)
    assert (beat.get("exit_code"), beat.get("rid")) == (code, RID if query else None)
    assert (await bus.get("beat:backup") == message["data"]) is is_life
    assert (await bus.exists("run:backup")) == (kind in ("success", "fail"))
    (entry,) = await rig.entries("backup")
    assert entry[b"kind"] == kind.encode()
    assert 0 < await bus.pttl("pings:backup") <= 35 * 86_400_000


async def test_the_last_run_has_its_duration_and_why_it_failed(rig):
    _, uuid = await rig.make_key("backup")
    await rig.ask(f"/ping/{uuid}/start")
    await rig.ask(f"/ping/{uuid}/3", "POST", b"\n  no space left\nmore")
    run = orjson.loads(await rig.buses["system-redis"].client.get("run:backup"))
    assert (run["svc"], run["ok"], run["code"]) == ("backup", False, 3)
    assert 0 <= run["took_sec"] < 5
    assert run["said"].startswith("exit 3 after ")


async def test_numbers_of_beats_rise_and_pings_that_wait_go_together(rig, monkeypatch):
    monkeypatch.setattr(key_ring, "FRESH_SEC", 60.0)  # fifty may take longer on a busy machine
    _, uuid = await rig.make_key("backup")
    bus = rig.buses["system-redis"]
    asked, ask = [], bus.ask

    def counting(request, *how, **more):
        asked.append(1)
        return ask(request, *how, **more)

    bus.ask = counting
    answers = await asyncio.gather(*(rig.ask(f"/ping/{uuid}/log") for _ in range(50)))
    assert {status for status, _, _ in answers} == {200}
    assert len(await rig.entries("backup")) == 50
    assert len(asked) <= 2, "one look at the keys and one script, for all of them"
    await rig.ask(f"/ping/{uuid}")
    assert orjson.loads(await bus.client.get("beat:backup"))["i"] == 51


async def test_a_body_is_kept_up_to_its_limit_and_a_huge_one_is_refused(rig):
    _, uuid = await rig.make_key("backup")
    long = b"disk full\n" + b"".join(b"line %05d\n" % n for n in range(18_180)) + b"password=hunter2\n"
    assert (await rig.ask(f"/ping/{uuid}/fail", "POST", long))[0] == 200
    (entry,) = await rig.entries("backup")
    assert MAX_BODY_BYTES - 20 < len(entry[b"body"]) <= MAX_BODY_BYTES
    assert int(entry[b"size"]) == len(long)
    assert entry[b"body"].endswith(b"line 18179\npassword=[removed]"), "the end, without secrets"
    run = orjson.loads(await rig.buses["system-redis"].client.get("run:backup"))
    assert run["detail"] == "disk full", "the reason is the first line, which is not kept"
    assert (await rig.ask(f"/ping/{uuid}/log", "POST", b"x" * 1_100_000))[0] == 413
    headers = {"transfer_encoding": "chunked"}
    assert (await rig.ask(f"/ping/{uuid}", "POST", content_length="-1", **headers))[0] == 413
    assert len(await rig.entries("backup")) == 1


async def test_a_bus_that_is_away_is_503_and_never_ok(rig):
    _, key = await rig.make_key()
    rig.buses["market-redis"].connected = False
    status, body, headers = await rig.ask(f"/ping/{key}/elsewhere")
    assert (status, body, headers[b"retry-after"]) == (503, b"no bus took the ping", b"5")
    assert (await rig.ask(f"/ping/{key}/backup"))[0] == 200
    rig.buses["market-redis"].connected = True
    assert (await rig.ask(f"/ping/{key}/elsewhere"))[0] == 200
    assert len(await rig.entries("elsewhere", "market-redis")) == 1
    assert rig.writer.acknowledged == {"success": 2}


async def test_one_command_that_fails_makes_its_ping_503_and_no_other(rig):
    _, key = await rig.make_key()
    await rig.buses["system-redis"].client.set("pings:backup", "no stream")
    answers = await asyncio.gather(rig.ask(f"/ping/{key}/backup"), rig.ask(f"/ping/{key}/shop_api"))
    assert [status for status, _, _ in answers] == [503, 200]


async def test_pings_beyond_the_limit_are_429_with_the_time_to_wait(rig, monkeypatch):
    _, key = await rig.make_key()
    monkeypatch.setattr(desk, "time", SimpleNamespace(monotonic=lambda: 1000.0, time=time.time))
    rig.desk._pings = desk.RateLimiter(2, 0.4)  # noqa: SLF001 - a burst of a thousand takes too long here
    statuses = [(await rig.ask(f"/ping/{key}/backup"))[0] for _ in range(3)]
    assert statuses == [200, 200, 429]
    status, body, headers = await rig.ask(f"/ping/{key}/backup")
    assert (status, body, headers[b"retry-after"]) == (429, b"rate limited", b"3")
    assert (await rig.ask(f"/ping/{key}/shop_api"))[0] == 200


@pytest.mark.parametrize(
    ("path", "method", "query", "status", "body"),
    [
        ("/ping/x", "GET", b"", 400, b"invalid url format"),
        (f"/ping/{RID}", "GET", b"", 404, b"not found"),
        ("/ping/{key}", "GET", b"", 400, b"invalid url format"),
        ("/ping/{key}/nope", "GET", b"", 404, b"not found"),
        ("/ping/{key}/nope", "GET", b"create=1", 404, b"not found"),
        ("/ping/{key}/shop-api", "GET", b"", 409, b"ambiguous slug"),
        ("/ping/{key}/Backup", "GET", b"", 400, b"invalid url format"),
        ("/ping/{key}/backup", "GET", b"rid=1", 400, b"invalid uuid format"),
        ("/ping/{key}/backup", "DELETE", b"", 405, b"method not allowed"),
        ("/ping/{key}/backup", "OPTIONS", b"", 204, b""),
    ],
)
async def test_what_is_no_ping_is_refused_with_healthchecks_words_and_writes_nothing(
    rig, path, method, *, query, status, body
):
    _, key = await rig.make_key()
    assert (await rig.ask(path.format(key=key), method, query=query))[:2] == (status, body)
    assert await rig.entries("backup") == []
    assert rig.responses == {status: 1}


async def test_a_foreign_host_is_refused_and_other_paths_are_handed_on(rig):
    _, uuid = await rig.make_key("backup")
    assert (await rig.ask(f"/ping/{uuid}", host="evil.example"))[0] == 421
    assert (await rig.ask("/", host="evil.example"))[0] == 299
    assert (await rig.ask("/pingpong"))[0] == 299
    assert rig.handed_on == ["/", "/pingpong"]


async def test_a_key_is_refused_after_its_end_and_once_it_is_revoked(rig, monkeypatch):
    key, uuid = await rig.make_key("backup", for_sec=60)
    assert (await rig.ask(f"/ping/{uuid}"))[0] == 200
    now = time.time()
    monkeypatch.setattr(desk.time, "time", lambda: now + 61)
    assert (await rig.ask(f"/ping/{uuid}"))[:2] == (404, b"not found")
    monkeypatch.undo()
    await revoke_ping_key(rig.buses["system-redis"], key.id)
    assert (await rig.ask(f"/ping/{uuid}"))[:2] == (404, b"not found")


async def test_wrong_keys_are_404_then_429_and_a_right_one_is_let_in_all_the_same(rig):
    _, uuid = await rig.make_key("backup")
    begun, unknown = time.monotonic(), 0
    while (status := (await rig.ask(f"/ping/{RID}"))[0]) == 404:
        unknown += 1
    assert status == 429
    grown = (time.monotonic() - begun) * desk.FAILURES_PER_SEC  # a busy machine may take some seconds
    assert desk.FAILURES <= unknown <= desk.FAILURES + grown
    assert (await rig.ask(f"/ping/{uuid}"))[0] == 200
    assert (await rig.ask(f"/ping/{RID}", client="10.1.1.1"))[0] == 404


async def test_a_key_is_valid_as_soon_as_its_bus_has_it(rig):
    await rig.keys.refresh(time.monotonic())
    for number in range(5):
        key, secret = create_ping_key(f"job {number}", "backup", author="kim", now=time.time())
        assert await write_ping_key(rig.buses["system-redis"], key)
        assert (await rig.ask(f"/ping/{secret}"))[0] == 200
        renewed, new_secret = rotate_ping_key(key, time.time())
        assert await write_ping_key(rig.buses["system-redis"], renewed)
        assert [(await rig.ask(f"/ping/{each}"))[0] for each in (new_secret, secret)] == [200, 404]


async def test_a_ping_that_comes_during_a_look_at_the_keys_waits_for_a_later_one(rig):
    await rig.keys.refresh(time.monotonic())
    bus = rig.buses["system-redis"]
    ask, is_asked, may_answer = bus.ask, asyncio.Event(), asyncio.Event()

    async def hold(request, *how, **more):
        answer = await ask(request, *how, **more)
        is_asked.set()
        await may_answer.wait()
        return answer

    bus.ask = hold
    early = asyncio.create_task(rig.ask(f"/ping/{RID}"))
    await is_asked.wait()
    bus.ask = ask
    key, secret = create_ping_key("late", "backup", author="kim", now=time.time())
    assert await write_ping_key(bus, key)
    late = [asyncio.create_task(rig.ask(f"/ping/{secret}")) for _ in range(3)]
    await asyncio.sleep(0)  # the first of them waits for its turn to look, and the others for what it finds
    late.pop(0).cancel()
    may_answer.set()
    assert (await early)[0] == 404
    assert [(await each)[0] for each in late] == [200, 200]


async def test_before_the_keys_were_read_a_ping_is_503_and_never_404(rig):
    rig.buses["system-redis"].connected = False
    assert (await rig.ask(f"/ping/{RID}"))[0] == 503
    rig.buses["system-redis"].connected = True
    await rig.keys.refresh(time.monotonic())
    assert (await rig.ask(f"/ping/{RID}"))[0] == 404


async def test_while_their_bus_is_away_keys_stay_valid_and_an_unknown_one_is_to_be_tried_again(rig):
    _, key = await rig.make_key()
    rig.buses["system-redis"].connected = False
    assert (await rig.ask(f"/ping/{key}/elsewhere"))[0] == 200
    status, body, headers = await rig.ask(f"/ping/{RID}")
    assert (status, body, headers[b"retry-after"]) == (503, b"the keys can't be read now", b"1")


async def test_the_truth_may_name_keys_by_their_hash_or_by_a_variable(rig):
    _, uuid = await rig.make_key("backup")
    from marketswarm.operator.tokens import hash_ping_secret

    rig.follow(
        [
            PingKeySettings(svc="shop_api", sha256=hash_ping_secret(RID)),
            PingKeySettings.model_validate({"secret": "env:PING_ALL"}),
            PingKeySettings.model_validate({"secret": "env:PING_BAD"}),
            PingKeySettings.model_validate({"secret": "env:PING_MISSING"}),
        ]
    )
    assert (await rig.ask(f"/ping/{RID}"))[0] == 200
    assert (await rig.ask(f"/ping/{'B' * 22}/shop_api"))[0] == 200
    assert len(await rig.entries("shop_api")) == 2
    rig.follow([])
    assert (await rig.ask(f"/ping/{RID}"))[0] == 404
    assert (await rig.ask(f"/ping/{uuid}"))[0] == 200


@pytest.mark.parametrize("wrong", [{}, {"sha256": "0" * 64, "secret": "env:PING_A"}, {"secret": "env:HOME"}])
def test_a_key_in_the_truth_has_either_a_hash_or_a_variable_for_pings(wrong):
    with pytest.raises(ValueError, match=r"PING_|pattern"):
        PingKeySettings(svc="backup", **wrong)


async def test_the_last_use_of_a_key_is_noted_while_there_is_one(rig):
    key, uuid = await rig.make_key("backup")
    other, _ = await rig.make_key("backup")
    before = time.time()
    assert (await rig.ask(f"/ping/{uuid}"))[0] == 200
    assert (await rig.ask("/ping/3f0c7e62-7f3e-4f0a-9c53-0d6f0b6f3c11"))[0] == 404
    ring = rig.desk.keys
    assert before <= ring.find_use(key.sha256) <= time.time()
    assert ring.find_use(other.sha256) is None
    assert await revoke_ping_key(rig.buses["system-redis"], key.id)
    assert (await rig.ask(f"/ping/{uuid}"))[0] == 404
    assert ring.find_use(key.sha256) is None
