"""What is taken of a board's answers, whoever answers at its address."""

import pytest

from marketswarm.cli.board_reading import parse_parts, read_board
from marketswarm.net.http import HttpResponse


def test_the_parts_of_a_board_are_read_and_a_stranger_gets_none():
    gate = b'{"status": "ok", "age_sec": 2.5, "why": null, "name": null}'
    body = b'{"status": "ok", "uptime_sec": 1.0, "parts": {"gate": %s}}' % gate
    for status in (200, 503):
        found = parse_parts(HttpResponse(status, body))
        assert (found["gate"].status, found["gate"].age_sec) == ("ok", 2.5)
    assert parse_parts(HttpResponse(200, b'{"status": "ok", "parts": null}')) is None


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"{}"),
        (200, b"<html>"),
        (200, b"[" * 5000),
        (200, b'{"parts": {"gate": {"status": "fine"}}}'),
        (200, b'{"parts": {"gate": {"status": "ok", "age_sec": "x"}}}'),
        (200, b"\xff"),
    ],
)
def test_an_answer_that_is_no_health_is_refused(status, body):
    with pytest.raises(ValueError, match=r"status 404|no board"):
        parse_parts(HttpResponse(status, body))


@pytest.mark.live
async def test_a_board_that_does_not_listen_has_its_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("BOARD_PORT", "1")
    found = await read_board(tmp_path)
    assert (found.url, found.is_named, found.reason) == ("http://127.0.0.1:1", True, "refused")
