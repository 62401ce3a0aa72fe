"""What one who has a service's password can do on the buses of the shipped truth, tried on real servers.

docs/security.md says it in a table; each of its rows is tried here, by the user of each column.
"""

import asyncio
import contextlib
import itertools
import random
import re
import threading
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from marketswarm.access.passwords import format_acl_files, load_passwords
from marketswarm.access.users import user_names
from marketswarm.bus import Bus
from marketswarm.bus.scripts import load_all_scripts
from marketswarm.seeding.functions import load_functions
from marketswarm.settings.programs import MonitorSettings
from marketswarm.truth import parse_truth
from support.rig import HOST, Server
from support.waiting import until

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
TRUTH = parse_truth((ROOT / "truth.json").read_bytes()).truth
SYSTEM, MARKET = "system-redis", "market-redis"
LOG = "healer:alerts:log"
CALLED = (
    "#!lua name=called\nredis.register_function{function_name='called', "
    "callback=function(KEYS, ARGV) return redis.call(unpack(ARGV)) end}"
)

TRIED = {
    "read the truth": [(SYSTEM, "GET truth:doc"), (MARKET, "GET truth:doc")],
    "change the truth, or announce a change of it": [
        *((bus, "SET truth:doc {}") for bus in (SYSTEM, MARKET)),
        *((bus, "HSET truth:meta revision 99") for bus in (SYSTEM, MARKET)),
        *((bus, "PUBLISH truth:changed {}") for bus in (SYSTEM, MARKET)),
    ],
    "beat for another service, or write its health": [
        (SYSTEM, "PUBLISH mesh:heartbeat {}"),
        (SYSTEM, "SET beat:mesh {}"),
        (SYSTEM, "PUBLISH healer:heartbeat {}"),
        (SYSTEM, "SET health:mesh {}"),
    ],
    "change the healer's state, or take its place": [
        (SYSTEM, "HSET healer:lease boot me"),
        (SYSTEM, "DEL healer:roster"),
        (SYSTEM, "HSET healer:roster mesh {}"),
        (SYSTEM, "PUBLISH healer:canary:x 1"),
    ],
    "silence alerts, or mark messages as sent": [
        (SYSTEM, "HSET notifier:silences a b"),
        (SYSTEM, "XADD notifier:asks * ask {}"),
        (SYSTEM, "SET notifier:told:x {}"),
        (MARKET, "SET notifier:told:x {}"),
        (SYSTEM, "SET notifier:lease me"),
    ],
    "publish alerts about anything else, true or not": [
        (SYSTEM, "PUBLISH healer:alerts {}"),
        (SYSTEM, f"XADD {LOG} * event {{}}"),
        (SYSTEM, "HSET healer:relayed massive:alerts 0-0"),
    ],
    "publish alerts about massive's targets, true or not": [(SYSTEM, "XADD massive:alerts * event {}")],
    "remove alerts from the log": [
        (SYSTEM, f"XDEL {LOG} 1-1"),
        (SYSTEM, f"XADD {LOG} MAXLEN 0 * event {{}}"),
    ],
    "read the log": [
        (SYSTEM, f"XRANGE {LOG} - +"),
        (SYSTEM, f"XREAD STREAMS {LOG} 0"),
        (SYSTEM, f"XLEN {LOG}"),
    ],
    "read or write another service's streams": [
        (MARKET, "XRANGE vexy:notes - +"),
        (MARKET, "XADD vexy:notes * a b"),
        (MARKET, "DEL vexy:notes"),
    ],
    "fill the memory of a bus": [(MARKET, "SET lease:x y"), (SYSTEM, "SET lease:x y")],
    "take or break a lease that services of your own share": [(SYSTEM, "DEL lease:nightly")],
    "end the term of another part's leader": [
        (bus, f"{command} {key}{rest}")
        for bus in (SYSTEM, MARKET)
        for key in ("own-lease:medic:healing", "own-lease-epoch:medic:healing", "own-lease:vexy_ai:digest")
        for command, rest in (("DEL", ""), ("SET", " 9"), ("HSET", " claim x"), ("PEXPIRE", " 9"))
    ],
    "be counted among the processes of another service": [
        (bus, f"{command} members:vexy_ai{rest}")
        for bus in (SYSTEM, MARKET)
        for command, rest in (("DEL", ""), ("ZADD", " 9 x"), ("PUBLISH", " x"))
    ],
    "see all keys, or hear all messages": [
        (SYSTEM, "KEYS *"),
        (SYSTEM, "SCAN 0"),
        (SYSTEM, "PSUBSCRIBE *"),
        (SYSTEM, "MONITOR"),
    ],
    "disconnect other clients": [(SYSTEM, "CLIENT KILL TYPE pubsub"), (SYSTEM, "CLIENT PAUSE 9999")],
    "change the server's settings, users or all its data": [
        *((bus, "CONFIG SET maxmemory 1") for bus in (SYSTEM, MARKET)),
        *((bus, "ACL SETUSER rss_agg +@all") for bus in (SYSTEM, MARKET)),
        *((bus, "FLUSHALL") for bus in (SYSTEM, MARKET)),
        *((bus, "SHUTDOWN") for bus in (SYSTEM, MARKET)),
        *((bus, "REPLICAOF 127.0.0.1 1") for bus in (SYSTEM, MARKET)),
    ],
}
STANDSTILL = "load code into a bus: a script that never ends, or one that changes what others see"
SLOW = "stop a bus for hours by one slow command"
INTRUDERS = ("rss_agg", "massive")
OWN_STREAMS = {
    "rss_agg": [(MARKET, "rss:items")],
    "massive": [(MARKET, "massive:probes"), (SYSTEM, "massive:alerts")],
}


