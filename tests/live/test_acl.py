"""Real servers with the ACLs of the shipped truth: each user does what it is for, and nothing else is let in.

Every line of `acl_tries` is tried by a client that is logged in as that user.
"""

import contextlib
from pathlib import Path

import orjson
import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from marketswarm.access.passwords import format_acl_files, load_passwords
from marketswarm.access.users import user_names
from marketswarm.agent.service_config import load_with_sections
from marketswarm.bus.scripts import Script
from marketswarm.bus.transaction import TRANSACTION, BusTransaction
from marketswarm.settings.programs import MonitorSettings
from marketswarm.truth import parse_truth
from services.medic.remedies.leased_write import WRITE
from support.acl_attempts import (
    DONE,
    MARKET,
    REFUSED,
    SYSTEM,
    lines,
    list_group_commands,
)
from support.fixtures import opened
from support.market_acl_attempts import MARKET_DONE, MARKET_REFUSED
from support.rig import HOST, Server
from support.waiting import PATIENT_SEC

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
LAST_ID = "18446744073709551615-18446744073709551615"
TRUTH = parse_truth((ROOT / "truth.json").read_bytes()).truth
STATION = load_with_sections((ROOT / "examples/market.json").read_bytes()).truth
BY_A_FUNCTION = {
    "the log": "return redis.call('XADD', 'healer:alerts:log', '*', 'event', ARGV[1])",
    "an alert": "return redis.call('PUBLISH', 'healer:alerts', ARGV[1])",
    "a beat": "return redis.call('SET', 'beat:healer', ARGV[1])",
    "another's beat": "return redis.call('PUBLISH', 'mesh:heartbeat', ARGV[1])",
    "the truth": "return redis.call('SET', 'truth:doc', ARGV[1])",
}


@contextlib.contextmanager
def guard(truth, folder):
    """Yield a function that opens a client of a server with the users of a truth: `enter(bus, user)`."""
    known, _ = load_passwords(folder / "secrets", user_names(truth), make_missing=True)
    with contextlib.ExitStack() as ends:
        servers = {}
        for bus, text in format_acl_files(truth, known, MonitorSettings(), ()).items():
            (folder / bus).mkdir()
            (folder / bus / "users.acl").write_text(text, encoding="utf-8")
            servers[bus] = ends.enter_context(Server(folder / bus, aclfile="users.acl"))

        def client(bus: str, user: str, password: str | None = None) -> redis.Redis:
            found = redis.Redis(
                HOST,
                servers[bus].port,
                username=None if user == "default" else user,
                password=password or known.get(user),
                decode_responses=True,
                protocol=2,
                socket_timeout=PATIENT_SEC,
                retry=Retry(NoBackoff(), 0),
            )
            return ends.enter_context(contextlib.closing(found))

        yield client


enter = opened(lambda tmp_path_factory: guard(TRUTH, tmp_path_factory.mktemp("guarded")), scope="module")
"""Opens a client: `enter(bus, user)`."""


@pytest.fixture(scope="module")
def enter_station(tmp_path_factory):
    """Opens a client of the market station: `enter_station(bus, user)`."""
    with guard(STATION, tmp_path_factory.mktemp("station")) as client:
        yield client


def let_through(client: redis.Redis, tries: list[str]) -> list[str]:
    """Those that the server does not refuse to this user; an error of another kind is no refusal."""
    found = []
    connection = client.connection_pool.get_connection()
    for line in tries:
        connection.send_command(*line.split(" "))
        try:
            connection.read_response()
        except NoPermissionError:
            continue
        except redis.ResponseError as error:
            if "not allowed" in str(error):  # DEBUG, MODULE: to nobody at all
                continue
        found.append(line)
        connection.disconnect()  # a SUBSCRIBE changes what it is for
    connection.disconnect()
    client.connection_pool.release(connection)
    return found


@pytest.mark.parametrize(("bus", "user"), REFUSED)
def test_what_is_not_its_business_is_refused(enter, bus, user):
    client = enter(bus, user)
    assert len(set(REFUSED[bus, user])) >= 20
    assert let_through(client, REFUSED[bus, user]) == []


@pytest.mark.parametrize(("bus", "user"), DONE)
def test_what_is_its_business_is_let_through(enter, bus, user):
    client = enter(bus, user)
    assert let_through(client, lines(DONE[bus, user])) == lines(DONE[bus, user])


@pytest.mark.parametrize(("bus", "user"), MARKET_REFUSED)
def test_what_is_no_business_of_a_service_of_the_market_is_refused(enter_station, bus, user):
    client = enter_station(bus, user)
    assert let_through(client, MARKET_REFUSED[bus, user]) == []


