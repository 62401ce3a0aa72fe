import asyncio
import hashlib
import time
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.bus.scripts import Script
from marketswarm.operator.silences import create_silence, read_silences, write_silence
from marketswarm.operator.tokens import Scope, create_token, hash_ping_secret, write_token
from marketswarm.pings import JobPing, PingForm, PingKind
from marketswarm.status.service_rows import ServiceState
from marketswarm.web.audit import AuditLog
from marketswarm.web.tokens import TokenVerifier
from services.board.actions.steering import Steering
from services.board.fleet.snapshot import FleetSnapshot, LastRunView, ServiceSnapshot, SilenceView
from services.board.pings.checks import read_last_pings, read_pings
from services.board.pings.desk import PAUSE_REASON, ServicePauses
from services.board.pings.directory import PingDirectory
from services.board.pings.key_ring import RELOAD_SEC, CheckCodes, KeyRing
from services.board.pings.management import ManagementApi
from services.board.settings import PingKeySettings

SECRET = b"0123456789abcdef" * 4
made = CheckCodes()
made.use_secret(SECRET)
CODE, SHOP = str(made.code_of("backup")), str(made.code_of("shop_api"))
BROUGHT = "3f0c7e62-7f3e-4f0a-9c53-0d6f0b6f3c11"


@pytest.fixture
async def api(rig, truth_of):
    """The rig of pings with a management API: `backup` is up, `shop_api` is down."""
    bus, buses = rig.buses["system-redis"], list(rig.buses.values())
    truth = truth_of({"fleet": "testing", "services": {"backup": {}, "shop_api": {}, "healer": {}}})
    services = (
        ServiceSnapshot(
            "backup", ServiceState.UP, "system-redis", 30.0, last_beat_at=1e9, tags=("night", "db")
        ),
        ServiceSnapshot("shop_api", ServiceState.DOWN, "system-redis", 30.0, tags=("shop",)),
        ServiceSnapshot("healer", ServiceState.UP, "system-redis", 30.0),
    )
    me = SimpleNamespace(bus=rig.buses.__getitem__, settings=SimpleNamespace(board_public_url=None))
    snapshot = FleetSnapshot(1e9, services=services)
    rig.board = board = SimpleNamespace(me=me, truth=truth, buses=buses, snapshot=snapshot)
    board.find_problem = lambda: None
    board.gate = SimpleNamespace(verifier=TokenVerifier(lambda: bus, "board"))
    steering = Steering(lambda: buses, AuditLog(lambda: bus, "board"), lambda: truth)
    rig.desk.pauses = ServicePauses(lambda: buses, steering, lambda: board.snapshot)
    rig.gate.management = ManagementApi(board, rig.keys, rig.desk.pauses)
    await bus.client.set("board:checks", SECRET)
    rig.truth_of, rig.directory = truth_of, PingDirectory(truth)
    rig.follow()
    await rig.keys.refresh(time.monotonic())
    rig.tokens = {}
    for scope in Scope:
        token, text = create_token(scope, [scope], author="kim", now=time.time())
        await write_token(bus, token)
        rig.tokens[scope] = str(text)
    return rig


async def ask(api, path, method="GET", *, scope=Scope.WRITE, query=b""):
    """Return the status and what the JSON of the answer holds."""
    status, body, _ = await api.ask(path, method, query=query, x_api_key=api.tokens[scope])
    return status, orjson.loads(body) if body.startswith((b"{", b"[")) else body


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_services_are_listed_as_checks(api, version):
    status, found = await ask(api, f"/api/v{version}/checks/")
    first, second, _ = found["checks"]
    assert status == 200
    assert (first["name"], first["slug"], first["tags"], first["status"]) == (
        "backup",
        "backup",
        "night db",
        "up",
    )
    assert (second["slug"], second["status"], second["timeout"]) == ("shop_api", "down", 30)
    assert first["last_ping"] == "2001-09-09T01:46:40+00:00"
    assert first["uuid"] == CODE
    assert first["pause_url"] == f"http://board.example/api/v{version}/checks/{CODE}/pause"


