"""Both buses over TLS, with an authority of one's own, client certificates, and a user for each program."""

import contextlib
import subprocess
import time

import orjson
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from marketswarm.bus import Bus, BusError
from marketswarm.cli.acl import acl
from support.pages import ROOT, blocks
from support.rig import HOST, Proc, Server, free_port
from support.rig.certificates import Authority
from support.waiting import until

pytestmark = pytest.mark.live

BUSES = ("system-redis", "market-redis")
TRUTH = {
    "services": {
        "prices": {"heartbeat": {"interval_sec": 0.3, "timeout_sec": 2}},
        "mesh": {"heartbeat": {"interval_sec": 0.5, "timeout_sec": 15}},
        "healer": {"heartbeat": {"interval_sec": 0.5}, "threshold": {"heartbeat_cadence": 15}},
    }
}


class Papers:
    """The certificates of a fleet, and of some who are not of it."""

    def __init__(self, folder):
        self.ours, self.other = Authority(folder / "ours"), Authority(folder / "other")
        self.server = self.ours.certificate("server")
        self.client = self.ours.certificate("client")

    def directives(self, port: int) -> dict[str, str]:
        """What makes a server ask everyone on `port` for a certificate of ours."""
        cert, key = self.server
        files = {"tls_cert_file": cert, "tls_key_file": key, "tls_ca_cert_file": self.ours.ca}
        return {"tls_port": str(port), "tls_auth_clients": "yes", **{k: str(v) for k, v in files.items()}}

    def url(self, port: int, client=None, ca=None, **more) -> str:
        """The URL for one who shows the certificate `client` (False: none) and trusts `ca`."""
        words = {"ssl_ca_certs": ca or self.ours.ca, **more}
        if client is not False:
            words["ssl_certfile"], words["ssl_keyfile"] = client or self.client
        return f"rediss://{HOST}:{port}?" + "&".join(f"{name}={value}" for name, value in words.items())


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture
def fleet(papers, tmp_path, monkeypatch):
    """Two such servers with users, and `fleet(user)`: what its processes find in their environment."""
    ports = {bus: free_port() for bus in BUSES}
    for bus, port in ports.items():
        monkeypatch.setenv(f"{bus.upper().replace('-', '_')}_URL", papers.url(port))
    truth, urls = tmp_path / "truth.json", tmp_path / "urls"
    truth.write_bytes(orjson.dumps(TRUTH))
    acl(truth, tmp_path / "secrets", tmp_path, urls, make_secrets=True)

    def environ(user: str) -> dict[str, str]:
        files = {f"{bus.upper().replace('-', '_')}_URL_FILE": str(urls / user / bus) for bus in BUSES}
        return {**files, "TRUTH_PATH": str(truth), "BOOTSTRAP_TIMEOUT_SEC": "20"}

    environ.folder, environ.urls = tmp_path, urls
    with contextlib.ExitStack() as ends:
        for bus, port in ports.items():
            ends.enter_context(Server(tmp_path / bus, aclfile="users.acl", **papers.directives(port)))
        yield environ


def client(fleet, user: str) -> redis.Redis:
    url = (fleet.urls / user / BUSES[0]).read_text().strip()
    return redis.Redis.from_url(url, decode_responses=True, retry=Retry(NoBackoff(), 0))


def said(of: redis.Redis, svc: str, kind: str) -> bool:
    raw = of.get(f"health:{svc}")
    return bool(raw) and orjson.loads(raw)["type"] == kind