@pytest.mark.parametrize(("bus", "user"), MARKET_DONE)
def test_what_is_the_business_of_a_service_of_the_market_is_let_through(enter_station, bus, user):
    client = enter_station(bus, user)
    assert let_through(client, lines(MARKET_DONE[bus, user])) == lines(MARKET_DONE[bus, user])


@pytest.mark.parametrize("bus", [SYSTEM, MARKET])
def test_the_notifier_alone_uses_a_consumer_group_of_the_alert_log(enter, enter_station, bus):
    """Whoever may read by a group takes the entries of every group, since a user's rights name no group."""
    attempts = list_group_commands("healer:alerts:log", "notifier")
    for truth, client in ((TRUTH, enter), (STATION, enter_station)):
        for user in {*user_names(truth), "default"} - {"notifier"}:
            assert let_through(client(bus, user), attempts) == [], user


def load(client: redis.Redis, name: str, body: str) -> str:
    callback = f"callback=function(KEYS, ARGV) {body} end"
    client.function_load(
        f"#!lua name={name}\nredis.register_function{{function_name='{name}', {callback}}}", replace=True
    )
    return name


@pytest.mark.parametrize("loader", ["bootstrap", "operator"])
@pytest.mark.parametrize("what", BY_A_FUNCTION)
def test_what_a_function_does_is_held_against_who_calls_it(enter, what, loader):
    name = load(enter(SYSTEM, loader), "tried", BY_A_FUNCTION[what])
    with pytest.raises(redis.ResponseError, match=r"(?i)acl failure|user executing the script"):
        enter(SYSTEM, "rss_agg").fcall(name, 0, "{}")


def test_a_function_may_what_its_user_may(enter):
    client, loader = enter(SYSTEM, "healer"), enter(SYSTEM, "bootstrap")
    assert client.fcall(load(loader, "log", BY_A_FUNCTION["the log"]), 0, "{}")
    # to read beats a function needs their names; to write them remains refused
    name = load(loader, "sets", "return redis.call('SET', KEYS[1], ARGV[1])")
    assert client.fcall(name, 1, "health:rss_agg", "{}")
    with pytest.raises(redis.ResponseError, match=r"(?i)acl failure|user executing the script"):
        client.fcall(name, 1, "beat:rss_agg", "{}")


MENDED = {
    "healer": "healer:alerts:log",
    "sentinel": "healer:alerts:log",
    "operator": "notifier:asks",
    "board": "notifier:asks",
    "massive": "massive:alerts",
    "rss_agg": "pings:rss_agg",
}
"""By user: a stream that it begins anew if an entry with the last possible id has ended it."""


@pytest.mark.parametrize("user", MENDED)
def test_who_writes_a_stream_may_begin_it_anew_and_the_monitors_keep_what_the_notifier_has_not(enter, user):
    script, stream = Script.beside("marketswarm.bus", "begin_anew.lua"), MENDED[user]
    enter(SYSTEM, "bootstrap").function_load(f"#!lua name={script.function}\n{script.library}", replace=True)
    writer, readers = enter(SYSTEM, user), enter(SYSTEM, "notifier")
    writer.delete(stream)
    is_log = stream == "healer:alerts:log"
    if is_log:
        readers.xgroup_create(stream, "notifier", "0", mkstream=True)
    writer.xadd(stream, {"event": "unread"})
    writer.xadd(stream, {"event": "last"}, id=LAST_ID)
    with pytest.raises(redis.ResponseError, match="exhausted"):
        writer.xadd(stream, {"event": "refused"})
    assert writer.fcall(script.function, 1, stream, 1_000_000) == 1
    new = writer.xadd(stream, {"event": "new"})
    assert writer.fcall(script.function, 1, stream, 1_000_000) == 0
    if is_log:
        kept = readers.xrange(stream)
        assert [fields["event"] for _, fields in kept] == ["unread", "new"]
        assert kept[-1][0] == new


@pytest.mark.parametrize("user", ["operator", "healer", "nobody"])
def test_nobody_gets_in_by_a_wrong_password(enter, user):
    with pytest.raises(redis.AuthenticationError):
        enter(SYSTEM, user, "a wrong password").ping()


