"""HTTP over a Unix socket whose server may send anything, at any time, or nothing."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from services.medic.owners.socket_http import KEPT, SocketHttpClient, SocketHttpError

pytestmark = pytest.mark.live

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"


@pytest.fixture
async def site(tmp_path):
    """A server: each request gets the next of `answers`, or the last one; at None it closes."""
    site = SimpleNamespace(answers=[OK], asked=[], connections=0, path=tmp_path / "s")

    async def serve(reader, writer):
        site.connections += 1
        try:
            while True:
                site.asked.append(await reader.readuntil(b"\r\n\r\n"))
                answer = site.answers.pop(0) if len(site.answers) > 1 else site.answers[0]
                if answer is None:
                    break
                if answer == "wait":
                    await asyncio.sleep(60)
                if isinstance(answer, bytes):
                    writer.write(answer)
                    continue
                for part in answer:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
                break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, site.path)
    site.client = SocketHttpClient(site.path)
    yield site
    site.client.close()
    server.close()


async def fetch(site, method="GET", path="/x", within_sec=5.0, max_bytes=1000):
    return await site.client.fetch(method, path, within_sec=within_sec, max_bytes=max_bytes)


async def fails(site, **more):
    with pytest.raises(SocketHttpError) as raised:
        await fetch(site, **more)
    return raised.value.reason


async def test_requests_go_over_one_connection_after_the_other_and_a_few_stay_open(site):
    for answer in (OK, CHUNKED, b"HTTP/1.1 204 No Content\r\n\r\n"):
        site.answers = [answer]
        await fetch(site)
    assert site.connections == 1
    assert [each.split(b"\r\n")[0] for each in site.asked] == [b"GET /x HTTP/1.1"] * 3
    site.answers = [OK]
    await asyncio.gather(*(fetch(site) for _ in range(3 * KEPT)))
    before = site.connections
    await asyncio.gather(*(fetch(site) for _ in range(KEPT)))
    assert site.connections == before


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OK, 200, b"hi"),
        (CHUNKED, 200, b"abcdefg"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403, b""),
        ([bytes([each]) for each in CHUNKED], 200, b"abcdefg"),
        (OK + OK, 200, b"hi"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 100, b""),
    ],
    ids=["whole", "chunked", "empty", "refused", "byte by byte", "two answers", "not the answer yet"],
)
async def test_the_answer_to_a_request_is_one_whatever_comes_after_it(site, answer, status, body):
    site.answers = [answer]
    found = await fetch(site)
    assert (found.status, found.body) == (status, body)
    site.answers = [OK]
    assert (await fetch(site)).body == b"hi", "what came beside the answer is not taken for the next one"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "broken"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"], "broken"),
        ([b"HTTP/1.1 200 OK\r\n\r\nuntil it closes"], "broken"),
        ([b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"], "broken"),
        ([b"junk\r\n\r\n"], "broken"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"], "broken"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"], "broken"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", b"x" * 1001], "too_long"),
        ([b"HTTP/1.1 200 OK\r\n", *[b"X: " + b"y" * 1000 + b"\r\n"] * 1000], "too_long"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 1001], "too_long"),
        ("wait", "timeout"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_an_answer_that_is_none_or_too_long_or_too_late_has_a_reason_and_is_not_read_on(
    site, answer, reason
):
    site.answers = [answer]
    assert await fails(site, within_sec=0.3 if reason == "timeout" else 5.0) == reason
    site.answers = [OK]
    assert (await fetch(site)).body == b"hi"
    assert site.connections == 2, "the connection of a bad answer is not used again"


@pytest.mark.parametrize("beside", [OK, OK[:30], b"x"], ids=["an answer", "its beginning", "junk"])
async def test_a_connection_with_more_than_was_asked_for_is_not_used_again(site, beside):
    site.answers = [OK + beside]
    with contextlib.suppress(SocketHttpError):
        await fetch(site)
    site.answers = [OK]
    assert (await fetch(site)).body == b"hi"
    assert site.connections == 2


async def test_a_get_whose_kept_connection_was_closed_is_sent_once_more_and_nothing_else_is(site):
    await fetch(site)
    site.answers = [None, OK]
    assert (await fetch(site)).body == b"hi"
    assert len(site.asked) == 3
    site.answers = [None, OK]
    assert await fails(site, method="POST") == "broken"
    assert len(site.asked) == 4, "whether it was followed is not known"
    assert b"Content-Length: 0" in site.asked[-1]


async def test_a_socket_that_is_not_there_or_not_served_refuses(site, tmp_path):
    (tmp_path / "file").touch()
    for name in ("none", "file"):
        site.client = SocketHttpClient(tmp_path / name)
        assert await fails(site) == "refused"


async def test_a_request_that_is_cancelled_leaves_no_connection_to_the_next_one(site):
    site.answers = ["wait"]
    task = asyncio.create_task(fetch(site))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    site.answers = [OK]
    assert (await fetch(site)).body == b"hi"
    assert site.connections == 2
