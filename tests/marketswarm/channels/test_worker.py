"""One channel's deliveries: until each is accepted or too old, with pauses, a broken channel let be."""

import asyncio
import contextlib
import json
import time
from dataclasses import replace

import pytest

from marketswarm import log as logs
from marketswarm.channels import Failure, Message, MessageKind, Receipt, SendError, Severity
from marketswarm.channels import worker as module
from marketswarm.channels.queue import QUEUE_LIMIT
from marketswarm.channels.worker import OVERFLOW, ChannelWorker
from marketswarm.settings import CommonSettings
from support.waiting import PATIENT_SEC, auntil

pytestmark = pytest.mark.usefixtures("moved_time")


def message(ident="m1", at=None, kind=MessageKind.DOWN):
    return Message(ident, "t", "x", Severity.WARNING, time.time() if at is None else at, kind=kind)


class Scripted:
    """A channel that does as told, then accepts; `hang` holds it until it is set."""

    name, where, within_sec = "scripted", "nowhere", 5.0

    def __init__(self, *script):
        self.script = list(script)
        self.refuses: dict[str, SendError] = {}
        self.tried: list[tuple[float, Message, str | None]] = []
        self.hang = asyncio.Event()
        self.hang.set()

    async def send(self, message, anchor=None):
        self.tried.append((asyncio.get_running_loop().time(), message, anchor))
        await self.hang.wait()
        error = self.script.pop(0) if self.script else self.refuses.get(message.id)
        if error is not None:
            raise error
        return Receipt("200", "17.5")

    async def aclose(self):
        pass

    @property
    def ids(self):
        return [message.id for _, message, _ in self.tried]


@contextlib.asynccontextmanager
async def running(channel, retry_for_sec=60.0, **more):
    outcomes = []
    one = ChannelWorker(
        channel,
        anchor=lambda message, _: message.thread or None,
        outcome=outcomes.append,
        retry_for_sec=lambda: retry_for_sec,
        chance=lambda: 0.5,
        **more,
    )
    one.outcomes = outcomes
    one.task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        one.task.cancel()
        await asyncio.wait([one.task])
        if not one.task.cancelled():
            one.task.result()


async def test_what_is_added_to_a_message_as_it_is_sent_is_in_no_outcome_which_is_stored():
    channel = Scripted(SendError("503"))
    async with running(channel, prepare=lambda sent: replace(sent, text="with a link")) as one:
        one.put(message("m0"))
        await auntil(lambda: len(one.outcomes) == 2)
    assert [sent.text for _, sent, _ in channel.tried] == ["with a link"] * 2
    assert "a link" not in repr(one.outcomes)


async def test_messages_go_out_in_order_and_each_says_what_was_answered():
    channel = Scripted()
    async with running(channel) as one:
        for n in range(5):
            one.put(message(f"m{n}"))
        one.put(message("m3"))  # waits already
        await auntil(lambda: len(one.outcomes) == 5)
    assert channel.ids == [f"m{n}" for n in range(5)]
    assert [each.receipt.answer for each in one.outcomes] == ["200"] * 5
    assert all(each.final and each.error is None for each in one.outcomes)


async def test_what_failed_is_tried_again_before_anything_else_of_its_thread_after_a_pause():
    channel = Scripted(SendError("500"), SendError("timeout"))
    async with running(channel) as one:
        one.put(message("m1"))
        one.put(replace(message("m2"), thread="m1"))
        await auntil(lambda: len(one.outcomes) == 4)
        assert channel.ids == ["m1", "m1", "m1", "m2"]
        times = [at for at, _, _ in channel.tried]
        assert times[1] - times[0] >= 1
        assert times[2] - times[1] >= 2
        assert [each.final for each in one.outcomes] == [False, False, True, True]
        assert one.trouble is None