async def test_the_slug_that_is_listed_is_the_one_that_names_the_check_alone(api):
    _, found = await ask(api, "/api/v3/checks/")
    for check in found["checks"]:
        _, same = await ask(api, "/api/v3/checks/", query=f"slug={check['slug']}".encode())
        assert [each["name"] for each in same["checks"]] == [check["name"]]
        assert check["slug"] == check["name"].lower(), "a ping with ?create=1 names it so"


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (b"slug=shop-api", ["shop_api"]),
        (b"slug=shop_api", ["shop_api"]),
        (b"slug=shop.api", ["shop_api"]),
        (b"slug=", ["backup", "shop_api", "healer"]),
        (b"tag=night", ["backup"]),
        (b"tag=night&tag=db", ["backup"]),
        (b"tag=night&tag=shop", []),
        (b"slug=nope", []),
    ],
)
async def test_checks_are_filtered_by_slug_and_by_all_tags(api, query, names):
    _, found = await ask(api, "/api/v3/checks/", query=query)
    assert [each["name"] for each in found["checks"]] == names


async def test_the_uuid_of_a_check_is_a_key_for_its_pings(api):
    first, second, healer = (await ask(api, "/api/v3/checks/"))[1]["checks"]
    assert first["ping_url"] == f"http://board.example/ping/{CODE}"
    assert second["ping_url"] == f"http://board.example/ping/{SHOP}"
    assert "ping_url" not in healer
    path = first["ping_url"].removeprefix("http://board.example")
    assert (await api.ask(f"{path}/start"))[:2] == (200, b"OK")
    assert (await api.ask(path.upper().replace("/PING", "/ping")))[:2] == (200, b"OK")
    assert [each[b"kind"] for each in await api.entries("backup")] == [b"start", b"success"]
    assert (await api.ask(f"/ping/{healer['uuid']}"))[0] == 404
    assert (await api.ask(f"/api/push/{CODE}"))[0] == 200
    path = "/api/v1/endpoints/backup/external"
    assert (await api.ask(path, "POST", query=b"success=true", authorization=f"Bearer {CODE}"))[0] == 200


async def test_a_ping_with_the_uuid_of_a_check_waits_for_no_look_at_the_keys(api, monkeypatch):
    looks = []

    async def look(_now):
        looks.append(1)

    monkeypatch.setattr(api.keys, "_read", look)
    assert (await api.ask(f"/ping/{CODE}"))[:2] == (200, b"OK")
    assert looks == []


@pytest.mark.parametrize("named", ["sha256", "secret", "stored"])
async def test_a_uuid_that_a_job_brings_along_pings_and_names_its_check(api, named):
    uuid = BROUGHT
    if named == "stored":
        _, uuid = await api.make_key("backup")
    elif named == "sha256":
        api.follow([PingKeySettings(svc="backup", sha256=hash_ping_secret(uuid))])
    else:
        api.environ["PING_BACKUP"] = uuid.upper()
        api.follow([PingKeySettings.model_validate({"svc": "backup", "secret": "env:PING_BACKUP"})])
    await api.keys.refresh(time.monotonic())
    for one in (uuid, CODE):
        assert (await api.ask(f"/ping/{one}"))[:2] == (200, b"OK")
        check = (await ask(api, f"/api/v3/checks/{one}"))[1]
        assert (check["name"], check["uuid"]) == ("backup", one)
        assert check["ping_url"] == f"http://board.example/ping/{one}"
    shown = uuid if named == "secret" else CODE  # of the others the board knows no text
    first = (await ask(api, "/api/v3/checks/"))[1]["checks"][0]
    assert first["uuid"] == shown
    read = (await ask(api, "/api/v3/checks/", scope=Scope.READ))[1]["checks"][0]
    assert (await ask(api, f"/api/v3/checks/{read['unique_key']}"))[1]["uuid"] == shown


async def test_a_new_service_has_a_uuid_at_once_and_pings_wait_for_it(api):
    new = str(made.code_of("nightly"))
    assert (await api.ask(f"/ping/{new}"))[0] == 404
    api.directory = PingDirectory(api.truth_of({"services": {"backup": {}, "nightly": {}}}))
    api.follow()
    assert (await api.ask(f"/ping/{new}"))[0] == 503
    assert (await api.ask(f"/ping/{CODE}"))[0] == 200
    await api.keys.refresh(time.monotonic())
    assert (await api.ask(f"/ping/{new}"))[0] == 200
    assert (await api.ask(f"/ping/{SHOP}"))[0] == 404  # it is gone


