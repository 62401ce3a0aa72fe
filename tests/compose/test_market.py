"""The market station in containers: compose.market.yaml over compose.yaml, brought up by `make up`."""

import json

import pytest

from marketswarm.operator.healing import BESIDE
from support.rig.compose import ROOT, Project, patiently, read_steps, run_healing

TRUTH = ROOT / "examples/market.json"
READERS = ("bars", "archive", "signals")
# whom the database lets in, tried from a container on its network
KNOCKS = """
import asyncio, asyncpg, json, pathlib
async def knock(url):
    try:
        await (await asyncpg.connect(url, timeout=10)).close()
    except (asyncpg.PostgresError, OSError) as error:
        return type(error).__name__
    return "in"
own = pathlib.Path("/keys/database")
urls = {"wrong": "postgresql://marketswarm:wrong@postgres:5432/marketswarm"}
urls |= {"own": own.read_text().strip()} if own.exists() else {}
print(json.dumps({name: asyncio.run(knock(url)) for name, url in urls.items()}))
"""


FORGET = """
import pathlib, redis, sys
redis.Redis.from_url(pathlib.Path("/keys/market-redis").read_text().strip()).delete(sys.argv[1])
"""


def rows(station: Project, table: str) -> int:
    line = ("psql", "-U", "marketswarm", "-Atc", f"SELECT count(*) FROM {table}")  # noqa: S608 - a test's own
    return int(station.compose("exec", "-T", "postgres", *line))


def test_one_command_brings_it_up_the_readers_after_the_gate_and_rows_come(station):
    found = station.containers()
    running = {name for name, one in found.items() if one.status == "running"}
    assert running == {
        *json.loads(TRUTH.read_bytes())["services"],
        "postgres",
        "system-redis",
        "market-redis",
    }
    assert found["gate"].exit_code == 0
    for name in READERS:
        assert "the gate of sources: open" in station.compose("logs", name)
    for table in ("bars", "quotes", "observations", "indicators", "symbols", "signals"):
        assert patiently(lambda table=table: rows(station, table), 90, f"rows in {table}")
    told = [event for event in station.told() if event["type"].endswith("_miss")]
    assert told == [], "whoever waits for the gate or the database is not missed meanwhile"
    for name in found:
        log = station.run("docker", "logs", found[name].id)
        assert "no permissions" not in log.stdout + log.stderr, (
            name
        )  # what a server says to a user without a right


def test_the_database_lets_in_archive_and_board_by_their_url_and_nobody_without_it(station):
    refused = "InvalidPasswordError"
    for name in ("archive", "board"):
        assert json.loads(station.inside(name, KNOCKS)) == {"own": "in", "wrong": refused}
    for name in ("bars", "sources"):
        assert json.loads(station.inside(name, KNOCKS)) == {"wrong": refused}
    stored = (
        "psql",
        "-U",
        "postgres",
        "-d",
        "marketswarm",
        "-Atc",
        "SELECT rolpassword FROM pg_authid WHERE rolname = 'marketswarm'",
    )
    verifier = station.compose("exec", "-T", "postgres", *stored).strip()
    url = station.inside("archive", "print(open('/keys/database').read())").strip()
    assert verifier.startswith("SCRAM-SHA-256$4096:")
    seen = station.run("docker", "inspect", station["postgres"].id, station["archive"].id).stdout
    assert url.partition("@")[0].rpartition(":")[2] not in seen


WRITES = """
import asyncio, asyncpg, json, pathlib
async def write(sql):
    connection = await asyncpg.connect(pathlib.Path("/keys/database").read_text().strip(), timeout=10)
    try:
        await connection.execute(sql)
    except asyncpg.PostgresError as error:
        return type(error).__name__
    return "done"
done = ["DELETE FROM bars WHERE false", "CREATE TABLE mine (n integer)", "COPY bars TO PROGRAM 'true'"]
print(json.dumps([asyncio.run(write(each)) for each in done]))
"""


def test_the_board_may_read_the_database_and_not_write_it(station):
    assert json.loads(station.inside("board", WRITES)) == ["InsufficientPrivilegeError"] * 3


def test_archive_may_write_the_database_and_do_nothing_to_its_server(station):
    writes = WRITES.replace("CREATE TABLE mine (n integer)", "SELECT")
    assert json.loads(station.inside("archive", writes)) == ["done", "done", "InsufficientPrivilegeError"]


