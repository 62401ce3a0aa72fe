"""archive on real buses and a real PostgreSQL: each row once, its highest revision, whoever dies."""

import asyncio
import contextlib
import itertools

import asyncpg
import orjson
import redis

from services.archive.database import SCHEMA
from support import archive_play as played
from support.fixtures import opened
from support.postgres import query
from support.rig.shell import Shell
from support.scenes.agent import Scene, seed
from support.waiting import until

scene = opened(lambda tmp_path: Scene(tmp_path))


def truth(**settings):
    beats = {"interval_sec": 0.3, "timeout_sec": 10.0}
    section = {"heartbeat": beats, "settings": {"claim_sec": 0.1, **settings}}
    return {"services": {"archive": section}}


def start(scene, url):
    return scene.module("services.archive", DATABASE_URL=url)


def wait_until_written(scene, within=60):
    port = scene.market.port
    left = lambda: f"{played.waiting(port)} entries left; {[each.text()[-500:] for each in scene.programs]}"  # noqa: E731
    until(lambda: not played.waiting(port), within, left)


def test_each_entry_of_the_streams_becomes_a_row_and_what_is_none_a_dead_letter(scene, archive_url):
    play = played.make_play(1, 600)
    played.publish(scene.market.port, play)
    event = {"type": "bus_miss", "svc": "market-redis", "ts": 1_793_000_000.25, "id": "bus_miss.1"}
    scene.system.cmd("XADD", "healer:alerts:log", "*", "event", "[]")
    for _ in range(2):  # a healer that takes over may write it again
        scene.system.cmd("XADD", "healer:alerts:log", "*", "event", orjson.dumps(event))
    scene.market.cmd("HSET", "market:sources", "yahoo", '{"state": "down", "reason": "timeout", "fails": 3}')
    seed(scene.buses, truth(), 1)
    agent = start(scene, archive_url)
    wait_until_written(scene)
    played.require_rows(archive_url, play)
    ((dead, _),) = [(entry[1], entry[0]) for entry in _entries(scene.market.port, "archive:dead")]
    assert dead[b"stream"] == b"bars:bars"
    assert orjson.loads(dead[b"fields"]) == {"sym": "SPY", "open": "no number"}
    scene.market.cmd("XADD", "archive:dead", "*", "reason", "no dead letter of ours")
    until(lambda: scene.system.cmd("XLEN", "archive:dead"))
    listed = [orjson.loads(run_command(scene, "refused", "--json", *more)) for more in ((), ("--count", "1"))]
    assert sorted(each["stream"] for each in listed[0]) == ["bars:bars", "healer:alerts:log"]
    assert listed[1] == listed[0][:1]
    (of_bars,) = (each for each in listed[0] if each["stream"] == "bars:bars")
    assert of_bars["fields"] == {"sym": "SPY", "open": "no number"}
    assert "open" in of_bars["reason"] or "start" in of_bars["reason"]
    assert of_bars["reason"] in run_command(scene, "refused").replace("\n", " ")
    until(lambda: query(archive_url, "SELECT id, svc FROM alerts") == [("bus_miss.1", "market-redis")])
    health = "SELECT source, state, reason FROM source_health"
    until(lambda: query(archive_url, health) == [("yahoo", "down", "timeout")])
    scene.market.cmd("HSET", "market:sources", "yahoo", '{"state": "up", "reason": "", "fails": 0}')
    until(lambda: [row[1] for row in query(archive_url, f"{health} ORDER BY at")] == ["down", "up"])
    assert query(archive_url, "SELECT state ->> 'state' FROM sources") == [("up",)]
    assert agent.logs("backup.off")
    assert "no backups" in scene.beat("archive")["detail"]
    symbols = dict(query(archive_url, "SELECT symbol, asset FROM symbols"))
    assert symbols["BTC/USDT"] == "crypto"
    assert symbols.keys() == {"SPY", "BRK.B", "EUR/USD", "^VIX", "BTC/USDT", "US.CPI"}
    assert agent.stop() == 0
    assert scene.market.cmd("XINFO", "CONSUMERS", "bars:bars", "archive") == []
    assert "Traceback" not in agent.text()


