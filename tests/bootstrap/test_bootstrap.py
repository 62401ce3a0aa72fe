"""`python -m bootstrap` on real servers: what it seeds, what it says, how it ends."""

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from support.fixtures import opened
from support.rig import HOST, Proc, Server, free_port
from support.scenes.seeding import NEW, NEW_TRUTH, GuardedServer, agreed, state, truth, two_servers

pytestmark = pytest.mark.live

SHIPPED = (Path(__file__).parents[2] / "truth.json").read_bytes()

servers = opened(lambda tmp_path: two_servers(tmp_path))


def environ(servers, **more):
    return {"SYSTEM_REDIS_URL": servers[0].url, "MARKET_REDIS_URL": servers[1].url, **more}


def run(folder, env, raw=None, code=0):
    """Runs it in `folder`, whose truth.json is `raw`; what it said."""
    if raw is not None:
        (folder / "truth.json").write_bytes(raw)
    with Proc("bootstrap", env, folder) as proc:
        assert proc.wait(20) == code, str(proc)
    assert "Traceback" not in proc.text()
    return proc


def test_the_shipped_truth_is_on_both_buses_byte_for_byte(tmp_path, servers):
    said = run(tmp_path, environ(servers), SHIPPED)
    assert agreed(*servers) == (SHIPPED, 1)
    assert servers[0].cmd("EXISTS", "truth:doc") == servers[1].cmd("EXISTS", "truth:doc") == 1
    seeded = said.logs("truth.seeded")[0]
    assert (seeded["revision"], seeded["changed"], seeded["services"]) == (1, True, 9)
    assert seeded["buses"] == ["system-redis", "market-redis"]
    assert [line["svc"] for line in said.logs("truth.added")][:2] == ["rss_agg", "massive"]
    assert all(json.loads(line) for line in said.text().splitlines())  # nothing but log lines