def test_the_medic_writes_what_its_ladders_have_it_write_and_no_other_key(tmp_path):
    document = orjson.loads((ROOT / "examples/market.json").read_bytes())
    targets = {
        "board": {"ladder": ["quotes_cache"]},
        "sources": {"ladder": ["resume_sources", "reload_series", "pause_source"]},
        "archive": {"ladder": ["repeat_backup", "reconnect"]},
    }
    document["services"]["medic"]["settings"] = {"targets": targets}
    truth = load_with_sections(orjson.dumps(document)).truth
    with guard(truth, tmp_path) as client:
        done = lines("""
            SCAN 0 MATCH quotes:* COUNT 9 TYPE STRING
            UNLINK quotes:SPY quotes:QQQ
            HKEYS market:sources
            HGET sources:breaker:a open_ms
            HDEL sources:breaker:a opened
            HSET sources:breaker:a paused 1
            PEXPIRE sources:breaker:a 9
            HKEYS market:series
            XRANGE market:quarantine - + COUNT 1
        """)
        asked = lines("""
            GETRANGE archive:backup 0 9
            GETRANGE archive:database 0 9
            SET archive:backup:request {} EX 60
            GETRANGE archive:reconnect 0 9
            SET archive:reconnect:request {} EX 60
            GETRANGE sources:reload 0 9
            SET sources:reload:request {} EX 60
        """)
        assert let_through(client(SYSTEM, "medic"), asked) == asked
        assert let_through(client(MARKET, "medic"), done) == done
        refused = lines("""
            UNLINK quotes:SPY truth:doc
            UNLINK chart:SPY:1m
            GET quotes:SPY
            FLUSHDB
            KEYS *
            DEL sources:breaker:a
            HSET market:sources a b
            HSET market:series a b
            XDEL market:quarantine 1-1
            SET archive:backup {}
            SET archive:database {}
            SET archive:reconnect {}
            SET sources:reload {}
            SET board:reconnect:request {}
        """)
        assert let_through(client(MARKET, "medic"), [*refused, *asked]) == []
        elsewhere = [line for line in done if "HKEYS market:sources" not in line]
        assert let_through(client(SYSTEM, "medic"), [*refused, *elsewhere]) == []
        for bus in (SYSTEM, MARKET):
            client(bus, "bootstrap").function_load(f"#!lua name={WRITE.function}\n{WRITE.library}")
        asked_at, request = (WRITE.function, 1, "archive:reconnect:request"), ("SET", "new", "EX", "60")
        assert client(SYSTEM, "medic").fcall(*asked_at, 1e12, *request) == -1, "too late"
        assert client(SYSTEM, "archive").getrange("archive:reconnect:request", 0, 9) == "{}"
        assert client(SYSTEM, "medic").fcall(*asked_at, 1e15, *request) == 1
        assert client(SYSTEM, "archive").getrange("archive:reconnect:request", 0, 9) == "new"
        market = client(MARKET, "medic")
        assert market.fcall(WRITE.function, 2, "quotes:SPY", "quotes:QQQ", 1e15, "UNLINK") == 0
        assert market.fcall(WRITE.function, 1, "sources:breaker:a", 1e15, "HDEL", "opened", "trial") == 0
        assert market.fcall(WRITE.function, 1, "quotes:SPY", 1e12, "UNLINK") == -1, "too late"
        with pytest.raises(redis.ResponseError, match=r"(?i)acl failure|user executing the script"):
            market.fcall(WRITE.function, 1, "quotes:SPY", 1e15, "SET", "x")


def test_a_transaction_does_what_its_user_may_and_nothing_of_one_that_goes_further(enter_station):
    kept, further = BusTransaction(), BusTransaction()
    for each in (kept, further):
        each.require_epoch("medic:state", "epoch", 1)
        each.add_entry("medic:incidents", {"entry": "{}"}, 100, begin_anew=True)
        each.write_hash("medic:state", {"epoch": "1"}, ["repair:a"])
    further.write_hash("medic:alerts:outages", {"a": "{}"}, kept_sec=60)  # its user has no EXPIRE there
    moved, deleted = BusTransaction(), BusTransaction()
    moved.require("archive:positions", "a", "")
    moved.add_entry("archive:dead", {"reason": "x"}, 100)
    moved.write_hash("archive:positions", {"a": "1-1"})
    deleted.add_entry("archive:dead", {"reason": "x"}, 100)
    deleted.write_hash("archive:positions", {}, ["a"])  # nor HDEL here
    for user, allowed, refused, stream in (
        ("medic", kept, further, "medic:incidents"),
        ("archive", moved, deleted, "archive:dead"),
    ):
        loader, client = enter_station(SYSTEM, "bootstrap"), enter_station(SYSTEM, user)
        library = f"#!lua name={TRANSACTION.function}\n{TRANSACTION.library}"
        loader.function_load(library, replace=True)
        before = len(client.xrevrange(stream))
        assert call_transaction(client, allowed) == [1], user
        with pytest.raises(redis.ResponseError, match="ACL failure"):
            call_transaction(client, refused)
        assert len(client.xrevrange(stream)) == before + 1


def call_transaction(client: redis.Redis, transaction: BusTransaction) -> list[int]:
    keys = list(dict.fromkeys(transaction.list_keys()))
    numbers = {key: number for number, key in enumerate(keys, 1)}
    return client.fcall(TRANSACTION.function, len(keys), *keys, *transaction.list_args(numbers))