def test_one_entry_with_an_id_of_the_far_future_stops_none_of_those_after_it(scene, archive_url):
    """Redis gives all later entries a greater id."""
    play = played.make_play(11, 300)
    first = next(fields for stream, fields in play if stream == played.BARS)
    scene.market.cmd("XADD", played.BARS, "9000000000000-0", *itertools.chain(*first.items()))
    played.publish(scene.market.port, play)
    seed(scene.buses, truth(), 1)
    agent = start(scene, archive_url)
    wait_until_written(scene)
    played.require_rows(archive_url, play)
    assert agent.stop() == 0
    assert "Traceback" not in agent.text()


def run_command(scene, *words):
    """Run `marketswarm archive …` for the fleet of a scene; return what it prints."""
    (scene.folder / "shell").mkdir(exist_ok=True)
    done = Shell(scene.folder / "shell")("archive", *words, **scene.env, COLUMNS="300")
    assert done.returncode == 0, done.stderr
    return done.stdout


def _entries(port, stream):
    with redis.Redis(port=port) as client:
        return client.xrange(stream)


def _pending(port, stream, name="archive"):
    with redis.Redis(port=port) as client:
        groups = client.xinfo_groups(stream)
    return sum(group["pending"] for group in groups if group["name"] == name.encode())


@contextlib.contextmanager
def locked(url, table):
    """Keep everybody else from a table for the block."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(url))
        try:
            runner.run(connection.execute(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
            yield
        finally:
            runner.run(connection.close())


def test_the_next_batch_is_read_while_one_is_merged_and_no_further_one(scene, archive_url):
    play = played.make_play(8, 1200)
    port = scene.market.port
    seed(scene.buses, truth(batch=50), 1)
    with locked(archive_url, "bars"):
        played.publish(port, play)
        agent = start(scene, archive_url)
        until(lambda: _pending(port, "bars:bars") == 100, what=agent.text)
        for _ in range(2):
            before = scene.beat("archive")
            until(lambda before=before: scene.beat("archive") != before)
        assert _pending(port, "bars:bars") == 100
    wait_until_written(scene)
    played.require_rows(archive_url, play)
    assert agent.stop() == 0
    assert scene.market.cmd("XINFO", "CONSUMERS", "bars:bars", "archive") == []
    assert "Traceback" not in agent.text()


def test_a_stream_that_is_lost_while_a_batch_is_merged_is_found_again(scene, archive_url):
    play = played.make_play(10, 1200)
    port = scene.market.port
    seed(scene.buses, truth(batch=50), 1)
    with locked(archive_url, "bars"):
        played.publish(port, play)
        agent = start(scene, archive_url)
        until(lambda: _pending(port, "bars:bars") == 100, what=agent.text)
        scene.market.cmd("SET", "bars:bars", "no stream")
    scene.wait_beat(svc="archive", status="degraded")
    scene.market.cmd("DEL", "bars:bars")
    played.publish(port, [each for each in play if each[0] == played.BARS])
    wait_until_written(scene)
    played.require_rows(archive_url, play)
    assert agent.stop() == 0
    assert "never retrieved" not in agent.text()


def test_a_database_that_is_killed_loses_nothing_and_the_beats_say_so(scene, breakable_postgres, archive_url):
    play = played.make_play(3, 1500)
    seed(scene.buses, truth(batch=50), 1)
    agent = start(scene, archive_url)
    for part in range(3):
        played.publish(scene.market.port, play[500 * part : 500 * part + 250])
        until(lambda: played.waiting(scene.market.port) < 240)
        breakable_postgres.kill()
        played.publish(scene.market.port, play[500 * part + 250 : 500 * part + 500])
        if part == 0:
            away = until(lambda: "PostgreSQL can't be used" in scene.beat("archive").get("detail", ""))
            assert away
            assert scene.beat("archive")["status"] == "degraded"
            assert "no stream is full yet" in scene.beat("archive")["detail"]
        if part == 1:  # what it has read, and can't write, must not die with it
            until(lambda: _pending(scene.market.port, "bars:bars"))
            agent.kill()
            agent = start(scene, archive_url)
        breakable_postgres.start()
    played.publish(scene.market.port, play[1500:])
    wait_until_written(scene)
    played.require_rows(archive_url, play)
    scene.wait_beat(svc="archive", status="ok")
    breakable_postgres.kill()  # while nothing is to be written
    scene.wait_beat(svc="archive", status="degraded")
    breakable_postgres.start()
    scene.wait_beat(svc="archive", status="ok")
    assert agent.running
    assert agent.logs("database.back")


def test_a_database_that_is_frozen_is_away_within_its_time_limit_and_loses_nothing(
    scene, breakable_postgres, archive_url
):
    play = played.make_play(6, 1500)
    seed(scene.buses, truth(batch=50, database_timeout_sec=1), 1)
    agent = start(scene, archive_url)
    port = scene.market.port
    played.publish(port, play[:500])
    until(lambda: played.waiting(port) < 240)
    breakable_postgres.freeze()
    played.publish(port, play[500:1000])
    until(lambda: "no answer within 1 s" in scene.beat("archive").get("detail", ""), what=agent.text)
    assert scene.beat("archive")["status"] == "degraded"
    held = _pending(port, "bars:bars")
    assert held  # read, and not acknowledged
    assert agent.stop() == 0
    assert _pending(port, "bars:bars") >= held
    again = start(scene, archive_url)  # it finds a server that takes connections, and answers none
    again.wait_log("database.away", within=30)
    breakable_postgres.thaw()
    played.publish(port, play[1000:])
    wait_until_written(scene)
    played.require_rows(archive_url, play)
    scene.wait_beat(svc="archive", status="ok")
    assert again.stop() == 0
    assert "Traceback" not in agent.text() + again.text()


def test_while_the_database_is_away_the_beats_say_how_long_a_full_stream_holds(
    scene, breakable_postgres, archive_url
):
    seed(scene.buses, truth(), 1)
    agent = start(scene, archive_url)
    port = scene.market.port
    # an entry each second of the last hour, of which the stream keeps about the last half
    with redis.Redis(port=port) as client:
        now_ms = 1000 * client.time()[0]
        pipe = client.pipeline()
        _, fields = next(entry for entry in played.make_play(4, 30) if entry[0] == played.QUOTES)
        for second in range(3600):
            pipe.xadd(
                played.QUOTES,
                {**fields, "at": str(played.BEGIN_MS + second)},
                f"{now_ms - 3_600_000 + 1000 * second}-1",
            )
        pipe.execute()
        wait_until_written(scene)
        breakable_postgres.halt()
        client.xadd(played.QUOTES, {**fields, "at": str(played.BEGIN_MS - 1)})
        client.xtrim(played.QUOTES, maxlen=1800, approximate=False)
    until(lambda: "holds" in scene.beat("archive").get("detail", ""), what=lambda: str(scene.beat("archive")))
    detail = scene.beat("archive")["detail"]
    assert "market:quotes holds 30 min more" in detail
    breakable_postgres.start()
    wait_until_written(scene)
    assert query(archive_url, "SELECT count(*) FROM quotes") == [(3601,)]
    assert agent.running


def test_an_archive_that_migrates_or_waits_for_one_that_does_says_so(scene, archive_url):
    seed(scene.buses, truth(), 1)
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(archive_url))
        try:
            runner.run(connection.execute(f"BEGIN; {SCHEMA.lock_sql}"))
            agent = start(scene, archive_url)
            until(lambda: "migrating" in (scene.beat("archive") or {}).get("detail", ""), what=agent.text)
            assert scene.beat("archive")["status"] == "degraded"
        finally:
            runner.run(connection.close())
    until(lambda: scene.beat("archive").get("status") != "degraded", what=agent.text)
    assert agent.running


def test_two_archives_follow_a_group_that_a_reseed_changes_and_each_row_is_there_once(scene, archive_url):
    play = played.make_play(12, 900)
    port = scene.market.port
    seed(scene.buses, truth(batch=50), 1)
    agents = [start(scene, archive_url) for _ in range(2)]
    played.publish(port, play[:600])
    until(lambda: played.waiting(port) < 500)
    seed(scene.buses, truth(batch=50, group="another"), 2)
    played.publish(port, play[600:])
    until(lambda: not played.waiting(port, "another"), 60, lambda: str([each.text() for each in agents]))
    played.require_rows(archive_url, play)
    for group in ("archive", "another"):
        assert _pending(port, played.BARS, group) == 0
    assert [each.stop() for each in agents] == [0, 0]
    assert scene.market.cmd("XINFO", "CONSUMERS", played.BARS, "another") == []
    assert not any("Traceback" in each.text() for each in agents)


def test_an_archive_without_a_database_says_what_is_missing(scene):
    seed(scene.buses, truth(), 1)
    agent = scene.module("services.archive")
    assert agent.wait() == 2
    assert "DATABASE_URL is not set" in agent.text()
