import logging
import subprocess
import sys
from types import SimpleNamespace

import orjson
import pytest
import structlog

from marketswarm import log
from marketswarm.settings import CommonSettings


@pytest.fixture
def lines(capsysbinary):
    root = logging.getLogger()
    before = (root.handlers, root.level)
    yield lambda: [orjson.loads(line) for line in capsysbinary.readouterr().err.splitlines()]
    root.handlers, root.level = before
    structlog.reset_defaults()


def configured(**settings):
    log.configure("tester", CommonSettings(log_format="json", **settings))


def test_a_line_is_one_json_object_with_the_known_keys_first(lines):
    configured()
    log.get("tester").info("service.down", svc="mesh", late_sec=31.2)
    (line,) = lines()
    assert list(line) == ["ts", "level", "event", "agent", "svc", "late_sec"]
    assert (line["level"], line["event"], line["agent"]) == ("info", "service.down", "tester")
    assert line["ts"].endswith("Z")
    assert len(line["ts"]) == len("2025-11-06T12:50:58.300Z")


def test_another_part_names_itself(lines):
    configured()
    log.get("truth").info("a.b")
    assert lines()[0]["part"] == "truth"


def test_what_is_below_the_level_is_not_said(lines):
    configured(log_level="WARNING")
    log.get().info("quiet")
    log.get().warning("loud")
    assert [line["event"] for line in lines()] == ["loud"]


def test_a_traceback_stays_in_its_line(lines):
    configured()
    try:
        int("redis://me:hunter2@host")
    except ValueError:
        log.get().exception("boom")
    (line,) = lines()
    assert "ValueError: invalid literal for int() with base 10: 'redis://host'" in line["exception"]
    assert "Traceback" in line["exception"]


@pytest.mark.parametrize(
    "value",
    [
        "redis://me:hunter2@host:1/0",
        "see https://:hunter2@host/x for more",
        ["rediss://hunter2@host"],
        {"url": "redis://me:hunter2@host"},
        ValueError("redis://me:hunter2@host"),
        ("a", ("redis://me:hunter2@host",)),
    ],
)
def test_no_credential_gets_through(lines, value):
    configured()
    log.get().info("a.b", value=value)
    (line,) = lines()
    assert "hunter2" not in str(line)
    assert "host" in str(line)


@pytest.mark.parametrize(
    "value", ["\ud800", 2**80, object(), {1: {2: b"\xff"}}, float("nan"), {"a": "\udcff"}]
)
def test_no_value_keeps_a_line_from_being_written(lines, value):
    configured()
    log.get().info("odd", value=value, other=1)
    assert lines()[0]["event"] == "odd"


def test_a_librarys_warning_becomes_an_event_and_its_chatter_is_dropped(lines):
    configured(log_level="DEBUG")
    logging.getLogger("httpx").info("GET https://hooks/secret")
    logging.getLogger("asyncio").warning("slow %s of %s", "callback", "redis://a:hunter2@b")
    logging.getLogger("odd").error("%d", "no number")
    first, second = lines()
    assert (first["event"], first["source"]) == ("library.message", "asyncio")
    assert first["message"] == "slow callback of redis://b"
    assert second["message"] == "%d"


def test_a_reader_who_went_away_is_no_accident(monkeypatch, lines):
    class Gone:
        def write(self, _data):
            raise BrokenPipeError

    configured()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", SimpleNamespace(buffer=Gone()))
        log.get().error("nobody.hears")
    log.get().error("somebody.hears")
    assert [line["event"] for line in lines()] == ["somebody.hears"]


def test_the_console_form_is_for_people(lines, capsysbinary):
    log.configure("tester", CommonSettings(log_format="console"))
    log.get("tester").info("a.b", svc="x")
    said = capsysbinary.readouterr().err
    assert b"a.b" in said
    assert not said.startswith(b"{")


def test_a_strangers_words_steer_no_terminal_whatever_the_format(capsys):
    evil = "\x1b[2J\x9b31m\u202egnp\x7f\nforged"
    for form in ("console", "json"):
        log.configure("rss_agg", CommonSettings(log_format=form))
        log.get().warning("beat.malformed", boot=evil, all=[evil], by={evil: evil}, error=ValueError(evil))
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert said.rstrip("\n").isprintable(), said
        assert r"\u202e" in said


def test_an_agent_that_logs_has_no_rich_in_memory():
    code = "import healer.watch, notifier.app, sentinel.watch, sys\nfrom marketswarm import log\n"
    code += "log.configure('healer'); assert 'structlog' in sys.modules and 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
