"""HTTPS in front of a fleet in containers, by `make up TLS=1`: Caddy as in its image, and real clients."""

import json
import random
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from support.rig.compose import AGENTS, HOST, Project, patiently
from support.rig.process import free_port

NAME = "status.example"
# Debian's Caddy with what the official image does to it: the folder of its data belongs to root, and the
# program has the capability to listen at ports below 1024.
IMAGE = """FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends caddy libcap2-bin \\
 && setcap cap_net_bind_service=+ep /usr/bin/caddy && mkdir -p /data/caddy
"""
pytestmark = pytest.mark.nightly("tests/servers/test_https_front.py has the same Caddyfile without an engine")


class Front:
    """A fleet with Caddy before its board, and a client that trusts Caddy's authority."""

    def __init__(self, fleet: Project, port: int, http: int) -> None:
        self.fleet, self.port, self.http = fleet, port, http
        root = patiently(self._read_authority, 60, "the authority of Caddy")
        self.context = ssl.create_default_context(cadata=root)

    def _read_authority(self) -> str:
        line = ("exec", "-T", "front", "cat", "/data/caddy/pki/authorities/local/root.crt")
        return self.fleet.run("docker", "compose", *line, check=False).stdout

    def ask(self, path: str, **headers: str) -> httpx.Response:
        transport = httpx.HTTPTransport(verify=self.context)
        with httpx.Client(transport=transport, base_url=f"https://{HOST}:{self.port}") as client:
            request = {"headers": {"Host": NAME, **headers}, "extensions": {"sni_hostname": NAME}}
            return client.get(path, **request)

    def is_ready(self) -> bool:
        try:
            return self.ask("/readyz").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


@pytest.fixture
def front(engine: None, tmp_path: Path) -> Iterator[Front]:
    with Project(tmp_path) as fleet:
        image = f"caddy:{fleet.name}"
        subprocess.run(
            ["docker", "build", "-q", "-t", image, "-"], input=IMAGE.encode(), check=True, timeout=300
        )
        http, https = free_port(), free_port()
        subnet = f"172.31.{random.SystemRandom().randrange(200, 253)}.0/29"
        fleet.env |= {
            "TLS_NAME": NAME,
            "TLS_HTTP": str(http),
            "TLS_HTTPS": str(https),
            "TLS_NETWORK": subnet,
            "CADDY_IMAGE": image,
        }
        try:
            fleet.make("up", "TLS=1", within=280)
            fleet.env["COMPOSE_FILE"] = "compose.yaml:compose.tls.yaml"
            yield Front(fleet, https, http)
        finally:
            fleet.close()
            subprocess.run(["docker", "rmi", "-f", image], capture_output=True, check=False, timeout=60)


def test_clients_come_in_over_https_alone_and_the_board_knows_who_they_are(front):
    patiently(front.is_ready, 60, "the board behind Caddy")
    redirected_and_remembered(front)
    who_reads_needs_a_token(front)
    a_socket_gets_what_is_new(front)
    a_restart_keeps_the_authority(front)


def redirected_and_remembered(front: Front) -> None:
    plain = httpx.get(f"http://{HOST}:{front.http}/public", headers={"Host": "evil.example"})
    assert (plain.status_code, plain.headers["location"]) == (308, f"https://{NAME}/public")
    assert front.ask("/healthz").headers["strict-transport-security"] == "max-age=31536000"
    assert set(AGENTS) <= set(front.fleet.containers())


def who_reads_needs_a_token(front: Front) -> None:
    assert front.ask("/api/v1/fleet").status_code == httpx.codes.UNAUTHORIZED
    claimed = {"Forwarded": "for=127.0.0.1", "X-Forwarded-For": "127.0.0.1"}
    assert front.ask("/api/v1/fleet", **claimed).status_code == httpx.codes.UNAUTHORIZED
    assert front.ask("/api/v1/fleet", **bearer(front)).status_code == httpx.codes.OK


def bearer(front: Front) -> dict[str, str]:
    token = front.fleet.compose("run", "--rm", "operator", "token", "create", "reader").strip()
    return {"Authorization": f"Bearer {token}"}


def a_socket_gets_what_is_new(front: Front) -> None:
    plain = socket.create_connection((HOST, front.port), 10)
    secure = {"ssl": front.context, "server_hostname": NAME}
    with connect(f"wss://{NAME}/ws", sock=plain, additional_headers=bearer(front), **secure) as client:
        assert json.loads(client.recv(20))["type"] == "hello"


def a_restart_keeps_the_authority(front: Front) -> None:
    front.fleet["front"].kill()
    patiently(front.is_ready, 60, "Caddy to be back under the same authority")