def test_with_stdout_closed_it_seeds_and_ends_with_0(tmp_path, servers):
    (tmp_path / "truth.json").write_bytes(SHIPPED)
    line = ["sh", "-c", 'exec >&-; exec "$@"', "sh", sys.executable, "-m", "bootstrap"]
    env = os.environ | environ(servers)
    ended = subprocess.run(
        line, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert agreed(*servers) == (SHIPPED, 1)


def test_a_forced_reseed_changes_nothing(tmp_path, servers):
    run(tmp_path, environ(servers), SHIPPED)
    before = [state(server) for server in servers]
    said = run(tmp_path, environ(servers))
    assert [state(server) for server in servers] == before
    assert said.logs("truth.seeded")[0]["changed"] is False


def test_a_mistake_in_a_services_own_part_is_one_of_the_truth_and_nothing_is_written(tmp_path, servers):
    raw = json.dumps({"services": {"rss_agg": {"settings": {"poll_sec": -5}}}}).encode()
    said = run(tmp_path, environ(servers), raw, code=2)
    (mistake,) = said.logs("truth.error")
    assert mistake["path"] == "services.rss_agg.settings.poll_sec"
    assert "-5 is not" in mistake["problem"]
    assert servers[0].cmd("EXISTS", "truth:doc") == servers[1].cmd("EXISTS", "truth:doc") == 0


def test_what_changed_is_told_by_service(tmp_path, servers):
    run(tmp_path, environ(servers), truth("a", "b", c=10))
    said = run(tmp_path, environ(servers), truth("b", "d", c=5))
    told = [
        (line["event"], line["svc"])
        for line in said.logs()
        if line["event"].startswith("truth.") and "svc" in line
    ]
    assert told == [("truth.added", "d"), ("truth.dropped", "a"), ("truth.changed", "c")]
    assert said.logs("truth.changed")[0]["what"] == "heartbeat.interval_sec 10 → 5"


def test_a_document_that_one_bus_lost_is_told_as_repaired(tmp_path, servers):
    run(tmp_path, environ(servers), SHIPPED)
    servers[1].cmd("DEL", "truth:doc")
    said = run(tmp_path, environ(servers))
    assert [(line["bus"], line["revision"]) for line in said.logs("truth.repaired")] == [("market-redis", 1)]
    assert agreed(*servers) == (SHIPPED, 1)


def test_every_bus_that_the_truth_names_is_seeded(tmp_path, servers):
    with Server(tmp_path / "declared") as declared, Server(tmp_path / "literal") as literal:
        document = {
            "buses": {"cache-redis": {"url": declared.url}, "hidden": {"url": "env:HIDDEN"}},
            "services": {"a": {"heartbeat": {"redis_url": literal.url}}},
        }
        raw = json.dumps(document).encode()
        said = run(tmp_path, environ(servers, HIDDEN=declared.url), raw)
        assert agreed(*servers, declared, literal) == (raw, 1)
    names = ["system-redis", "market-redis", "cache-redis", "hidden", f"{HOST}:{literal.port}"]
    assert said.logs("truth.seeded")[0]["buses"] == names


def test_it_waits_for_a_bus_that_is_late(tmp_path, servers):
    servers[1].stop()
    (tmp_path / "truth.json").write_bytes(SHIPPED)
    with Proc("bootstrap", environ(servers), tmp_path) as proc:
        waiting = proc.wait_log("bus.waiting")
        assert (waiting["bus"], waiting["reason"]) == ("market-redis", "refused")
        servers[1].start()
        assert proc.wait(20) == 0
    assert agreed(*servers) == (SHIPPED, 1)


@pytest.fixture
def guarded(tmp_path):
    """Two servers with the users of an old truth; the new one is in the folder."""
    (tmp_path / "truth.json").write_bytes(NEW_TRUTH)
    scenes = [GuardedServer(tmp_path, bus) for bus in ("system-redis", "market-redis")]
    with scenes[0].running() as system, scenes[1].running() as market:
        yield list(zip(scenes, (system, market), strict=True))


def as_user(guarded, user):
    urls = [scene.url(server, user) for scene, server in guarded]
    return {"SYSTEM_REDIS_URL": urls[0], "MARKET_REDIS_URL": urls[1]}


def held(guarded):
    scene, server = guarded[0]
    with contextlib.closing(redis.Redis.from_url(scene.url(server, "a"))) as client:
        return client.get("truth:doc")


def test_it_waits_for_the_users_of_its_truth(tmp_path, guarded):
    with Proc("bootstrap", as_user(guarded, "bootstrap"), tmp_path) as proc:
        [waiting] = [proc.wait_log("users.waiting", 20)]
        assert waiting["refused"] == {"system-redis": ["b"]}
        assert held(guarded) is None
        for scene, server in guarded:
            scene.write(NEW)
            scene.load(server)
        assert proc.wait(20) == 0, str(proc)
    assert held(guarded) == NEW_TRUTH
    assert not proc.logs("users.outdated")


def test_when_no_users_come_in_time_it_seeds_and_names_who_can_not_be_watched(tmp_path, guarded):
    said = run(tmp_path, as_user(guarded, "bootstrap") | {"BOOTSTRAP_TIMEOUT_SEC": "1"})
    assert said.logs("users.outdated")[0]["refused"] == {"system-redis": ["b"]}
    assert held(guarded) == NEW_TRUTH


def test_the_command_names_who_can_not_be_watched_and_the_remedy(tmp_path, guarded):
    with Proc("marketswarm", as_user(guarded, "operator"), tmp_path, "seed") as proc:
        assert proc.wait(20) == 0, str(proc)
    assert "the healer may not hear b on system-redis" in proc.text()
    assert "make seed" in proc.text()


def test_a_bus_that_wants_a_password_is_named_and_no_password_shown(tmp_path, servers):
    with Server(tmp_path / "locked", requirepass="right1") as locked:
        url = locked.url.replace("://", "://:hunter2@")
        env = environ(servers, MARKET_REDIS_URL=url, BOOTSTRAP_TIMEOUT_SEC="1")
        said = run(tmp_path, env, SHIPPED, code=3)
        assert "market-redis: auth" in said.logs("program.exit")[0]["message"]
        assert "hunter2" not in said.text()
        (tmp_path / "secret").write_text(locked.url.replace("://", "://:right1@") + "\n")
        env = {"SYSTEM_REDIS_URL": servers[0].url, "MARKET_REDIS_URL_FILE": str(tmp_path / "secret")}
        said = run(tmp_path, env)
        assert "right1" not in said.text()


def test_another_key_and_path_may_be_asked_for(tmp_path, servers):
    (tmp_path / "other.json").write_bytes(SHIPPED)
    run(tmp_path, environ(servers, TRUTH_PATH="other.json", TRUTH_REDIS_KEY="my:doc"))
    assert servers[1].cmd("GET", "my:doc").encode() == SHIPPED
    assert servers[1].cmd("EXISTS", "truth:doc") == 0


WRONG_ENVIRONMENTS = [
    ({"TRUTH_PATH": "nowhere.json"}, "TRUTH_PATH: nowhere.json can't be read (No such file or directory)"),
    ({"TRUTH_PATH": "."}, "TRUTH_PATH: . can't be read (Is a directory)"),
    ({"BOOTSTRAP_TIMEOUT_SEC": "hunter2"}, "BOOTSTRAP_TIMEOUT_SEC"),
    ({"MARKET_REDIS_URL": "hunter2://h"}, "market-redis"),
    ({"MARKET_REDIS_URL": "", "MARKET_REDIS_URL_FILE": "nowhere"}, "MARKET_REDIS_URL_FILE"),
    ({"LOG_LEVEL": "hunter2"}, "LOG_LEVEL"),
]


def test_a_wrong_environment_is_code_2_and_its_name(tmp_path):
    nowhere = f"redis://{HOST}:{free_port()}"
    urls = {"SYSTEM_REDIS_URL": nowhere, "MARKET_REDIS_URL": nowhere}
    for env, words in WRONG_ENVIRONMENTS:
        said = run(tmp_path, urls | env, SHIPPED, code=2)
        assert words in said.logs("program.exit")[0]["message"]
        assert "hunter2" not in said.text()


def test_a_variable_that_the_truth_asks_for_and_nobody_set_is_code_2_and_its_name(tmp_path, servers):
    raw = b'{"buses": {"cache": {"url": "env:CACHE_ADDRESS"}}, "services": {}}'
    said = run(tmp_path, environ(servers), raw, code=2)
    assert "CACHE_ADDRESS, which is not set" in said.logs("program.exit")[0]["message"]
    assert state(servers[0])["doc"] == b"none"


def test_a_doubt_is_told_and_hinders_nothing(tmp_path, servers):
    raw = b'{"services": {"a": {"hartbeat": {}}}}'
    said = run(tmp_path, environ(servers), raw)
    doubt = 'services.a.hartbeat: is not a known key (did you mean "heartbeat"?)'
    assert said.logs("truth.warning")[0]["problem"] == doubt
    assert agreed(*servers) == (raw, 1)


def test_a_person_at_a_terminal_reads_a_summary(tmp_path, servers):
    run(tmp_path, environ(servers), truth("a", c=10))
    (tmp_path / "truth.json").write_bytes(truth("b", c=5))
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "bootstrap"],
            env={"PATH": os.environ["PATH"], **environ(servers)},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=20,
        )
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # Linux says so at the end of it
            while more := os.read(ours, 10_000):
                shown += more
    finally:
        os.close(ours)
    assert shown.decode().replace("\r\n", "\n") == (
        "truth.json is revision 2 on system-redis and market-redis\n"
        "  + b\n"
        "  - a\n"
        "  ~ c: heartbeat.interval_sec 10 → 5\n"
    )
