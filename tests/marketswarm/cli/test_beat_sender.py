"""Where a beat goes by the truth, and that no server's nonsense harms its sender."""

import asyncio
from contextlib import suppress

import orjson
import pytest

from marketswarm.bus import BusError
from marketswarm.cli import beat
from marketswarm.cli.beat import BeatSender, find_destination
from marketswarm.exit import Exit
from marketswarm.truth import Watch, parse_truth
from support.fuzz.replies import serving
from support.waiting import PATIENT_SEC

HEALER = {
    "access_points": {"subscribe_to": [{"bus": "market-redis", "key": "shell:heartbeat"}]},
    "threshold": {"heartbeat_cadence": 40},
}


def destination(services, svc):
    return find_destination(parse_truth(orjson.dumps({"services": services})).truth, svc, 30.0)


def test_a_service_beats_where_its_section_says():
    heartbeat = {
        "channel": "team:a",
        "interval_sec": 0.5,
        "timeout_sec": 90,
        "redis_url": "redis://market-redis:6379",
    }
    found = destination({"a": {"heartbeat": heartbeat}}, "a")
    assert found == (Watch("a", "market-redis", "team:a", 0.5, 90), True)
    assert destination({"a": {"heartbeat": {**heartbeat, "monitored": False}}}, "a") == found
    assert destination({"a": {"alert_on_failure": True}}, "a")[0].alert_on_failure


def test_one_that_the_healer_alone_knows_beats_where_the_healer_listens():
    found = destination({"healer": HEALER}, "shell")
    assert found == (Watch("shell", "market-redis", "shell:heartbeat", 40 / 3, 40), True)


def test_a_service_that_the_truth_does_not_know_has_the_defaults():
    assert destination({"b": {}}, "a") == (Watch("a", "system-redis", "a:heartbeat", 10, 30), False)
    assert destination({"healer": HEALER}, "a")[0].timeout_sec == 40
    assert find_destination(None, "a", 7.0) == (Watch("a", "system-redis", "a:heartbeat", 10, 7), False)


def test_a_url_may_come_from_a_file_and_a_wrong_one_is_named_without_its_value(tmp_path, monkeypatch):
    (tmp_path / "url").write_text("redis://:hunter2@127.0.0.1:7379\n", encoding="utf-8")
    monkeypatch.setenv("SYSTEM_REDIS_URL_FILE", str(tmp_path / "url"))
    assert BeatSender("a", tmp_path).where == "system-redis at 127.0.0.1:7379"
    monkeypatch.setenv("SYSTEM_REDIS_URL", "http://hunter2")
    with pytest.raises(Exit) as caught:
        BeatSender("a", tmp_path)
    assert caught.value.code == 2
    assert "SYSTEM_REDIS_URL" in caught.value.message
    assert "hunter2" not in caught.value.message


GARBAGE = {
    "a web server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "numbers": b":7\r\n" * 9,
    "nothing": b"$-1\r\n" * 9,
    "lists of lists": b"*1\r\n*1\r\n*1\r\n:1\r\n" * 9,
    "a text without end": b"$9999999999\r\n",
    "errors": b"-ERR no\r\n" * 9,
    "deep": b"*1\r\n" * 5000,
    "a truth that is none": b"$2\r\n[]\r\n" * 9,
    "silence": b"",
}


@pytest.mark.parametrize("reply", GARBAGE.values(), ids=GARBAGE)
async def test_whatever_a_server_answers_a_beat_is_sent_or_fails_in_time(tmp_path, monkeypatch, reply):
    async def answer(reader, writer):
        while await reader.read(65_536):
            writer.write(reply)
            await writer.drain()

    async with serving(answer) as url:
        monkeypatch.setenv("SYSTEM_REDIS_URL", url)
        monkeypatch.setenv("MARKET_REDIS_URL", url)
        monkeypatch.setattr(beat, "WITHIN_SEC", 0.3)
        sender = BeatSender("mesh", tmp_path)
        async with asyncio.timeout(PATIENT_SEC):
            await sender.refresh_truth()
            with suppress(BusError):
                assert await sender.publish() >= 0
        assert not sender.is_known
        await sender.aclose()
