import json
from typing import Any

import orjson
import pytest

from marketswarm.beat import Beat, MalformedBeat, compute_beat_age_sec, encode_beat, parse_beat
from marketswarm.bus import BusError
from marketswarm.bus.stored_values import count_unusable
from marketswarm.detector import EndedRun, FailedRun
from marketswarm.monitor.witness import BATCH_SIZE, read_last_beats, read_last_runs
from marketswarm.testing import MemoryBus


@pytest.mark.parametrize(
    ("timeout_sec", "left_ms", "want"),
    [
        (30.0, 60_000, 0.0),
        (30.0, 56_000, 4.0),
        (30.0, 0, 60.0),
        (1.5, 2_999, 0.001),
        (30.0, 60_001, 0.0),  # rounding on the way
        (30.0, 60_002, None),  # not by us, or by another timeout
        (30.0, -1, None),  # no end to its life
        (30.0, -2, None),  # no such key
    ],
)
def test_a_beats_age_is_what_its_key_has_lived(timeout_sec, left_ms, want):
    assert compute_beat_age_sec(timeout_sec, left_ms) == want


@pytest.mark.parametrize(
    ("life", "left_ms", "want"),
    [
        (200.0, 199_000, 1.0),  # stored under a longer timeout than the one in force, a second ago
        (20.0, 19_000, 1.0),  # under a shorter one
        (20.0, 55_000, None),  # its key lives longer than its sender says
        (0.5, 499, 0.001),
        # what can't be a life: the timeout in force counts, as for a beat that says nothing
        (0, 55_000, 5.0),
        (-3, 55_000, 5.0),
        (1e300, 55_000, 5.0),
        ("60", 55_000, 5.0),
        (True, 55_000, 5.0),
        (None, 55_000, 5.0),
        ([60], 55_000, 5.0),
        (10**400, 55_000, 5.0),
    ],
)
def test_a_beat_says_the_life_of_its_key_so_no_reader_guesses_it_from_its_own_timeout(life, left_ms, want):
    raw = json.dumps({"svc": "a", "i": 1, "ts": 1.0, "life": life}).encode()
    beat = parse_beat(raw, "a")
    if life == 10**400:
        assert isinstance(beat, MalformedBeat), "orjson reads no such number"
        return
    assert isinstance(beat, Beat)
    assert compute_beat_age_sec(30.0, left_ms, beat) == want