async def test_a_receiver_is_left_alone_as_long_as_it_asks():
    channel = Scripted(SendError("429", retry_after_sec=9))
    async with running(channel) as one:
        one.put(message())
        await auntil(lambda: one.outcomes)
        assert one.trouble == "scripted: 429"
        assert 8 < one.outcomes[0].pause_sec <= 9
        one.put(message("m2"))
        await auntil(lambda: len(one.outcomes) == 3)
        times = [at for at, _, _ in channel.tried]
        assert times[1] - times[0] >= 9


async def test_one_that_refuses_for_good_is_broken_and_each_other_gets_one_attempt_after_a_pause():
    gone = SendError("404", Failure.BROKEN)
    channel = Scripted(gone, gone, gone, gone)
    async with running(channel) as one:
        for n in range(3):
            one.put(message(f"m{n}"))
        await auntil(lambda: len(one.outcomes) == 1)
        assert (one.broken, one.outcomes[0].broken, one.outcomes[0].final) == (True, True, True)
        await auntil(lambda: len(one.outcomes) == 3)
        times = [at for at, _, _ in channel.tried]
        assert times[1] - times[0] >= 1
        assert [each.failures for each in one.outcomes] == [1, 1, 2], "one pause for all that waited"
        assert one.outcomes[1].pause_sec == 0
        one.put(message("m3"))
        one.put(message("m4"))
        await auntil(lambda: len(one.outcomes) == 5)
        assert channel.ids == ["m0", "m1", "m2", "m3", "m4"]
        assert not one.broken
        assert one.trouble is None


async def test_a_broken_one_that_fails_for_now_loses_nothing():
    channel = Scripted(SendError("404", Failure.BROKEN), SendError("500"))
    async with running(channel) as one:
        one.put(message("m1"))
        one.put(message("m2"))
        await auntil(lambda: len(one.outcomes) == 3)
    assert channel.ids == ["m1", "m2", "m2"]
    assert one.outcomes[-1].receipt is not None


async def test_a_channels_own_mistake_ends_no_delivery():
    channel = Scripted(ZeroDivisionError())
    async with running(channel) as one:
        one.put(message("m1"))
        one.put(message("m2"))
        await auntil(lambda: len(one.outcomes) == 2)
    assert one.outcomes[0].error.reason == "ZeroDivisionError"
    assert not any(each.broken for each in one.outcomes)
    assert channel.ids == ["m1", "m2"], "it is the failure of that one message"


async def test_a_channels_own_mistake_is_logged_with_its_traceback_and_without_what_it_says(capfd):
    logs.configure("notifier", CommonSettings(LOG_FORMAT="json"))
    defect = ValueError("token s3cret is odd")
    defect.__cause__ = KeyError("hunter2")
    async with running(Scripted(defect)) as one:
        one.put(message("m1"))
        await auntil(lambda: one.outcomes)
    written = capfd.readouterr().err
    [line] = [json.loads(each) for each in written.splitlines() if "channel.defect" in each]
    assert (line["error"], line["channel"], line["id"]) == ("ValueError", "scripted", "m1")
    assert any("test_worker.py" in each and "in send" in each for each in line["trace"])
    assert "from KeyError:" in line["trace"]
    assert "s3cret" not in written
    assert "hunter2" not in written


async def test_a_channel_is_given_the_time_that_it_grants_itself():
    slow = Scripted()
    slow.within_sec = 30.0
    slow.hang.clear()
    async with running(slow) as one:
        one.put(message())
        await auntil(lambda: slow.tried)
        await asyncio.sleep(29)
        assert one.outcomes == []
        slow.hang.set()
        await auntil(lambda: one.outcomes)
        assert one.outcomes[0].error is None