async def test_boards_share_the_secret_of_the_uuids_and_give_it_back_to_a_bus_that_lost_it(api):
    client = api.buses["system-redis"].client
    await client.delete("board:checks")
    others = [KeyRing(lambda: api.buses["system-redis"], {}) for _ in range(2)]
    await asyncio.gather(*(each.refresh(time.monotonic()) for each in others))
    made_now = await client.get("board:checks")
    assert {each.codes.secret for each in others} == {made_now}
    await client.set("board:checks", made_now)
    await api.keys.refresh(time.monotonic() + RELOAD_SEC)
    assert (await api.ask(f"/ping/{CODE}"))[0] == 404


@pytest.mark.parametrize("value", [b"", b"short", b"x" * 65, b"x" * 10_000_000, {"a": "hash"}])
async def test_what_can_be_no_secret_of_uuids_is_replaced(api, value):
    client, now = api.buses["system-redis"].client, time.monotonic()
    await client.delete("board:checks")
    if isinstance(value, dict):
        await client.hset("board:checks", mapping=value)
    else:
        await client.set("board:checks", value)
    new = KeyRing(lambda: api.buses["system-redis"], {})
    await new.refresh(now)
    assert (len(new.codes.secret) == 64) is (value != b"")
    await client.set("board:checks", value if isinstance(value, bytes) else b"")
    await api.keys.refresh(now + RELOAD_SEC)
    await new.refresh(now + RELOAD_SEC)
    assert await client.get("board:checks") == new.codes.secret == SECRET


async def test_links_begin_with_the_public_address_or_with_that_of_the_request(api):
    first = (await ask(api, "/api/v3/checks/"))[1]["checks"][0]
    assert first["update_url"].startswith("http://board.example/api/v3/checks/")
    api.board.me.settings.board_public_url = "https://up.example/b"
    check = (await ask(api, "/api/v3/checks/"))[1]["checks"][0]
    links = [check[name] for name in check if name.endswith("_url")]
    links += [each["svg"] for each in (await ask(api, "/api/v3/badges/"))[1]["badges"].values()]
    assert len(links) > 5
    assert all(link.startswith("https://up.example/b/") for link in links)


async def test_a_key_that_may_only_read_sees_unique_keys_and_no_uuid(api):
    unique = hashlib.sha1(CODE.replace("-", "")[:16].encode()).hexdigest()  # noqa: S324 - as Healthchecks does
    _, found = await ask(api, "/api/v3/checks/", scope=Scope.READ)
    assert found["checks"][0]["unique_key"] == unique
    assert found["checks"][0].keys().isdisjoint({"uuid", "ping_url", "update_url", "pause_url", "resume_url"})
    for form in (CODE, CODE.replace("-", ""), CODE[18:]):
        assert form not in orjson.dumps(found).decode()
    assert (await ask(api, f"/api/v3/checks/{unique}", scope=Scope.READ))[1]["name"] == "backup"
    assert (await ask(api, f"/api/v3/checks/{CODE}/pings/", scope=Scope.READ))[0] == 401
    assert (await ask(api, f"/api/v3/checks/{CODE}/pause", "POST", scope=Scope.READ))[0] == 401


async def test_a_check_is_paused_and_resumed_by_a_silence(api):
    path = f"/api/v3/checks/{CODE}"
    assert (await ask(api, f"{path}/resume", "POST")) == (409, b"check is not paused")
    assert (await ask(api, f"{path}/pause", "POST"))[1]["status"] == "paused"
    assert (await ask(api, f"{path}/pause", "POST"))[1]["status"] == "paused"
    (silence,) = (await read_silences(list(api.buses.values()))).silences.values()
    assert (silence.services, silence.author) == (("backup",), "write")
    assert (await ask(api, f"{path}/resume", "POST"))[1]["status"] == "up"
    assert await api.buses["system-redis"].client.xlen("board:audit") > 0


