"""A witness as its own program: another program asks it by HTTP, kills it, and asks it again."""

import base64
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from services.signals.log.checkpoint import Checkpoint
from services.signals.log.merkle import append_entry, hash_entry, hash_span, list_consistency
from services.signals.log.note import SignatureKind, make_key, parse_note, parse_public_key, verify_note
from support.rig import HOST, Process, free_port
from support.waiting import until

ORIGIN = "log.example/signals"
COMMAND = [sys.executable, "-m", "marketswarm", "witness"]


@pytest.fixture
def log():
    return make_key(ORIGIN, SignatureKind.ED25519)


def make_nodes(count: int) -> dict:
    nodes: dict = {}
    for number in range(count):
        nodes.update(append_entry(number, nodes, hash_entry(b"%d" % number)))
    return nodes


def make_request(log, nodes, old: int, size: int) -> bytes:
    text = Checkpoint(ORIGIN, size, hash_span((0, size), nodes)).format()
    proof = [base64.b64encode(hash_span(span, nodes)).decode() for span in list_consistency(old, size)]
    return "\n".join([f"old {old}", *proof, "", ""]).encode() + text + b"\n" + log.sign(text).encode()


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


@pytest.fixture
def start(tmp_path, log) -> Iterator:
    running = []

    def run() -> tuple[Process, str]:
        process, port = Process(), free_port()
        args = ["--key-file", "w.key", "--store", "w.sqlite", "--log", str(log.public), "--port", str(port)]
        process.spawn([*COMMAND, "run", *args], cwd=tmp_path)
        running.append(process)
        until(lambda: answers(port), what="the witness to listen")
        return process, f"http://{HOST}:{port}"

    yield run
    for process in running:
        process.close()


def test_a_witness_that_is_killed_knows_what_it_cosigned(tmp_path, start, log):
    made = subprocess.run(
        [*COMMAND, "key", "witness.example/one", "w.key"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    key = parse_public_key(made.stdout)
    assert (tmp_path / "w.key").stat().st_mode & 0o777 == 0o600
    nodes = make_nodes(20)
    process, url = start()
    answer = httpx.post(f"{url}/add-checkpoint", content=make_request(log, nodes, 0, 7))
    assert answer.status_code == 200
    note = make_request(log, nodes, 0, 7).partition(b"\n\n")[2] + answer.content
    assert verify_note(parse_note(note), key)
    process.kill()
    _, url = start()
    stale = httpx.post(f"{url}/add-checkpoint", content=make_request(log, nodes, 0, 20))
    assert (stale.status_code, stale.text, stale.headers["content-type"]) == (409, "7\n", "text/x.tlog.size")
    assert httpx.post(f"{url}/add-checkpoint", content=make_request(log, nodes, 7, 20)).status_code == 200


def test_a_witness_answers_what_is_no_request_and_stops_as_it_is_asked(tmp_path, start):
    subprocess.run([*COMMAND, "key", "w", "w.key"], cwd=tmp_path, capture_output=True, check=True)
    process, url = start()
    assert httpx.get(f"{url}/healthz").text == "ok\n"
    assert httpx.get(f"{url}/add-checkpoint").status_code == 404
    assert httpx.post(f"{url}/add-checkpoint", content=b"nothing").status_code == 400
    assert httpx.post(f"{url}/add-checkpoint", content=b"x" * 100_000).status_code == 413
    assert process.stop() == 0


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["--key-file", "missing"], "--key-file: missing: No such file"),
        (["--log", "nothing"], "--log: is no public key"),
        (["--store", "/nowhere/w.sqlite"], "--store: /nowhere/w.sqlite can't be used"),
    ],
)
def test_a_witness_that_can_not_begin_says_which_option_is_wrong(tmp_path, log, args, error):
    subprocess.run([*COMMAND, "key", "w", "w.key"], cwd=tmp_path, capture_output=True, check=True)
    whole = {"--key-file": "w.key", "--store": "w.sqlite", "--log": str(log.public), "--port": "1"}
    whole |= dict([args])
    words = [word for pair in whole.items() for word in pair]
    ended = subprocess.run(
        [*COMMAND, "run", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert error in ended.stderr
    assert "Traceback" not in ended.stderr