async def test_a_message_that_always_fails_is_given_up_at_its_age_and_what_follows_it_goes_on():
    channel = Scripted()
    channel.refuses = {"m1": SendError("500")}
    async with running(channel, retry_for_sec=8) as one:
        begun = asyncio.get_running_loop().time()
        one.put(message("m1"))
        one.put(replace(message("m2"), thread="m1"))
        await auntil(lambda: any(each.receipt for each in one.outcomes))
    assert asyncio.get_running_loop().time() - begun >= 8
    [over, sent] = [each for each in one.outcomes if each.final]
    assert (over.message.id, over.error.reason, over.broken) == ("m1", "gave up after 8 s: 500", False)
    assert sent.message.id == "m2"


async def test_one_that_never_answers_is_given_up():
    channel = Scripted()
    channel.hang.clear()
    async with running(channel) as one:
        one.put(message())
        await asyncio.sleep(channel.within_sec + module.MARGIN_SEC + 1)
        assert one.outcomes[0].error.reason == "timeout"
        channel.hang.set()
        await auntil(lambda: len(one.outcomes) == 2)


@pytest.mark.slow
async def test_too_much_gives_up_the_oldest_but_never_what_is_on_the_wire():
    channel = Scripted()
    channel.hang.clear()
    async with running(channel) as one:
        one.put(message("first"))
        await auntil(lambda: channel.tried)
        for n in range(QUEUE_LIMIT + 5):
            one.put(message(f"m{n}"))
        assert [each.message.id for each in one.outcomes] == [f"m{n}" for n in range(6)]
        assert {each.error.reason for each in one.outcomes} == {OVERFLOW}
        assert not any(each.broken for each in one.outcomes)
        channel.hang.set()
        await auntil(lambda: len(one) == 0)
    assert channel.ids[:2] == ["first", "m6"]


async def test_a_late_message_says_so_in_its_words_and_keeps_its_id():
    channel = Scripted()
    async with running(channel) as one:
        one.put(message("m1", at=time.time() - 300))
        one.put(message("m2"))
        await auntil(lambda: len(one.outcomes) == 2)
    (_, late, _), (_, on_time, _) = channel.tried
    assert (late.id, late.late, late.text) == ("m1", True, "x (told 5 min late)")
    assert (on_time.late, on_time.text) == (False, "x")
    assert one.outcomes[0].message.text == "x", "what is kept is the message as it was"


@pytest.mark.parametrize("error", [SendError("500"), SendError("404", Failure.BROKEN)])
async def test_a_test_is_tried_once(error):
    channel = Scripted(error)
    async with running(channel) as one:
        one.put(message(kind=MessageKind.TEST))
        one.put(message("m2"))
        await auntil(lambda: len(one.outcomes) == 2)
    assert channel.ids == ["m1", "m2"]
    assert one.outcomes[0].final


async def test_who_is_stopped_finishes_what_is_on_the_wire():
    channel = Scripted()
    channel.hang.clear()
    async with running(channel) as one:
        one.put(message("m1"))
        one.put(message("m2"))
        await auntil(lambda: channel.tried)
        one.stop()
        channel.hang.set()
        await asyncio.wait_for(one.task, PATIENT_SEC)
    assert [each.message.id for each in one.outcomes] == ["m1"]
    assert len(one) == 1


async def test_who_is_stopped_while_it_pauses_ends_at_once(moved_time):
    async with running(Scripted(SendError("500"))) as one:
        one.put(message("m1"))
        await auntil(lambda: one.outcomes)
        one.stop()
        stopped_at = moved_time.ahead_sec
        await one.task
        assert moved_time.ahead_sec == stopped_at


async def test_one_that_refuses_every_message_as_bad_is_broken_until_it_takes_one():
    bad = SendError("400", Failure.REJECTED)
    channel = Scripted(*[bad] * 4)
    async with running(channel) as one:
        for n in range(5):
            one.put(message(f"m{n}"))
        await auntil(lambda: len(one.outcomes) == 5)
        assert [each.broken for each in one.outcomes] == [False, False, True, True, False]
        assert [each.final for each in one.outcomes] == [True] * 5
        assert channel.ids == ["m0", "m1", "m2", "m3", "m4"]
        assert (one.broken, one.trouble) == (False, None)