@pytest.mark.parametrize(
    ("ending", "ends"), [("", True), ("/fail", True), ("/1", True), ("/start", False), ("/log", False)]
)
async def test_a_ping_that_says_how_a_run_ended_ends_a_pause(api, ending, ends):
    path, (_, uuid) = f"/api/v3/checks/{CODE}", await api.make_key("backup")
    paused = (await ask(api, f"{path}/pause", "POST"))[1]
    assert (paused["status"], paused["manual_resume"]) == ("paused", False)
    assert (await api.ask(f"/ping/{uuid}{ending}"))[0] == 200
    assert ((await ask(api, path))[1]["status"] == "paused") is not ends
    entries = await api.buses["system-redis"].client.xrange("board:audit")
    ended = [fields for _, fields in entries if fields[b"action"] == b"unsilence"]
    assert [each[b"outcome"] for each in ended] == [b"begun", b"done"] * ends
    assert all((each[b"token"], each[b"client"]) == (b"", b"10.9.8.7") for each in ended)


async def test_a_pause_that_another_board_set_ends_with_a_ping_as_well(api):
    (_, uuid), buses, now = await api.make_key("backup"), list(api.buses.values()), time.time()
    silence = create_silence(("backup",), (), 3600.0, author="kim", reason=PAUSE_REASON, now=now)
    await write_silence(buses, await read_silences(buses), silence, now)
    view = SilenceView(silence.id, ("backup",), (), now, now + 3600.0, "kim", PAUSE_REASON)
    api.board.snapshot = replace(api.board.snapshot, silences=(view,))
    assert (await api.ask(f"/ping/{uuid}"))[0] == 200
    assert (await read_silences(buses)).silences[silence.id].has_ended(time.time())


async def test_a_silence_of_a_person_outlasts_a_ping(api):
    (_, uuid), buses, now = await api.make_key("backup"), list(api.buses.values()), time.time()
    silence = create_silence(("backup",), (), 3600.0, author="kim", reason="new disks", now=now)
    await write_silence(buses, await read_silences(buses), silence, now)
    assert (await api.ask(f"/ping/{uuid}"))[0] == 200
    assert not (await read_silences(buses)).silences[silence.id].has_ended(time.time())


async def test_pings_are_listed_with_their_durations_and_bodies(api):
    _, uuid = await api.make_key("backup")
    await api.ask(f"/ping/{uuid}/start", "POST", b"begin")
    await api.ask(f"/ping/{uuid}/1")
    _, found = await ask(api, f"/api/v3/checks/{CODE}/pings/")
    last, first = found["pings"]
    assert (last["type"], last["body_url"], first["type"]) == ("fail", None, "start")
    assert last["duration"] >= 0
    assert last["n"] > first["n"]
    status, body = await ask(api, first["body_url"].removeprefix("http://board.example"))
    assert (status, body) == (200, b"begin")
    assert (await ask(api, f"/api/v3/checks/{CODE}/pings/{last['n']}/body"))[0] == 404
    assert (last["n"], first["n"]) == (2, 1)
    assert (await ask(api, f"/api/v1/checks/{CODE}"))[1]["n_pings"] == 2


async def find_both(api, version=3):
    """Return `backup` as a check: alone, and as the list of all has it. They must not differ."""
    alone = (await ask(api, f"/api/v{version}/checks/{CODE}"))[1]
    listed = (await ask(api, f"/api/v{version}/checks/"))[1]["checks"][0]
    assert alone == listed
    return alone


RIDS = [f"rid={digit * 8}-4f0a-4c53-9d6f-0b6f3c11aaaa".encode() for digit in "12"]


