import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from marketswarm.beat import parse_beat
from marketswarm.monitor.last_run import parse_last_run
from services.board.pings.answers import RefusedPingError
from services.board.pings.other_gates import list_gatus_slugs, parse_alertmanager

RID = "3f0c7e62-7f3e-4f0a-9c53-0d6f0b6f3c11"


def alert(status="firing", **labels):
    return {"status": status, "labels": labels, "annotations": {"summary": "it is down"}}


def webhook(*alerts):
    return orjson.dumps({"version": "4", "status": "firing", "alerts": list(alerts)})


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize(
    ("query", "kind", "body"),
    [
        (b"", b"success", b"OK"),
        (b"status=up&msg=fine&ping=12", b"success", b"fine\nping 12 ms"),
        (b"status=down&msg=no+disk", b"fail", b"no disk"),
        (b"status=pending", b"fail", None),
        (b"status=&msg=&ping=", b"success", b"OK"),
        (b"status=UP", b"fail", None),
        (b"ping=x", b"success", b"OK\nping x ms"),
    ],
)
async def test_a_push_of_uptime_kuma_is_a_ping(rig, method, query, kind, body):
    _, uuid = await rig.make_key("backup")
    for secret in (uuid, uuid.replace("-", ""), f"{uuid}/"):
        status, said, headers = await rig.ask(f"/api/push/{secret}", method, query=query)
        assert (status, said, headers[b"content-type"]) == (200, b'{"ok":true}', b"application/json")
    entry = (await rig.entries("backup"))[-1]
    assert (entry[b"kind"], entry.get(b"body"), entry[b"form"]) == (kind, body, b"kuma")


async def test_a_failure_with_a_long_report_is_taken_its_end_kept_and_its_beginning_the_reason(rig):
    _, uuid = await rig.make_key("backup")
    long = b"disk%20full%0A" + b"line%0A" * 2_000
    assert (await rig.ask(f"/api/push/{uuid}", query=b"status=down&msg=" + long))[0] == 200
    assert (await rig.ask(f"/ping/{uuid}/fail", query=b"reason=" + long))[0] == 200
    path, header = "/api/v1/endpoints/backup/external", {"authorization": f"Bearer {uuid}"}
    assert (await rig.ask(path, "POST", query=b"success=false&error=" + long, **header))[0] == 200
    entries = await rig.entries("backup")
    kept = b"line\n" * 2_000
    found = [(each[b"kind"], each.get(b"body", b"")) for each in entries]
    assert [kind for kind, _ in found] == [b"fail"] * 3
    assert [len(body) for _, body in found] == [9_999, 0, 9_999]
    assert found[0][1] + b"\n" == kept
    run = orjson.loads(await rig.buses["system-redis"].client.get("run:backup"))
    assert run["detail"] == "disk full"
    assert (await rig.ask("/ping/" + "x" * 2001))[0] == 414


async def test_a_report_with_many_ampersands_is_taken(rig):
    _, uuid = await rig.make_key("backup")
    query = b"msg=a" + b"&b=c" * 500 + b"&status=down" + b"&d" * 5_000
    assert (await rig.ask(f"/api/push/{uuid}", query=query))[0] == 200
    assert (await rig.entries("backup"))[0][b"kind"] == b"fail"


@pytest.mark.parametrize(
    ("path", "query", "status", "msg"),
    [
        (f"/api/push/{RID}", b"", 404, "Monitor not found or not active."),
        ("/api/push/x", b"", 404, "Monitor not found or not active."),
        ("/api/push/{uuid}", b"ping=-1", 404, "Invalid ping value. Must be between 0 and 100000000000 ms."),
        ("/api/push/{uuid}", b"ping=nan", 404, "Invalid ping value. Must be between 0 and 100000000000 ms."),
    ],
)
async def test_a_push_that_is_none_is_refused_with_kumas_words(rig, path, query, status, msg):
    _, uuid = await rig.make_key("backup")
    found = await rig.ask(path.format(uuid=uuid), query=query)
    assert (found[0], orjson.loads(found[1])) == (status, {"ok": False, "msg": msg})
    assert await rig.entries("backup") == []


async def test_a_push_that_no_bus_takes_is_503(rig):
    _, uuid = await rig.make_key("backup")
    rig.buses["system-redis"].connected = False
    status, said, headers = await rig.ask(f"/api/push/{uuid}")
    assert (status, orjson.loads(said)["ok"], headers[b"retry-after"]) == (503, False, b"5")