class Buses:
    """Both servers, with users; what was made is in `known`."""

    def __init__(self, folder, ends):
        self.known, _ = load_passwords(folder / "secrets", user_names(TRUTH), make_missing=True)
        self.servers, self._ends = {}, ends
        for bus, text in format_acl_files(TRUTH, self.known, MonitorSettings(), ()).items():
            (folder / bus).mkdir()
            (folder / bus / "users.acl").write_text(text, encoding="utf-8")
            directives = {"aclfile": "users.acl", "lua_time_limit": "20"}
            self.servers[bus] = ends.enter_context(Server(folder / bus, **directives))
            self.enter(bus, "bootstrap").function_load(CALLED)

    def load_all(self):
        url = f"redis://bootstrap:{self.known['bootstrap']}@{HOST}:{self.servers[MARKET].port}"

        async def seeding():
            bus = Bus(MARKET, url)
            await load_functions(bus, load_all_scripts())
            await bus.aclose()

        asyncio.run(seeding())

    def enter(self, bus, user, **more):
        client = redis.Redis(
            HOST,
            self.servers[bus].port,
            username=user,
            password=self.known[user],
            decode_responses=True,
            socket_timeout=10,
            retry=Retry(NoBackoff(), 0),
            **more,
        )
        return self._ends.enter_context(contextlib.closing(client))


@pytest.fixture(scope="module")
def buses(tmp_path_factory):
    with contextlib.ExitStack() as ends:
        yield Buses(tmp_path_factory.mktemp("buses"), ends)


def taken(client: redis.Redis, line: str) -> bool:
    """Whether the server does it for this user, said to it or by a function that says it."""
    for words in (line.split(), ["FCALL", "called", "0", *line.split()]):
        try:
            client.execute_command(*words)
        except redis.exceptions.NoPermissionError:
            continue
        except redis.ResponseError as error:
            if re.search(r"(?i)acl failure|user executing the script|not allowed from script", str(error)):
                continue
        return True
    return False


def page() -> dict[str, dict[str, bool]]:
    """The table of the page: by row and user, whether it can."""
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+?) \| (yes|no) \| (yes|no) \|", text, re.MULTILINE)
    return {
        what: dict(zip(INTRUDERS, (said == "yes" for said in answers), strict=True))
        for what, *answers in rows
    }


def test_the_page_has_each_of_them():
    assert set(page()) == {*TRIED, STANDSTILL, SLOW}


@pytest.mark.parametrize("user", INTRUDERS)
def test_an_intruder_can_do_what_the_page_says_and_no_more(buses, user):
    said = page()
    for what, tried in TRIED.items():
        done = [line for bus, line in tried if taken(buses.enter(bus, user), line)]
        assert done == ([line for _, line in tried] if said[what][user] else []), what


def test_a_service_brings_no_code_to_a_bus(buses):
    """What one script sets (cjson, globals, memory) was seen by those of all others."""
    code = "cjson.decode_max_depth(1) while true do end"
    ways = [
        ["EVAL", code, "0"],
        ["EVAL_RO", code, "0"],
        ["SCRIPT", "LOAD", code],
        ["FUNCTION", "LOAD", CALLED],
    ]
    for bus, user, words in itertools.product((SYSTEM, MARKET), INTRUDERS, ways):
        with pytest.raises(redis.exceptions.NoPermissionError):
            buses.enter(bus, user).execute_command(*words)
    assert page()[STANDSTILL] == dict.fromkeys(INTRUDERS, False)