@pytest.mark.parametrize(
    ("pings", "started", "has_duration"),
    [
        ([], False, False),
        ([("/start", b"")], True, False),
        ([("/start", b""), ("/log", b"")], True, False),
        ([("/start", b""), ("", b"")], False, True),
        ([("/start", b""), ("/fail", b"")], False, True),
        ([("/start", RIDS[0]), ("", RIDS[0])], False, True),
        ([("/start", RIDS[0]), ("", RIDS[1])], True, False),
        ([("/start", RIDS[0]), ("", b"")], False, False),
        ([("/start", RIDS[0]), ("/fail", RIDS[1])], False, False),
        ([("/start", b""), ("", b""), ("", b"")], False, False),
        ([("/log", b"")] * 12, False, False),
    ],
)
async def test_a_run_goes_on_until_healthchecks_calls_it_over(api, pings, started, has_duration):
    for ending, query in pings:
        assert (await api.ask(f"/ping/{CODE}{ending}", query=query))[0] == 200
    check = await find_both(api)
    assert (check["started"], check["n_pings"]) == (started, len(pings))
    assert ("last_duration" in check) is has_duration
    assert (await find_both(api, version=1))["status"] == ("started" if started else "up")


async def test_the_last_ping_is_that_of_a_failure_as_well(api):
    service = ServiceSnapshot("backup", ServiceState.DOWN, "system-redis", 9.0)
    api.board.snapshot = FleetSnapshot(1e9, services=(service,))
    assert (await find_both(api))["last_ping"] is None
    assert (await api.ask(f"/ping/{CODE}/3"))[0] == 200
    check = await find_both(api)
    assert abs(datetime.fromisoformat(check["last_ping"]).timestamp() - time.time()) < 60
    assert check["next_ping"] is None  # nothing is expected of a check that is down


@pytest.mark.parametrize(
    ("state", "more", "expected"),
    [
        (ServiceState.UP, {}, {"next_ping": "2001-09-09T01:47:10+00:00", "timeout": 30}),
        (ServiceState.SILENT, {}, {"next_ping": "2001-09-09T01:47:10+00:00", "status": "grace"}),
        (ServiceState.DOWN, {}, {"next_ping": None, "status": "down"}),
        (ServiceState.UNKNOWN, {"last_beat_at": None}, {"next_ping": None, "status": "new"}),
        (
            ServiceState.UP,
            {"schedule": "0 3 * * *", "time_zone": "Europe/Zurich", "next_due_at": 1e9 + 60},
            {"next_ping": "2001-09-09T01:47:40+00:00", "schedule": "0 3 * * *", "tz": "Europe/Zurich"},
        ),
        (
            ServiceState.UP,
            {"running_since": 1e9 - 60},
            {"started": True, "next_ping": "2001-09-09T01:45:40+00:00"},
        ),
        (
            ServiceState.FAILED,
            {"last_run": LastRunView(ok=False, text="exit 3", ended_at=1e9 + 5, took_sec=7.9)},
            {"last_ping": "2001-09-09T01:46:45+00:00", "last_duration": 7, "status": "down"},
        ),
    ],
)
async def test_a_service_that_does_not_ping_is_a_check_too(api, state, more, expected):
    service = ServiceSnapshot("backup", state, "system-redis", 30.0, last_beat_at=1e9)
    api.board.snapshot = FleetSnapshot(1e9, services=(replace(service, **more),))
    check = await find_both(api)
    assert {name: check[name] for name in expected} == expected
    assert ("timeout" in check) is ("schedule" not in check)


async def test_a_run_under_exec_is_no_ping(api):
    service = ServiceSnapshot("backup", ServiceState.UP, "system-redis", 30.0, last_beat_at=1e9)
    api.board.snapshot = FleetSnapshot(1e9, services=(replace(service, running_since=1e9 - 60),))
    before = await find_both(api)
    run = JobPing(kind=PingKind.SUCCESS, ts=1e9 + 9, form=PingForm.EXEC, rid="a", took_sec=9.0)
    await api.buses["system-redis"].client.xadd("pings:backup", run.encode())
    assert await find_both(api) == before
    assert (before["started"], before["n_pings"]) == (True, 0)