def test_a_fleet_is_seeded_watched_and_looked_at_with_certificates_and_users(fleet):
    with contextlib.ExitStack() as ends:

        def run(module: str, user: str, *words: str) -> Proc:
            return ends.enter_context(Proc(module, fleet(user), fleet.folder, *words))

        assert run("bootstrap", "bootstrap").wait(30) == 0
        healer, mesh = run("healer", "healer"), run("services.mesh", "mesh")
        healer.wait_log("monitor.state_loaded", 20)
        prices, operator = (ends.enter_context(client(fleet, user)) for user in ("prices", "operator"))

        def beats() -> bool:
            prices.publish("prices:heartbeat", orjson.dumps({"svc": "prices", "i": 1, "ts": time.time()}))
            up = said(operator, "prices", "heartbeat_ok") and said(operator, "mesh", "heartbeat_ok")
            return up and "prices" in (operator.get("mesh:topology") or "")

        until(beats, what="both to be up, and mesh to have heard of it")
        until(lambda: said(operator, "prices", "heartbeat_miss"), what="the miss of who beats no more")

        def verdicts() -> dict[str, str]:
            status = run("marketswarm", "operator", "status", "--json")
            if status.wait(20):
                return {}
            return {row["svc"]: row["verdict"] for row in orjson.loads(status.text())["services"]}

        # a busy machine may not answer a handshake in time: then status does not know
        until(lambda: {"prices": "down", "mesh": "up"}.items() <= verdicts().items(), what="status to say so")
        for agent in (healer, mesh):
            assert not [line for line in agent.logs() if line.get("reason") in ("tls", "auth")], agent
        with pytest.raises(redis.exceptions.NoPermissionError):  # a certificate makes nobody another user
            prices.publish("mesh:heartbeat", "{}")


def test_who_shows_no_certificate_is_told_that_it_is_for_that(fleet):
    file = fleet.urls / "bootstrap" / BUSES[1]
    address, _, _ = file.read_text().partition("&ssl_certfile")
    file.write_text(address)
    with Proc("bootstrap", fleet("bootstrap"), fleet.folder) as bootstrap:
        # a busy machine may not end a handshake in time: then it is a timeout first
        refused = until(
            lambda: [line for line in bootstrap.logs("bus.waiting") if line["reason"] == "tls"],
            what=bootstrap.text,
        )
        waiting = refused[0]
        assert waiting["bus"] == BUSES[1]
        assert "client certificate" in waiting["detail"]
        assert bootstrap.stop() == 3
    assert "refused" not in bootstrap.text()


@pytest.fixture(scope="module")
def strict(papers, tmp_path_factory):
    port = free_port()
    with Server(tmp_path_factory.mktemp("strict"), **papers.directives(port)):
        yield port


REFUSED = {
    "no certificate": (lambda _: {"client": False}, "client certificate"),
    "of another authority": (lambda p: {"client": p.other.certificate("stranger")}, "client certificate"),
    "over": (lambda p: {"client": p.ours.certificate("late", days=-1)}, "client certificate"),
    "a server whose authority is another": (lambda p: {"ca": p.other.ca}, "verify failed"),
    "no such file": (lambda _: {"ssl_ca_certs": "/nowhere/ca.pem"}, "ssl_ca_certs.*can't be read"),
}


async def test_what_is_wrong_with_a_certificate_is_told_as_tls(papers, strict):
    for asked, words in REFUSED.values():
        url = papers.url(strict, **asked(papers))
        for _ in range(5):  # what the socket says first is chance
            await ping_is_refused_as_tls(url, words)


async def test_an_authority_of_the_system_does_not_count_beside_one_that_is_given(
    papers, strict, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(papers.ours.ca))
    await ping_is_refused_as_tls(papers.url(strict, ca=papers.other.ca), "verify failed")


async def ping_is_refused_as_tls(url, words):
    bus = Bus("market-redis", url)
    with pytest.raises(BusError, match=words) as caught:
        await bus.ask(bus.client.ping(), 10)
    assert caught.value.reason == "tls"
    await bus.aclose()


def test_certificates_as_the_page_makes_them_bear_the_strictest_look(tmp_path):
    [block] = [block for block in blocks(ROOT / "docs/security.md", "sh") if "openssl" in block]
    look = "openssl verify -x509_strict -CAfile ca.pem -verify_hostname system-redis server.pem"
    subprocess.run(["sh", "-euc", block + look], cwd=tmp_path, check=True, capture_output=True, timeout=30)


async def test_a_server_has_to_be_the_one_that_its_certificate_is_for(papers, tmp_path):
    port = free_port()
    cert, key = papers.ours.certificate("elsewhere", address="127.0.0.2")
    directives = papers.directives(port) | {"tls_cert_file": str(cert), "tls_key_file": str(key)}
    with Server(tmp_path / "server", **directives):
        await ping_is_refused_as_tls(papers.url(port), "not valid for")
