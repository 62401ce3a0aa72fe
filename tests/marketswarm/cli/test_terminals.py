"""What a stranger writes into a bus steers no terminal: each command that shows it."""

import orjson
import pytest

from marketswarm.channels.message import Message, Severity, encode_message
from marketswarm.keys import NOTIFIER_DEAD
from support.rig import Server
from support.waiting import PATIENT_SEC

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp\nall is well"
SHOWN = r"\x1b"
ROOMY = "400"
MISS = {"type": "heartbeat_miss", "svc": EVIL, "late_sec": 31.2, "timeout_sec": 30, "ts": 1}


def write_evil(server: Server) -> None:
    """Put it wherever somebody else's words are shown."""
    beat = {"svc": "rss_agg", "i": 3, "ts": 1, "boot": EVIL, "status": EVIL, "detail": EVIL, "host": EVIL}
    server.cmd("SET", "beat:rss_agg", orjson.dumps(beat), "PX", 59_000)
    server.cmd("HSET", "healer:roster", "rss_agg", orjson.dumps({"verdict": EVIL}))
    server.cmd("HSET", "healer:lease", "boot", EVIL, "epoch", "1", "until", "1")
    server.cmd("SET", "health:rss_agg", orjson.dumps(MISS))
    server.cmd("SET", "run:rss_agg", orjson.dumps({"said": EVIL, "ts": 1}))
    instance = {"boot": EVIL, "host": EVIL, "version": EVIL, "status": EVIL, "detail": EVIL, "rev": 1}
    topology = {
        "kept_sec": 86_400,
        "ts": 1.0,
        "services": {"rss_agg": {"instances": [instance]}},
        "strangers": [EVIL],
    }
    server.cmd("SET", "mesh:topology", orjson.dumps(topology), "PX", 86_399_000)
    message = encode_message(Message("m1", EVIL, EVIL, Severity.WARNING, 1.0))
    server.cmd("XADD", NOTIFIER_DEAD, "*", "message", message, "channel", EVIL, "reason", EVIL, "ts", "1")
    server.cmd("XADD", "healer:alerts:log", "*", "event", orjson.dumps(MISS))


def steers_nothing(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n")) and "\nall is well" not in text


@pytest.mark.parametrize("words", [["status"], ["health"], ["topology"], ["dead"]])
def test_a_strangers_words_are_shown_as_escapes(shell, seeded, words):
    write_evil(seeded[0])
    said = shell(*words, COLUMNS=ROOMY)
    assert said.returncode == 0, said.stderr
    assert steers_nothing(said.stdout), said.stdout
    assert SHOWN in said.stdout


def test_alerts_are_followed_without_being_steered(shell, seeded):
    write_evil(seeded[0])
    with shell.start("alerts", "--since", "1h") as alerts:
        line = alerts.stdout.readline()
        alerts.send_signal(2)
        assert alerts.wait(PATIENT_SEC) == 0
    assert steers_nothing(line)
    assert SHOWN in line


def test_an_error_that_quotes_a_stranger_steers_nothing(shell, seeded):
    said = shell("health", EVIL.replace("\n", ""))
    assert said.returncode == 2
    assert steers_nothing(said.stderr)