async def test_what_a_service_writes_among_its_pings_makes_no_answer_longer(api):
    client, ping = api.buses["system-redis"].client, JobPing(kind=PingKind.FAIL, ts=1e9 + 9, body=b"full")
    await client.xadd(
        "pings:backup", {**ping.encode(), "body": ping.body, "x" * 20_000: "x", "y": "y" * 20_000}
    )
    await client.xadd("pings:backup", {f"f{n}": "x" for n in range(1000)})
    for stored in (
        (await read_last_pings(api.buses["system-redis"], ["backup"]))["backup"],
        await read_pings(api.buses["system-redis"], "backup"),
    ):
        assert [each.kind for each in stored.pings] == [PingKind.FAIL]
    assert stored.pings[0].body == b"full"
    [_, found] = await api.buses["system-redis"].script(
        Script.beside("services.board.pings", "read.lua"), ["pings:x", "pings:backup"], [10, ""]
    )
    assert max(len(fields) for _, fields in found[1]) <= 80
    assert max(len(text) for _, fields in found[1] for text in fields) < 100


async def test_a_check_has_every_field_of_healthchecks(api):
    check = await find_both(api)
    texts = ("methods", "subject", "subject_fail", "start_kw", "success_kw", "failure_kw")
    filters = ("filter_subject", "filter_body", "filter_http_body", "filter_default_fail")
    assert {check[name] for name in texts} == {""}
    assert [check[name] for name in filters] == [False] * 4


async def test_the_pings_of_a_check_are_numbered_from_one_on_and_go_on_when_old_ones_are_dropped(api):
    for _ in range(3):
        await api.ask(f"/ping/{CODE}")
    pings = (await ask(api, f"/api/v3/checks/{CODE}/pings/"))[1]["pings"]
    assert [each["n"] for each in pings] == [3, 2, 1]
    await api.buses["system-redis"].client.xtrim("pings:backup", maxlen=1, approximate=False)
    await api.ask(f"/ping/{CODE}", "POST", b"fourth")
    pings = (await ask(api, f"/api/v3/checks/{CODE}/pings/"))[1]["pings"]
    assert [each["n"] for each in pings] == [4, 3]
    assert (await ask(api, f"/api/v3/checks/{CODE}/pings/4/body")) == (200, b"fourth")
    assert (await find_both(api))["n_pings"] == 4


async def test_what_is_no_stream_and_a_bus_that_is_away_cost_a_list_only_what_they_know(api):
    await api.buses["system-redis"].client.set("pings:backup", "x")
    assert (await find_both(api))["n_pings"] == 0
    services = tuple(replace(each, bus="market-redis") for each in api.board.snapshot.services)
    api.board.snapshot = FleetSnapshot(1e9, services=services)
    api.buses["market-redis"].connected = False
    assert len((await ask(api, "/api/v3/checks/"))[1]["checks"]) == 3


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_flips_are_those_of_the_alert_log(api, version):
    bus, now = api.buses["system-redis"].client, time.time()
    for kind, ts in (("heartbeat_miss", now - 500), ("heartbeat_ok", now - 100)):
        event = {"type": kind, "svc": "backup", "ts": round(ts, 3), "id": kind, "by": "healer"}
        await bus.xadd("healer:alerts:log", {"event": orjson.dumps(event)}, id=f"{int(ts * 1000)}-0")
    path = f"/api/v{version}/checks/{CODE}/flips/"
    assert [each["up"] for each in (await ask(api, path))[1]["flips"]] == [1, 0]
    assert [each["up"] for each in (await ask(api, path, query=b"seconds=300"))[1]["flips"]] == [1]
    assert (await ask(api, path, query=b"seconds=x"))[0] == 400


@pytest.mark.parametrize(
    ("path", "method", "status", "body"),
    [
        ("/api/v3/checks/", "POST", 400, "truth"),
        (f"/api/v3/checks/{CODE}", "POST", 400, "truth"),
        (f"/api/v3/checks/{CODE}", "DELETE", 400, "truth"),
        ("/api/v3/checks/3f0c7e62-7f3e-4f0a-9c53-0d6f0b6f3c11", "GET", 404, "not found"),
        (f"/api/v3/checks/{CODE}/pause", "GET", 405, ""),
        ("/api/v3/channels/", "GET", 200, '"channels":[]'),
        ("/api/v3/badges/", "GET", 200, "/badge/tag/night.svg"),
        ("/api/v3/status/", "GET", 200, "OK"),
    ],
)
async def test_other_requests_are_answered_with_the_reason(api, path, method, status, body):
    found = await api.ask(path, method, x_api_key=api.tokens[Scope.WRITE])
    assert (found[0], body in found[1].decode()) == (status, True)


