"""Everything else through apprise: its own addresses, each of which is told once, whatever others do."""

import subprocess
import sys
import threading
from contextlib import suppress

import orjson
import pytest
import requests

from marketswarm.channels import ChannelError, SendError
from marketswarm.channels.apprise import Apprise, neutralize_markup, render_notification
from marketswarm.channels.registry import create_channel
from support.channel_kinds import refused_for
from support.channel_messages import CASES, HOSTILE, MISS, agrees, group_of, hostile
from support.rig.process import free_port
from support.rig.receiver import Answer, Receiver
from support.waiting import auntil


def test_what_we_say_ourselves_stays_as_it_is():
    for text in ("rss_agg is down", "no beat for 31.2 s (timeout 30 s)", "at 12:50:58", "a-b: c", "bus a.b"):
        assert neutralize_markup(text) == text


def test_it_stays_as_long_as_it_was():
    assert all(len(neutralize_markup(name)) == len(name) for name in HOSTILE)
    assert neutralize_markup("__x__ _y") == "＿＿x＿＿ ＿y"  # noqa: RUF001 - they look alike


def test_a_body_keeps_to_its_room_and_counts_what_it_leaves_out():
    for room in (160, 500, 2000, 20_000):
        for message in (*CASES.values(), group_of([f"worker_{n}" for n in range(200)])):
            body = render_notification(message, room)["body"]
            assert len(body) <= room
            left_out = len(message.lines) - body.count("worker_")
            assert not left_out or f"and {left_out} more" in body


def test_each_sort_of_news_is_one_of_theirs():
    assert [render_notification(CASES[case], 1000)["notify_type"] for case in ("miss", "ok", "group")] == [
        "warning",
        "success",
        "failure",
    ]
    assert render_notification(MISS, 1000)["title"] == MISS.title


# its plugins import what Python has deprecated
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def posts(monkeypatch):
    """Stands for the network of the library's client, `requests`: keeps what is sent, and accepts it."""
    sent = []

    def send(_adapter, request, **_options):
        sent.append(request)
        answer = requests.Response()
        answer.status_code = 200
        return answer

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    return sent


def create_for(urls: str) -> Apprise:
    made = create_channel("apprise", "night", {"urls": urls})
    assert isinstance(made, Apprise)
    return made


@pytest.mark.slow
async def test_what_is_sent_is_that_of_its_golden_file(posts):
    for case, message in CASES.items():
        assert (await create_for("json://127.0.0.1/s3cret").send(message)).answer == "accepted"
        agrees("apprise", case, posts[-1].body)


async def test_what_a_stranger_is_called_formats_nothing_in_any_form(posts):
    for form in ("text", "markdown", "html"):
        made = create_for(f"json://127.0.0.1/s3cret?format={form}")
        for name in HOSTILE:
            await made.send(hostile(name))
            sent = orjson.loads(posts[-1].body)
            shown = sent["title"] + sent["message"].replace("<br/>", "").replace("&nbsp;", " ")
            assert not set(shown) & set("<>@*`~|[]#&")


async def test_addresses_may_be_separated_as_one_likes(posts):
    made = create_for("json://127.0.0.1:1/a,b ,\n json://127.0.0.1:2/c, ")
    await made.send(MISS)
    urls = {request.url for request in posts}
    assert urls == {"http://127.0.0.1:1/a%2Cb", "http://127.0.0.1:2/c"}
    assert (made.name, made.where) == ("night", "JSON")


async def test_each_address_is_told_and_of_those_that_were_none_again():
    with Receiver() as well, Receiver(500) as ill:
        both = create_for(" ".join(f"json://127.0.0.1:{one.port}/s3cret" for one in (well, ill)))
        assert await refused_for(both) == ("not accepted by 1 of 2", False)
        assert (await both.send(MISS)).answer == "accepted"
        assert (len(well.seen), len(ill.seen)) == (1, 2)
        await both.send(MISS)  # somebody means it
        assert (len(well.seen), len(ill.seen)) == (2, 3)


@pytest.fixture
def hanging(monkeypatch, posts):
    """Keep what is sent to /ill waiting, on the wire, until the event is set."""
    accept, released = requests.adapters.HTTPAdapter.send, threading.Event()

    def send(adapter, request, **options):
        answer = accept(adapter, request, **options)
        if request.url.endswith("/ill"):
            released.wait()
        return answer

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    yield released
    released.set()


async def test_one_that_hangs_keeps_nothing_from_the_others_and_no_second_thread_hangs_there(posts, hanging):
    both = create_for("json://127.0.0.1/well json://127.0.0.1/ill")
    both.within_sec = 0.05
    assert await refused_for(both) == ("timeout", False)

    async def only_one_left():
        return await refused_for(both) == ("not accepted by 1 of 2", False)

    await auntil(only_one_left, what="the other address to accept")
    assert sorted(request.path_url for request in posts) == ["/ill", "/well"]


async def test_what_is_accepted_late_is_not_sent_again(posts, hanging):
    slow = create_for("json://127.0.0.1/ill")
    slow.within_sec = 0.05
    assert await refused_for(slow) == ("timeout", False)
    hanging.set()

    async def accepted():
        with suppress(SendError):
            return (await slow.send(MISS)).answer == "accepted"

    await auntil(accepted, what="the late answer")
    assert len(posts) == 1


async def test_nobody_there_is_said_without_the_address(capsys, caplog):
    made = create_for(f"json://me:hunter2@127.0.0.1:{free_port()}/s3cret")
    assert await refused_for(made) == ("not accepted by 1 of 1", False)
    shown = "".join(capsys.readouterr())
    assert "s3cret" not in shown
    assert "hunter2" not in shown
    assert [record for record in caplog.records if record.name.startswith("apprise")] == []


@pytest.mark.parametrize(
    "urls", ["", "hunter2", "no-such-kind://hunter2", "json://127.0.0.1 discord://hunter2"]
)
def test_an_address_that_is_none_is_named_by_its_place_alone(urls, capsys):
    with pytest.raises(
        ChannelError, match=r"night: urls: the address at [12] is not one that apprise knows"
    ) as caught:
        create_channel("apprise", "night", {"urls": urls})
    assert "hunter2" not in str(caught.value) + "".join(capsys.readouterr())


def test_without_the_library_it_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ChannelError, match=r"pip install 'marketswarm\[apprise\]'"):
        create_channel("apprise", "night", {"urls": "json://127.0.0.1"})


def test_a_program_ends_while_one_hangs():
    """Threads that the library makes by itself would be waited for."""
    source = """
import asyncio, sys
from marketswarm.channels import SendError, Message, Severity
from marketswarm.channels.apprise import Options, create_apprise

async def main():
    made = create_apprise("apprise", Options(urls=sys.argv[1]))
    made.within_sec = 0.2
    try:
        await made.send(Message("a", "t", "t", Severity.INFO, 0.0))
    except SendError as error:
        print(error)

asyncio.run(main())
"""
    with Receiver(Answer(hang=True)) as receiver:
        line = [sys.executable, "-c", source, f"json://127.0.0.1:{receiver.port}/?rto=60"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "timeout\n"