@pytest.mark.parametrize("user", INTRUDERS)
def test_one_command_does_as_much_work_as_a_service_asks_for(buses, user):
    """A few thousand times a stream with a million entries takes hours, and nothing can end it."""
    entries, times = 50, 200
    for bus, stream in OWN_STREAMS[user]:
        client = buses.enter(bus, user, protocol=2)  # with 3, what is read of one name is one item
        client.set_response_callback("XREAD", lambda reply, **_: reply)
        client.delete(stream)
        for _ in range(entries):
            client.xadd(stream, {"a": "b"})
        reply = client.execute_command("XREAD", "STREAMS", *[stream] * times, *["0"] * times)
        assert [len(found) for _, found in reply] == [entries] * times
        client.delete(stream)
    assert page()[SLOW][user]


def test_a_function_without_an_end_is_ended_by_the_operator(buses):
    """None of ours is one; whoever may load code may err."""
    operator, other = buses.enter(SYSTEM, "operator"), buses.enter(SYSTEM, "operator")
    other.function_load(
        CALLED.replace("called", "endless").replace("return redis.call(unpack(ARGV))", "while true do end")
    )
    ended = []

    def stand_still():
        with contextlib.suppress(redis.RedisError):
            other.fcall("endless", 0)
        ended.append(True)

    attack = threading.Thread(target=stand_still)
    attack.start()

    def killed() -> bool:
        with contextlib.suppress(redis.exceptions.ResponseError):  # nothing runs yet
            return operator.execute_command("FUNCTION", "KILL") == "OK"

    until(killed, what="a function to kill")
    attack.join(10)
    assert ended
    assert operator.ping()


HOSTILE = ["0", "0", "1", "1", "1e18", "-1e18", "nan", "inf", "0x10", "", "[]", "{}", "a", "give", "note"]


def test_no_function_of_ours_is_without_an_end_whatever_it_is_given(buses):
    """Any service may call any function, on its own keys and with any values."""
    intruder = buses.enter(MARKET, "rss_agg")
    buses.load_all()
    for name in sorted(load_all_scripts()):
        call_with_hostile_values(intruder, name)
        assert intruder.ping(), name


def call_with_hostile_values(intruder, name):
    chance = random.Random(name)
    with intruder.pipeline(transaction=False) as pipe:
        for _ in range(50):
            keys = [f"rss:items:{n}" for n in range(7)]
            pipe.delete(*keys)
            for key in keys:
                fill(pipe, key, chance.choice(["string", "zset", "hash", "stream"]))
            # mostly what lets it go on for long
            few = chance.sample(HOSTILE, 2)
            values = [chance.choice([*few, *few, *HOSTILE]) for _ in range(chance.randrange(5, 30))]
            pipe.fcall(name, len(keys), *keys, *values)
        pipe.execute(raise_on_error=False)


def test_a_list_that_says_to_be_endless_ends_with_what_is_given(buses):
    buses.load_all()
    commit = next(name for name in load_all_scripts() if "notifier_commit" in name)
    intruder, keys = buses.enter(MARKET, "rss_agg"), [f"rss:items:endless:{n}" for n in range(7)]
    values = ["me", "me.1", "", "", "", "1", "group", "1", "1", "1", "0", "1", "1e18"]
    with pytest.raises(redis.ResponseError, match="longer than what is given"):
        intruder.fcall(commit, len(keys), *keys, *values)
    assert intruder.ping()


def fill(pipe: redis.client.Pipeline, key: str, kind: str) -> None:
    if kind == "string":
        pipe.set(key, "1")
    elif kind == "zset":
        pipe.zadd(key, {f"digest:{time}-{time}": 1 for time in (-9223372036854775808, -2147483648, 0, 1)})
    elif kind == "hash":
        pipe.hset(key, mapping={"boot": "give", "epoch": "inf", "seq": "1"})
    else:
        pipe.xadd(key, {"a": "b"}, id="1-1")


def test_a_password_is_changed_without_a_restart(buses, tmp_path):
    others = {name: password for name, password in buses.known.items() if name != "rss_agg"}
    new, _ = load_passwords(tmp_path / "new", ["rss_agg"], make_missing=True)
    inside = buses.enter(MARKET, "rss_agg")
    assert inside.ping()
    for bus, users in format_acl_files(TRUTH, others | new, MonitorSettings(), ()).items():
        (buses.servers[bus].folder / "users.acl").write_text(users, encoding="utf-8")
        buses.enter(bus, "operator").execute_command("ACL", "LOAD")
    for client in (inside, buses.enter(MARKET, "rss_agg")):  # who was inside is out as well
        with pytest.raises((redis.AuthenticationError, redis.ConnectionError)):
            client.ping()
    buses.known |= new
    assert buses.enter(MARKET, "rss_agg").ping()
