"""deploy/redis/start.sh with a real server: it waits for its users, and loses nothing by them."""

import os
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bootstrap.access import SERVER_FILE, publish_certificate
from support.compose_files import SERVICES, filled_in, size
from support.fixtures import opened
from support.pages import section, table
from support.rig import HOST, Process, free_port
from support.rig.process import descendants
from support.waiting import until

ROOT = Path(__file__).parents[2]
USERS = "user default on nopass -@all +ping\nuser writer on >writing ~* &* +@all\n"
pytestmark = [pytest.mark.live, pytest.mark.needs("redis-server", "redis-cli")]


class Bus(Process):
    """A server of the shipped configuration, started as in its container."""

    def __init__(self, folder: Path, name: str = "system-redis"):
        super().__init__()
        self.folder, self.port = folder, free_port()
        (folder / "acl" / name).mkdir(parents=True)
        self.users, self.log = folder / "acl" / name / "users.acl", folder / "log"
        text = (ROOT / f"deploy/redis/{name}.conf").read_text(encoding="utf-8")
        text = text.replace(f"/etc/redis/users/{name}/users.acl", str(self.users))
        text = text.replace("dir /data", f"dir {folder}")
        text = text.replace("include /etc/redis/limits.conf", f"include {ROOT}/deploy/redis/limits.conf")
        (folder / "redis.conf").write_text(f"{text}\nport {self.port}\nbind {HOST}\n", encoding="utf-8")

    def start(self, **env: str) -> None:
        with self.log.open("ab") as log:
            line = ["sh", str(ROOT / "deploy/redis/start.sh"), str(self.folder / "redis.conf")]
            self.spawn(line, cwd=self.folder, env={**os.environ, **env}, stdout=log, stderr=log)

    def client(self, **user: str) -> redis.Redis:
        return redis.Redis(HOST, self.port, retry=Retry(NoBackoff(), 0), decode_responses=True, **user)

    def answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def told(self, words: str) -> bool:
        return words in self.log.read_text(encoding="utf-8", errors="replace")


bus = opened(lambda tmp_path: Bus(tmp_path))


def test_what_transactions_and_scripts_wrote_is_there_after_a_crash(bus):
    bus.start()
    until(lambda: bus.told("waits for"))
    assert not bus.answers()
    bus.users.write_text(USERS, encoding="utf-8")
    until(bus.answers)
    with bus.client(username="writer", password="writing") as client:  # noqa: S106 - a made-up one
        client.set("plain", "1")
        client.pipeline(transaction=True).set("in one", "1").set("transaction", "1").execute()
        client.eval("redis.call('SET', KEYS[1], 1) redis.call('SET', KEYS[2], 1)", 2, "by a", "script")
        # while a disk is slow to sync, the server keeps what comes meanwhile in its memory
        until(lambda: client.info("persistence")["aof_buffer_length"] == 0, what="all on its disk")
    bus.kill()
    bus.start()
    until(bus.answers)
    with bus.client(username="writer", password="writing") as client:  # noqa: S106 - as above
        assert sorted(client.keys()) == ["by a", "in one", "plain", "script", "transaction"]
        assert client.info("server")["redis_mode"] == "standalone"
        limits = client.config_get("client-output-*")
        assert "pubsub 134217728 67108864 60" in limits["client-output-buffer-limit"]
    with bus.client() as nobody, pytest.raises(redis.exceptions.NoPermissionError):
        nobody.keys()
    loads = bus.log.read_text(encoding="utf-8").count("DB loaded from append only file")
    bus.kill()
    bus.start()
    until(bus.answers)
    after = bus.log.read_text(encoding="utf-8").count("DB loaded from append only file")
    assert (loads, after) == (2, 3), "nothing to fold: it is loaded once"


@pytest.mark.parametrize(("name", "keeps"), [("system-redis", 512 << 20), ("market-redis", 1 << 30)])
def test_each_keeps_half_of_what_its_container_may_take_and_its_clients_half_of_that(tmp_path, name, keeps):
    limit = size(filled_in(SERVICES[name]["mem_limit"]))
    with Bus(tmp_path, name) as bus:
        bus.users.write_text("user default on nopass +@all\n", encoding="utf-8")
        bus.start()
        until(bus.answers)
        with bus.client() as client:
            said = client.config_get("maxmemory*")
    assert (said["maxmemory"], said["maxmemory-policy"]) == (str(keeps), "noeviction")
    assert int(said["maxmemory-clients"]) * 2 == keeps
    assert keeps * 2 == limit


def test_what_the_market_of_500_stocks_takes_by_the_page_fits_market_redis():
    rows = [row for row in table("docs/services/sources.md", "Memory") if len(row) == 2]
    megabytes = [int(needs.removesuffix(" MB")) for _, needs in rows]
    assert f"These are {sum(megabytes)} MB" in section("docs/services/sources.md", "Memory")
    assert sum(megabytes) * 10**6 < size(filled_in(SERVICES["market-redis"]["mem_limit"])) / 2


def test_an_append_only_file_that_can_not_be_read_ends_it_with_words(bus):
    bus.users.write_text(USERS, encoding="utf-8")
    (bus.folder / "appendonlydir").mkdir()
    (bus.folder / "appendonlydir/appendonly.aof.manifest").write_text("file none seq 1 type i\n")
    (bus.folder / "appendonlydir/appendonly.aof.1.incr.aof").write_text("exec\n")
    bus.start()
    assert bus.wait(20) == 1
    assert bus.told("start.sh: the server that was to load the append-only file ended")


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "::", "[::]", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0", "::FFFF:0:0"],  # noqa: S104 - refused
)
def test_it_is_not_published_on_every_network_of_the_host_not_with_a_certificate_either(bus, address):
    pem = bus.folder / "tls.pem"
    pem.touch()
    bus.users.write_text(USERS.replace("on nopass", f"on #{64 * 'a'}"), encoding="utf-8")
    bus.start(MARKETSWARM_PUBLISH=address, TLS_PORT=str(free_port()), TLS_FILE=str(pem))
    assert bus.wait(20) == 2
    assert bus.told(f"MARKETSWARM_PUBLISH: {address} means every network of this machine")


@pytest.mark.needs("openssl")
def test_what_is_published_waits_until_everyone_needs_a_password_and_speaks_tls(bus):
    port = free_port()
    publish_certificate(bus.folder, "192.0.2.10")
    bus.users.write_text(USERS, encoding="utf-8")
    pem = str(bus.folder / SERVER_FILE)
    bus.start(MARKETSWARM_PUBLISH="192.0.2.10", TLS_PORT=str(port), TLS_FILE=pem)
    until(lambda: any("sleep" in command for _, command in descendants(bus.pid)), what="it to wait")
    assert bus.told("for a password of default")
    bus.users.write_text(USERS.replace("on nopass", f"on #{64 * 'a'}"), encoding="utf-8")
    with redis.Redis(
        HOST,
        port,
        ssl=True,
        ssl_ca_certs=str(bus.folder / "tls/certificate.pem"),
        username="writer",
        password="writing",  # noqa: S106 - as above
        retry=Retry(NoBackoff(), 0),
    ) as client:

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

        until(answers)
    with bus.client() as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()