async def ask(bus: MemoryBus, timeouts: dict[str, float]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async for answer in read_last_beats(bus, timeouts):
        found |= answer.found
    return found


async def test_many_are_asked_in_turns_and_what_can_not_be_read_is_left_out():
    bus = MemoryBus()
    names = [f"svc{n}" for n in range(BATCH_SIZE + 10)]
    for name in names:
        await bus.client.set(f"beat:{name}", encode_beat(Beat(name, 5, 1.0, boot="b")), px=55_000)
    await bus.client.set("beat:svc0", b"junk", px=1000)
    await bus.client.delete("beat:svc1")
    await bus.client.set("beat:svc2", encode_beat(Beat("svc3", 1, 1.0)), px=1000)
    await bus.client.delete("beat:svc3")
    await bus.client.rpush("beat:svc3", "no string")
    await bus.client.set("beat:svc4", encode_beat(Beat("svc4", 5, 1.0)))
    found = await ask(bus, dict.fromkeys(names, 30.0))
    assert found.keys() == set(names[4:])
    assert found["svc4"].age_sec is None
    assert found[names[-1]].beat.i == 5
    assert found[names[-1]].age_sec == pytest.approx(12.5, abs=7.5)  # 5 s, and what it took
    await bus.aclose()


async def test_what_is_known_is_not_parsed_and_in_no_answer_and_its_service_is_answered():
    bus, asked = MemoryBus(), []
    payloads = {svc: encode_beat(Beat(svc, 5, 1.0, boot="b")) for svc in ("heard", "news")}
    for svc, payload in payloads.items():
        await bus.client.set(f"beat:{svc}", payload, px=1000)

    def is_known(svc: str, payload: bytes) -> bool:
        asked.append((svc, payload))
        return svc == "heard"

    timeouts = {"heard": 30.0, "news": 30.0, "none": 30.0}
    (answer,) = [answer async for answer in read_last_beats(bus, timeouts, is_known)]
    assert answer.services == list(timeouts)
    assert answer.found.keys() == {"news"}
    assert asked == list(payloads.items())
    await bus.aclose()


async def test_what_is_no_beat_is_named_with_its_fault_and_never_read_whole():
    bus = MemoryBus()
    await bus.client.set("beat:big", encode_beat(Beat("big", 5, 1.0))[:-1] + b" " * 1_000_000 + b"}", px=1000)
    await bus.client.rpush("beat:list", "no string")
    replies = []
    script = bus.script

    async def seen(*args):
        replies.append(await script(*args))
        return replies[-1]

    bus.script = seen
    (answer,) = [answer async for answer in read_last_beats(bus, {"big": 30.0, "list": 30.0, "none": 30.0})]
    assert answer.services == ["big", "list", "none"]
    assert answer.found == {}
    assert {svc: found.reason for svc, found in answer.unreadable.items()} == {
        "big": "too_long",
        "list": "not_json",
    }
    assert len(replies[0][0]) == 4097
    await bus.aclose()


async def test_after_a_batch_that_failed_each_is_asked_alone_and_one_that_fails_hides_no_other():
    bus = MemoryBus()
    for name in "abc":
        await bus.client.set(f"beat:{name}", encode_beat(Beat(name, 5, 1.0)), px=55_000)
    script = bus.script

    async def refuses_b(known, keys, args):
        if "beat:b" in keys:
            raise BusError("bus", "error", "no such luck")
        return await script(known, keys, args)

    bus.script = refuses_b
    answers = [answer async for answer in read_last_beats(bus, dict.fromkeys("abc", 30.0))]
    assert [answer.services for answer in answers] == [["a"], ["c"]]
    assert [*answers[0].found, *answers[1].found] == ["a", "c"]
    await bus.aclose()


@pytest.mark.parametrize("reason", ["timeout", "refused", "error"])
async def test_a_bus_that_answers_nobody_is_away_and_is_not_asked_for_each(reason):
    bus = MemoryBus()
    asked = []

    async def fails(_script, keys, _args):
        asked.append(len(keys))
        raise BusError("bus", reason)

    bus.script = fails
    with pytest.raises(BusError):
        [_ async for _ in read_last_beats(bus, dict.fromkeys("abc", 30.0))]
    assert asked == ([3, 1, 1, 1] if reason == "error" else [3, 1])
    await bus.aclose()


RUN = {"svc": "a", "ok": False, "code": 3, "ts": 5.0, "said": "exit 3"}


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (RUN, FailedRun(5.0, 3)),
        ({**RUN, "detail": "disk full"}, FailedRun(5.0, 3, detail="disk full")),
        ({**RUN, "detail": 5}, FailedRun(5.0, 3)),
        ({**RUN, "code": None}, FailedRun(5.0)),
        ({**RUN, "code": 256}, FailedRun(5.0)),
        ({**RUN, "code": True}, FailedRun(5.0)),
        ({**RUN, "code": -1}, FailedRun(5.0)),
        ({**RUN, "ok": True}, None),
        ({**RUN, "ok": True, "via": "ping"}, EndedRun(5.0, "ping")),
        ({**RUN, "quiet": True}, None),
    ],
)
async def test_a_last_run_is_read_if_it_failed_or_if_somebody_else_reported_that_all_is_well(value, want):
    before, bus = count_unusable(), MemoryBus()
    await bus.client.set("run:a", orjson.dumps(value))
    assert [found async for found in read_last_runs(bus, ["none", "a"])] == ([("a", want)] if want else [])
    assert count_unusable() == before
    await bus.aclose()


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[]",
        b"1",
        b"[" * 300 + b"]" * 300,
        b"\xff",
        orjson.dumps({**RUN, "svc": "b"}),
        orjson.dumps({**RUN, "ok": 0}),
        orjson.dumps({**RUN, "ok": None}),
        orjson.dumps({**RUN, "ts": "5"}),
        orjson.dumps({**RUN, "ts": True}),
        orjson.dumps({**RUN, "ts": -1}),
        orjson.dumps({**RUN, "ts": 1e300}),
        b'{"svc":"a","ok":false,"ts":99999999999999999999999999}',
        orjson.dumps({**RUN, "said": "x" * 5000}),
        None,  # a list
    ],
)
async def test_a_last_run_that_is_none_is_reported_and_hides_no_other(raw):
    before, bus = count_unusable(), MemoryBus()
    if raw is None:
        await bus.client.rpush("run:a", "no string")
    else:
        await bus.client.set("run:a", raw)
    await bus.client.set("run:b", orjson.dumps({**RUN, "svc": "b"}))
    await bus.client.set("beat:b", encode_beat(Beat("b", 1, 2.0)), px=1000)
    found = [found async for found in read_last_runs(bus, ["a", "b"])]
    assert found == [("b", FailedRun(5.0, 3, 2.0))]
    assert count_unusable() == before + 1
    await bus.aclose()