@pytest.mark.parametrize("key", ["backup", "jobs_backup", "Jobs_Backup"])
async def test_a_result_of_gatus_is_a_ping(rig, key):
    _, secret = await rig.make_key()
    path, header = f"/api/v1/endpoints/{key}/external", {"authorization": f"Bearer {secret}"}
    assert (await rig.ask(path, "POST", query=b"success=true&duration=1m30s", **header))[:2] == (200, b"")
    assert (await rig.ask(path, "POST", query=b"success=false&error=full", **header))[:2] == (200, b"")
    first, second = await rig.entries("backup")
    assert (first[b"kind"], first[b"body"]) == (b"success", b"duration 1m30s")
    assert (second[b"kind"], second[b"body"], second[b"form"]) == (b"fail", b"full", b"gatus")


@pytest.mark.parametrize(
    ("key", "query", "header", "status", "body"),
    [
        ("backup", b"", "Bearer {s}", 400, b"missing or invalid success query parameter"),
        ("backup", b"success=1", "Bearer {s}", 400, b"missing or invalid success query parameter"),
        ("backup", b"success=true&duration=long", "Bearer {s}", 400, b"invalid duration"),
        ("backup", b"success=true", "", 401, b"invalid Authorization header"),
        ("backup", b"success=true", "Bearer  ", 401, b"bearer token must not be empty"),
        ("backup", b"success=true", "Bearer x", 401, b"invalid token"),
        ("backup", b"success=true", "Bearer " + RID, 401, b"invalid token"),
        ("nope", b"success=true", "Bearer {s}", 404, b"not found"),
        ("shop-api", b"success=true", "Bearer {s}", 409, b"ambiguous slug"),
    ],
)
async def test_a_result_that_is_none_is_refused_with_the_words_of_gatus(
    rig, key, query, *, header, status, body
):
    _, secret = await rig.make_key()
    header = header.format(s=secret)
    answer = await rig.ask(f"/api/v1/endpoints/{key}/external", "POST", query=query, authorization=header)
    assert answer[:2] == (status, body)
    assert await rig.entries("backup") == []


def test_a_key_of_gatus_is_a_slug_or_has_its_group_before_it():
    assert list_gatus_slugs("Core_shop_api") == ["core_shop_api", "shop_api"]


async def test_alerts_of_a_webhook_are_pings_of_the_services_that_they_name(rig):
    _, secret = await rig.make_key()
    body = webhook(
        alert(svc="backup", alertname="DiskFull"),
        alert("resolved", alertname="Shop_Api"),
        alert(alertname="Watchdog"),
        alert(),
        "x",
    )
    status, said, _ = await rig.ask("/webhook/alertmanager", "POST", body, authorization=f"Bearer {secret}")
    assert (status, orjson.loads(said)) == (200, {"taken": 2, "unknown": ["watchdog", "", ""]})
    (entry,) = await rig.entries("backup")
    assert (entry[b"kind"], entry[b"body"]) == (b"fail", b"DiskFull: it is down")
    assert (await rig.entries("shop_api"))[0][b"kind"] == b"success"


@pytest.mark.parametrize("order", [1, -1])
async def test_a_service_of_which_one_alert_still_fires_is_not_up(rig, order):
    _, secret = await rig.make_key()
    alerts = [alert("resolved", svc="backup", alertname="CpuHot"), alert(svc="Backup", alertname="DiskFull")]
    body = webhook(*alerts[::order], alert("resolved", svc="shop_api"))
    status, said, _ = await rig.ask("/webhook/alertmanager", "POST", body, authorization=f"Bearer {secret}")
    assert (status, orjson.loads(said)) == (200, {"taken": 3, "unknown": []})
    (entry,) = await rig.entries("backup")
    assert (entry[b"kind"], entry[b"body"]) == (b"fail", b"DiskFull: it is down")
    assert [each[b"kind"] for each in await rig.entries("shop_api")] == [b"success"]


async def test_alerts_that_name_no_service_are_logged_once(rig):
    _, secret = await rig.make_key()
    body = webhook(alert(svc="backup"), alert(alertname="Watchdog"), alert(), "x")
    with capture_logs() as logged:
        for _ in range(2):
            answer = await rig.ask("/webhook/alertmanager", "POST", body, authorization=f"Bearer {secret}")
            assert answer[0] == 200
    found = [(line["names"], line["client"]) for line in logged if line["event"] == "board.alerts_unknown"]
    assert found == [(["watchdog", ""], "10.9.8.7")]


