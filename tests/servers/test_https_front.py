"""HTTPS in front of a real board by deploy/caddy/Caddyfile: what a client with TLS gets through it."""

import contextlib
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from support.rig import Fleet, free_port
from support.rig.process import Process
from support.scenes.board import TRUTH
from support.waiting import until

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.live,
    pytest.mark.needs("caddy"),
    pytest.mark.nightly("tests/deploy/test_compose_file.py holds the overlay; Caddy may start late"),
]
NAME = "status.example"


class Front:
    """A board, and Caddy before it with a certificate of its own authority."""

    def __init__(self, fleet: Fleet, board: int, http: int, https: int, root: Path) -> None:
        self.fleet, self.board, self.http, self.https = fleet, board, http, https
        self.context = ssl.create_default_context(cafile=str(root))

    def client(self, source: str = "127.0.0.1", **headers: str) -> httpx.Client:
        """A client that knows Caddy's authority, at an address of this machine."""
        transport = httpx.HTTPTransport(verify=self.context, local_address=source)
        headers = {"Host": NAME, **headers}
        return httpx.Client(transport=transport, base_url=f"https://127.0.0.1:{self.https}", headers=headers)

    def ask(self, method: str, path: str, source: str = "127.0.0.1", **how) -> httpx.Response:
        headers = how.pop("headers", {})
        with self.client(source, **headers) as client:
            return client.request(method, path, extensions={"sni_hostname": NAME}, **how)

    def open_tls(self) -> ssl.SSLSocket:
        return self.context.wrap_socket(
            socket.create_connection(("127.0.0.1", self.https), 10), server_hostname=NAME
        )


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front")
    board, http, https = free_port(), free_port(), free_port()
    env = {
        "BOARD_PORT": str(board),
        "BOARD_PUBLIC_URL": f"https://{NAME}",
        "BOARD_TRUSTED_PROXIES": "127.0.0.1/32",
    }
    caddy_env = {
        "TLS_HTTP_PORT": str(http),
        "TLS_HTTPS_PORT": str(https),
        "TLS_NAME": NAME,
        "TLS_PUBLIC": NAME,
        "TLS_CERTIFICATE": "internal",
        "TLS_BOARD": f"127.0.0.1:{board}",
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "HOME": str(folder),
        "PATH": "/usr/bin:/bin",
    }
    config = ROOT / "deploy/caddy/Caddyfile"
    with Fleet(folder, TRUTH, ["healer", "board"], env) as fleet, contextlib.closing(Process()) as caddy:
        line = ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]
        caddy.spawn(line, env=caddy_env, cwd=folder, stderr=subprocess.DEVNULL)
        root = folder / "data/caddy/pki/authorities/local/root.crt"
        until(root.exists, what="the authority of Caddy")
        found = Front(fleet, board, http, https, root)

        def answers() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return found.ask("GET", "/readyz").status_code == 200
            return False

        until(answers, what="the board behind Caddy")
        yield found


def test_http_is_sent_to_https_under_our_own_name_and_a_browser_remembers_it(front: Front):
    plain = httpx.get(f"http://127.0.0.1:{front.http}/public?x=1", headers={"Host": "evil.example"})
    assert (plain.status_code, plain.headers["location"]) == (308, f"https://{NAME}/public?x=1")
    secure = front.ask("GET", "/")
    assert secure.status_code == 200
    assert secure.headers["strict-transport-security"] == "max-age=31536000"
    assert "default-src 'none'" in secure.headers["content-security-policy"]


def test_what_a_client_says_of_its_address_is_dropped_and_its_own_is_recorded(front: Front):
    claimed = {"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.8"}
    assert front.ask("GET", "/api/v1/services", headers={"X-Forwarded-For": "203.0.113.7"}).status_code == 200
    wrong = {"Authorization": "Bearer wrong", **claimed}
    assert front.ask("POST", "/api/v1/silences", "127.0.0.9", headers=wrong, json={}).status_code == 401
    refused = front.fleet["board"].wait_log("board.token_refused")
    assert refused["client"] == "127.0.0.9"


def test_a_stream_comes_as_it_is_written(front: Front):
    with (
        front.client() as client,
        client.stream("GET", "/api/v1/stream", extensions={"sni_hostname": NAME}, timeout=20) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        kinds = (line for line in answer.iter_lines() if line.startswith("event:"))
        assert next(kinds) == "event: reset"
        assert next(kinds)  # a later one, while the answer goes on


def test_a_websocket_is_upgraded(front: Front):
    plain = socket.create_connection(("127.0.0.1", front.https), 10)
    with connect(f"wss://{NAME}/ws", sock=plain, ssl=front.context, server_hostname=NAME) as followed:
        assert followed.response.status_code == 101
        assert json.loads(followed.recv(10))["type"] == "hello"


def test_a_body_over_the_limit_gets_413(front: Front):
    # the board answers before it has the whole; it reads on until the proxy has the answer
    for path, size in (("/api/v1/silences", 70_000), ("/api/v1/truth", 5_000_000)):
        assert front.ask("POST", path, content=b"x" * size).status_code == 413


def test_a_client_that_sends_its_request_slowly_is_let_go_and_others_are_answered(front: Front):
    with front.open_tls() as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: ")
        begun = time.monotonic()
        slow.settimeout(30)
        assert front.ask("GET", "/readyz").status_code == 200
        while slow.recv(1000):
            pass
        assert time.monotonic() - begun < 25