def test_a_backup_of_the_archive_is_made_on_its_volume_and_verified(station):
    inside = ("exec", "-T", "archive")
    patiently(lambda: ".json" in station.compose(*inside, "ls", "/backups"), 90, "the first daily backup")
    (made,) = (each for each in station.compose(*inside, "ls", "/backups").split() if each.endswith(".dump"))
    station.compose(*inside, "marketswarm", "archive", "verify", f"/backups/{made}")


@pytest.mark.nightly("test_compose_file.py: no server of compose.yaml depends on a container of ours")
def test_another_image_of_ours_restarts_no_server(station):
    servers = ("postgres", "system-redis", "market-redis")
    before = station.containers()
    station.env["MARKETSWARM_TAG"] = f"{station.name}-next"
    station.make("up", within=280)
    after = station.containers()
    started = [{name: each[name].said["State"]["StartedAt"] for name in servers} for each in (before, after)]
    assert started[0] == started[1]
    assert all(after[name].id != before[name].id for name in ("access", "gate", "sources", *READERS))
    patiently(lambda: rows(station, "bars") > 0, 90, "bars in the archive")


@pytest.mark.nightly(
    "test_compose_file.py and test_await_gate.py: readers wait; tests/market closes a real gate in every run"
)
def test_while_the_gate_is_closed_readers_wait_and_make_up_says_why_and_they_begin_when_it_opens(station):
    shipped = station.truth.read_text(encoding="utf-8")
    truth = json.loads(shipped)
    series = {"symbol": "ETH/USD", "asset": "crypto", "critical": True, "from": ["kraken"]}
    truth["services"]["sources"]["endpoints"].append(series)
    station.env["SOURCES_BASE_URLS"] = json.dumps({"kraken": "https://127.0.0.1:1"})  # nobody is there
    station.truth.write_text(json.dumps(truth), encoding="utf-8")
    station.compose("stop", *READERS)
    for name, key in (("bars", "bars:bars"), ("sources", "preload:status")):  # as before the first time
        once = ("run", "--rm", "--no-deps", "-T", "--entrypoint", "python", name)
        station.compose(*once, "-c", FORGET, key)
    ended = station.run("make", "up", within=280, check=False)
    assert ended.returncode != 0
    assert "gate of the market's sources is closed" in ended.stderr
    assert "ETH/USD:bars:1m" in ended.stderr
    found = station.containers()
    assert {found[name].said["State"]["Health"]["Status"] for name in READERS} == {"unhealthy"}
    for name in READERS:
        assert "the gate of sources: closed" in station.compose("logs", name)
    assert found["postgres"].status == "running"
    station.truth.write_text(shipped, encoding="utf-8")
    station.make("seed", within=120)
    for name in READERS:
        patiently(lambda name=name: station[name].said["State"]["Health"]["Status"] == "healthy", 200, name)


@pytest.mark.nightly("tests/live/test_medic_market.py has the ladders, test_engine.py the engine")
def test_an_agent_of_the_market_that_hangs_is_restarted_by_its_ladder_and_verified(station):
    shipped = station.truth.read_text(encoding="utf-8")
    truth = json.loads((ROOT / "examples/healing-market.json").read_bytes())
    assert truth["services"]["medic"]["settings"]["targets"]["sources"]["ladder"][-1] == "restart"
    truth["services"]["medic"]["settings"] |= {"wait_sec": 0.5, "stable_sec": 2, "start_grace_sec": 5}
    with run_healing(station, "compose.yaml:compose.market.yaml"):
        station.truth.write_text(json.dumps(truth), encoding="utf-8")
        station.make("seed", within=120)
        station.compose("up", "--detach", "medic")
        patiently(lambda: station["medic"].health == "healthy", 120, "the medic")
        before = station["sources"]
        before.freeze_agent()
        patiently(lambda: "resolved" in read_steps(station, "sources"), 240, "the end of the incident")
        done = [each for each in read_steps(station, "sources") if each not in ("refused", *BESIDE)]
        assert done == ["opened", "waiting", "intended", "acted", "verified", "resolved"]
        after = station["sources"]
        assert after.id == before.id
        assert after.said["State"]["StartedAt"] != before.said["State"]["StartedAt"]
    station.truth.write_text(shipped, encoding="utf-8")
    station.make("seed", within=120)


def test_down_with_its_volumes_leaves_nothing(station):
    assert all(station.left().values())
    station.make("down", "ARGS=-v")
    station.run("docker", "network", "rm", station.network)
    assert station.left() == {"containers": [], "volumes": [], "networks": []}