async def test_a_webhook_that_is_not_taken_whole_is_refused_and_may_be_sent_again(rig):
    _, secret = await rig.make_key()
    rig.buses["market-redis"].connected = False
    header = {"authorization": f"Bearer {secret}"}
    body = webhook(alert(svc="backup"), alert(svc="elsewhere"))
    assert (await rig.ask("/webhook/alertmanager", "POST", body, **header))[0] == 503
    assert (await rig.ask("/webhook/alertmanager", "POST", webhook(alert(svc="no")), **header))[0] == 404
    assert (await rig.ask("/webhook/alertmanager", "POST", b"[1]", **header))[0] == 400
    assert (await rig.ask("/webhook/alertmanager", "GET", **header))[0] == 405
    wrong = {"authorization": f"Bearer {RID}"}
    assert (await rig.ask("/webhook/alertmanager", "POST", body, **wrong))[:2] == (401, b"invalid token")


@given(
    st.recursive(
        st.none() | st.text(max_size=5) | st.sampled_from(["firing", "svc"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["alerts", "status", "labels", "svc", "annotations"]), inner)
        ),
        max_leaves=20,
    )
)
def test_any_json_is_a_webhook_or_refused(document):
    try:
        parse_alertmanager(orjson.dumps(document))
    except RefusedPingError as refused:
        assert refused.answer.status == 400  # noqa: PT017 - a webhook is fine, too


FIRING = [alert(svc="backup", alertname="DiskFull"), alert(svc="backup", alertname="CpuHot")]
BOTH = "2 alerts: DiskFull: it is down; CpuHot: it is down"


@pytest.mark.parametrize(
    ("path", "body", "query", "detail"),
    [
        ("/ping/{uuid}/fail", b"\n disk full\nmore", b"", "disk full"),
        ("/ping/{uuid}/3", "größer\x00 价格\x1b[0m".encode(), b"", "größer\ufffd 价格"),
        (
            "/ping/{uuid}/3",
            b"begun\ndisk full, password=hunter22hunter\n\n",
            b"",
            "disk full, password=[removed]",
        ),
        ("/ping/{uuid}/3", b"a\n" * 100_000 + b"all is full " * 90, b"", ("all is full " * 90)[:200]),
        ("/ping/{uuid}/fail", b"\x00\x1b[2J\r\n" * 1_000, b"", None),
        ("/ping/{uuid}/fail", b"x" * 100_000, b"", "x" * 200),
        ("/ping/{uuid}/fail", b"", b"", None),
        ("/api/push/{uuid}", b"", b"status=down&msg=disk+full&ping=3", "disk full"),
        ("/api/push/{uuid}", b"", b"status=down", None),
        ("/api/v1/endpoints/backup/external", b"", b"success=false&error=disk%20full", "disk full"),
        ("/webhook/alertmanager", webhook(FIRING[0]), b"", "DiskFull: it is down"),
        ("/webhook/alertmanager", webhook(*FIRING), b"", BOTH),
        ("/webhook/alertmanager", webhook(*FIRING * 300), b"", BOTH.replace("2", "600")),
    ],
)
async def test_the_reason_of_a_failure_is_in_its_beat_and_in_its_run(rig, path, body, query, detail):
    _, uuid = await rig.make_key("backup")
    _, secret = await rig.make_key()
    client = rig.buses["system-redis"].client
    async with client.pubsub() as listener:
        await listener.subscribe("backup:heartbeat")
        await listener.get_message(timeout=5)
        path = path.format(uuid=uuid)
        status, *_ = await rig.ask(path, "POST", body, query=query, authorization=f"Bearer {secret}")
        assert status == 200
        message = await listener.get_message(ignore_subscribe_messages=True, timeout=5)
    beat, run = parse_beat(message["data"], "backup"), parse_last_run(await client.get("run:backup"))
    assert (beat.run, beat.detail, run.ok, run.detail) == ("failed", detail, False, detail)


def test_an_alert_without_a_summary_says_what_it_has():
    for notes, text in (
        ({"description": "why"}, "A: why"),
        ({"message": "m", "description": "why"}, "A: m\nwhy"),
        ({}, "A"),
        ([], "A"),
    ):
        one = {"status": "firing", "labels": {"alertname": "A"}, "annotations": notes}
        assert [said.text for said in parse_alertmanager(webhook(one))] == [text]
