"""Everything else through apprise: real addresses of its own, and a receiver that answers as they do."""

import asyncio
import subprocess
import sys

import orjson
import pytest
from pydantic import SecretStr

from marketswarm.channels import ChannelError, SendError
from marketswarm.channels.apprise import Apprise, Options, create, neutralize_markup, render_notification
from marketswarm.channels.registry import create_channel
from support.channel_messages import CASES, GROUP, HOSTILE, MISS, agrees, hostile
from support.rig.process import free_port
from support.rig.receiver import Answer, Receiver
from support.waiting import Stopwatch


@pytest.mark.parametrize("name", HOSTILE)
def test_of_what_a_stranger_is_called_nothing_is_live_any_more(name):
    for text in render_notification(hostile(name), 10_000).values():
        assert not set(text) & set("<>@*`~|[]#&\\{}")
        assert ":rotating" not in text
        assert " _" not in text
        assert "_ " not in text
        text.encode()


@pytest.mark.parametrize(
    "text", ["rss_agg is down", "no beat for 31.2 s (timeout 30 s)", "at 12:50:58", "a-b: c", "bus a.b"]
)
def test_what_we_say_ourselves_stays_as_it_is(text):
    assert neutralize_markup(text) == text


def test_it_stays_as_long_as_it_was():
    assert all(len(neutralize_markup(name)) == len(name) for name in HOSTILE)
    assert neutralize_markup("__x__ _y") == "＿＿x＿＿ ＿y"  # noqa: RUF001 - they look alike


@pytest.mark.parametrize("room", [160, 500, 2000, 20_000])
@pytest.mark.parametrize("case", CASES)
def test_a_body_keeps_to_its_room_and_counts_what_it_leaves_out(case, room):
    body = render_notification(CASES[case], room)["body"]
    assert len(body) <= room
    left_out = len(CASES[case].lines) - body.count("worker_")
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


def channel(*receivers: Receiver, more: str = "", within_sec: float = 10.0) -> Apprise:
    urls = " ".join(f"json://127.0.0.1:{receiver.port}/s3cret{more}" for receiver in receivers)
    made = create("apprise", Options(urls=SecretStr(urls)))
    assert isinstance(made, Apprise)
    made.within_sec = within_sec
    return made


async def refused(channel: Apprise) -> tuple[str, bool]:
    with pytest.raises(SendError) as caught:
        await channel.send(MISS)
    assert "s3cret" not in repr(caught.value)
    return caught.value.reason, caught.value.is_permanent


@pytest.mark.parametrize("case", CASES)
async def test_what_is_sent_is_that_of_its_golden_file(case):
    with Receiver() as receiver:
        assert (await channel(receiver).send(CASES[case])).answer == "accepted"
        agrees("apprise", case, receiver.seen[0].body)


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
@pytest.mark.parametrize("name", HOSTILE[:13])
async def test_what_a_stranger_is_called_formats_nothing_in_any_form(form, name):
    with Receiver() as receiver:
        await channel(receiver, more=f"?format={form}").send(hostile(name))
        sent = orjson.loads(receiver.seen[0].body)
    render_notification = sent["title"] + sent["message"].replace("<br/>", "").replace("&nbsp;", " ")
    assert not set(render_notification) & set("<>@*`~|[]#&")


async def test_each_address_is_told_and_of_those_that_were_none_again():
    with Receiver() as well, Receiver(500) as ill:
        both = channel(well, ill)
        assert await refused(both) == ("not accepted by 1 of 2", False)
        assert (await both.send(MISS)).answer == "accepted"
        assert (len(well.seen), len(ill.seen)) == (1, 2)
        await both.send(MISS)  # somebody means it
        assert (len(well.seen), len(ill.seen)) == (2, 3)


async def test_one_that_hangs_keeps_nothing_from_the_others_and_no_second_thread_hangs_there():
    with Receiver() as well, Receiver(Answer(hang=True), Answer(hang=True)) as ill:
        both = channel(well, ill, more="?rto=30", within_sec=3.0)
        stopwatch = Stopwatch()
        assert await refused(both) == ("timeout", False)
        assert stopwatch.own_sec < 7
        assert len(well.seen) == 1
        assert await refused(both) == ("not accepted by 1 of 2", False)
        assert (len(well.seen), len(ill.seen)) == (1, 1)


async def repeat(one) -> str:
    """Sends again until it is accepted: while a request is under way, no second one is made."""
    while True:
        try:
            return (await one.send(MISS)).answer
        except SendError:
            await asyncio.sleep(0.05)


async def test_what_is_accepted_late_is_not_sent_again():
    with Receiver(Answer(200, after_sec=1.5)) as slow:
        one = channel(slow, within_sec=0.3)
        assert await refused(one) == ("timeout", False)
        async with asyncio.timeout(10):
            assert await repeat(one) == "accepted"
        assert len(slow.seen) == 1


async def test_nobody_there_is_said_without_the_address(capsys, caplog):
    made = create("apprise", Options(urls=SecretStr(f"json://me:hunter2@127.0.0.1:{free_port()}/s3cret")))
    assert await refused(made) == ("not accepted by 1 of 1", False)
    shown = "".join(capsys.readouterr())
    assert "s3cret" not in shown
    assert "hunter2" not in shown
    assert [record for record in caplog.records if record.name.startswith("apprise")] == []


async def test_addresses_may_be_separated_as_one_likes():
    with Receiver() as first, Receiver() as second:
        urls = f"json://127.0.0.1:{first.port}/a,b ,\n json://127.0.0.1:{second.port}/c, "
        made = create_channel("apprise", "night", {"urls": urls})
        await made.send(MISS)
        assert [receiver.seen[0].path for receiver in (first, second)] == ["/a%2Cb", "/c"]
        assert (made.name, made.where) == ("night", "JSON")


@pytest.mark.parametrize(
    "urls", ["", "hunter2", "no-such-kind://hunter2", "json://127.0.0.1 discord://hunter2"]
)
def test_an_address_that_is_none_is_named_by_its_place_alone(urls, capsys):
    with pytest.raises(
        ChannelError, match=r"night: urls: the address at [12] is none that apprise knows"
    ) as caught:
        create_channel("apprise", "night", {"urls": urls})
    assert "hunter2" not in str(caught.value) + "".join(capsys.readouterr())


def test_without_the_library_it_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ChannelError, match=r"pip install 'marketswarm\[apprise\]'"):
        create_channel("apprise", "night", {"urls": "json://127.0.0.1"})


def test_addresses_show_nowhere():
    options = Options(urls=SecretStr("json://me:hunter2@127.0.0.1/s3cret"))
    assert "hunter2" not in repr(options) + repr(create("night", options))


def test_a_program_ends_while_one_hangs():
    """Threads that the library makes by itself would be waited for."""
    source = """
import asyncio, sys
from marketswarm.channels import SendError, Message, Severity
from marketswarm.channels.apprise import Options, create

async def main():
    made = create("apprise", Options(urls=sys.argv[1]))
    made.within_sec = 1.0
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


async def test_a_group_names_all_where_there_is_room():
    with Receiver() as receiver:
        await channel(receiver).send(GROUP)
        body = orjson.loads(receiver.seen[0].body)["message"]
    assert all(line in body for line in GROUP.lines)