async def test_the_status_is_503_while_a_bus_is_away(api):
    api.board.find_problem = lambda: "away: market-redis"
    for path in ("/api/v3/status/", "/api/v1/status"):
        status, body, headers = await api.ask(path)
        assert (status, body, headers[b"retry-after"]) == (503, b"away: market-redis", b"5")


async def test_each_tag_has_badges_and_so_have_all_services_together(api):
    services = (ServiceSnapshot("backup", ServiceState.UP, "system-redis", 30.0, tags=("a/b c", "Größe")),)
    api.board.snapshot = FleetSnapshot(1e9, services=services)
    badges = (await ask(api, "/api/v3/badges/"))[1]["badges"]
    assert {tag: forms["svg3"] for tag, forms in badges.items()} == {
        "*": "http://board.example/badge/tag/%2A.svg",
        "Größe": "http://board.example/badge/tag/Gr%C3%B6%C3%9Fe.svg",
        "a/b c": "http://board.example/badge/tag/a%2Fb%20c.svg",
    }


async def post(api, path, body, **headers):
    """Post a body; return the status and the answer."""
    status, answer, _ = await api.ask(path, "POST", body, **headers)
    return status, orjson.loads(answer) if answer.startswith(b"{") else answer


async def test_the_key_may_stand_in_the_body_of_a_post(api):
    path, key = f"/api/v3/checks/{CODE}/pause", api.tokens[Scope.WRITE]
    assert (await post(api, path, orjson.dumps({"api_key": key})))[1]["status"] == "paused"
    wrong, missing = {"error": "wrong api key"}, {"error": "missing api key"}
    assert await post(api, path, orjson.dumps({"api_key": key}), x_api_key="x" * 32) == (401, wrong)
    assert await post(api, path, orjson.dumps({"api_key": "x" * 32})) == (401, wrong)
    for value in ("", None, 7, ["x"], {}):
        assert await post(api, path, orjson.dumps({"api_key": value})) in ((401, missing), (401, wrong))
    assert await post(api, path, b"{}") == (401, missing)
    get = await api.ask("/api/v3/checks/", body=orjson.dumps({"api_key": key}))
    assert get[0] == 401


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "could not parse request body"),
        (b"\xff", "could not parse request body"),
        (b"[" * 300 + b"]" * 300, "json validation error: value is not an object"),
        (b"[1]", "json validation error: value is not an object"),
    ],
)
async def test_a_body_that_is_no_object_is_refused_as_by_healthchecks(api, body, reason):
    answer = await post(api, f"/api/v3/checks/{CODE}/pause", body, x_api_key=api.tokens[Scope.WRITE])
    assert answer == (400, {"error": reason})


async def test_a_request_without_a_valid_key_is_refused_as_by_healthchecks(api):
    for headers, reason in (({}, "missing api key"), ({"x_api_key": "x" * 32}, "wrong api key")):
        status, body, _ = await api.ask("/api/v3/checks/", **headers)
        assert (status, orjson.loads(body)) == (401, {"error": reason})


@pytest.mark.parametrize(
    "path", ["checks", "channels", "badges", f"checks/{CODE}/pings", f"checks/{CODE}/flips"]
)
@pytest.mark.parametrize("version", [1, 2, 3])
async def test_the_last_slash_of_an_address_may_be_missing(api, path, version):
    with_slash, without = [await ask(api, f"/api/v{version}/{path}{end}") for end in ("/", "")]
    assert with_slash[0] == 200
    assert without == with_slash


async def test_a_check_with_a_last_slash_is_the_check(api):
    for end in ("", "/"):
        assert (await ask(api, f"/api/v3/checks/{CODE}{end}"))[1]["name"] == "backup"
        assert (await ask(api, f"/api/v3/checks/{CODE}/pause{end}", "POST"))[1]["status"] == "paused"


@pytest.mark.parametrize("path", ["/api/v1/services", "/api/v4/checks/", "/api/v1/checksum", "/api/v1/fleet"])
async def test_the_boards_own_api_is_handed_on(api, path):
    assert (await api.ask(path))[0] == 299
