"""signals in a fleet whose witness refuses: what its leader finds reaches people over healer and notifier."""

import base64

import httpx
import pytest

from marketswarm.access.passwords import DATABASE_SIGNALS
from services.signals.key_file import make_key_file, read_key_file
from services.signals.log.checkpoint import Checkpoint
from services.signals.log.merkle import append_entry, hash_entry, hash_span, list_consistency
from services.signals.log.note import SignatureKind
from support.rig import HOST, Fleet, Proc, free_port
from support.rig.receiver import Receiver
from support.waiting import until

ORIGIN = "log.example/signals"
WITNESS = "witness.example/one"
BEATS = {"interval_sec": 0.3, "timeout_sec": 10}
WITHIN_SEC = 90


def make_truth(witness_url, witness_key):
    voters = [{"voter": name, "rule": name, "weight": 1} for name in ("trend", "breakout")]
    settings = {
        "cycle_sec": 1,  # so that a log of 200 entries is ahead for as long as the test takes
        "symbols": ["BTC/USD"],
        "origin": ORIGIN,
        "checkpoint_sec": 1,
        "witness": {"url": witness_url, "key": witness_key},
    }
    return {
        "services": {
            "healer": {"heartbeat": BEATS},
            "signals": {"heartbeat": BEATS, "endpoints": voters, "settings": settings},
            "notifier": {"heartbeat": BEATS, "settings": {"group_wait_sec": 0.2}},
        }
    }


class RefusingWitness:
    """A witness that runs, and the file of the key of the one log that it watches."""

    def __init__(self, folder):
        self.key_file, self.port = folder / "log.key", free_port()
        self.url = f"http://{HOST}:{self.port}"
        log = make_key_file(self.key_file, ORIGIN, SignatureKind.ED25519)
        self.public = str(make_key_file(folder / "w.key", WITNESS, SignatureKind.COSIGNATURE))
        words = ["--key-file", "w.key", "--store", "w.sqlite", "--log", str(log), "--port", str(self.port)]
        self.process = Proc("marketswarm", {}, folder, "witness", "run", *words)

    def __enter__(self):
        until(self.answers, what=lambda: f"a witness that listens: {self.process}")
        return self

    def __exit__(self, *about):
        self.process.close()

    def answers(self):
        try:
            return httpx.get(f"{self.url}/healthz").is_success
        except httpx.TransportError:
            return False

    def cosign_another_log(self, size):
        """Have it cosign a log of the same name and key whose entries are others than those of signals."""
        nodes = {}
        for number in range(size):
            nodes.update(append_entry(number, nodes, hash_entry(b"another %d" % number)))
        text = Checkpoint(ORIGIN, size, hash_span((0, size), nodes)).format()
        proof = [base64.b64encode(hash_span(span, nodes)).decode() for span in list_consistency(0, size)]
        signature = read_key_file(self.key_file, SignatureKind.ED25519).sign(text).encode()
        body = "\n".join(["old 0", *proof, "", ""]).encode() + text + b"\n" + signature
        answer = httpx.post(f"{self.url}/add-checkpoint", content=body)
        assert answer.status_code == 200, answer.text


@pytest.fixture
def witness(tmp_path):
    with RefusingWitness(tmp_path) as running:
        yield running


@pytest.fixture
def signals_url(postgres, archive_url):
    return postgres.url_as(DATABASE_SIGNALS, archive_url)


@pytest.mark.parametrize(("size", "reason"), [(1, "bad_proof"), (200, "witness_ahead")])
def test_people_are_told_that_the_witness_refuses(tmp_path, signals_url, witness, size, reason):
    witness.cosign_another_log(size)
    with Receiver() as receiver:
        env = {
            "WEBHOOK_URL": receiver.url,
            "SIGNALS_DATABASE_URL": signals_url,
            "SIGNALS_LOG_KEY_FILE": str(witness.key_file),
        }
        agents = ["healer", "notifier", "signals"]
        with Fleet(tmp_path / "fleet", make_truth(witness.url, witness.public), agents, env) as fleet:
            try:
                event = receiver.wait("signals_miss", "signals/witness", WITHIN_SEC)
            except AssertionError:
                raise AssertionError(f"{fleet['signals']}; {fleet['healer']}; {fleet['notifier']}") from None
            (message,) = [each for each in receiver.seen if event in each.data["events"]]
            assert (event["severity"], event["by"]) == ("critical", "signals")
            assert event["reason"] == f"the witness refuses: {reason}"
            assert "signals/witness" in message.data["title"]
            assert f"the witness refuses: {reason}" in message.data["text"]
            (first,) = [line["why"] for line in fleet["signals"].logs("witness.not_cosigned")]
            assert not fleet["signals"].logs("ticks.stopped"), f"ticks go on, whatever it says: {first}"
