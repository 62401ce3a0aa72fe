"""What is said and what is answered, against the table; whatever is said."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.massive import (
    FINAL_STATUSES,
    TABLE,
    ConnectionState,
    ProtocolMachine,
    Request,
    UnreadBar,
)
from support.rig.market_api import MINUTE, status, told

NOW = 1_795_000_020_000.0
LAST = int(NOW // MINUTE) * MINUTE - MINUTE


def streaming(symbols=("AAPL",)):
    machine = ProtocolMachine(symbols)
    machine.receive(status("connected"), NOW)
    machine.receive(status("auth_success"), NOW)
    return machine


def frame(*events):
    return orjson.dumps(list(events))


def test_a_conversation_begins_with_a_greeting_the_key_and_what_is_wanted():
    machine = ProtocolMachine(["MSFT", "AAPL"])
    assert machine.receive(status("connected"), NOW).requests == [Request("auth")]
    assert machine.receive(status("auth_success"), NOW).requests == [Request("subscribe", "AM.AAPL,AM.MSFT")]
    assert machine.unconfirmed == ["AAPL", "MSFT"]
    assert machine.receive(status("success", "subscribed to: AM.MSFT"), NOW).confirmed == ["MSFT"]
    assert machine.unconfirmed == ["AAPL"]
    assert not machine.anomalies


def test_an_ask_never_holds_the_key():
    """Whoever sends it adds that: there is nothing here that a log could show."""
    assert Request("auth").params == ""


def test_many_symbols_are_asked_for_in_several_messages():
    machine = ProtocolMachine([f"S{n}" for n in range(250)])
    machine.receive(status("connected"), NOW)
    requests = machine.receive(status("auth_success"), NOW).requests
    assert [request.params.count("AM.") for request in requests] == [100, 100, 50]


def test_bars_that_are_wanted_come_out_and_hold_their_symbol():
    heard = streaming().receive(frame(told("AAPL", LAST), told("AAPL", LAST + MINUTE)), NOW)
    assert [(bar.symbol, bar.start_ms) for bar in heard.bars] == [
        ("AAPL", LAST),
        ("AAPL", LAST + MINUTE),
    ]
    assert heard.confirmed == ["AAPL"]


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("no event", "malformed"),
        (told("XYZ", LAST), "stranger"),
        (told("AAPL", LAST + 60 * MINUTE), "implausible"),
        (told("AAPL", MINUTE), "implausible"),
        ({**told("AAPL", LAST), "s": LAST + 1}, "malformed"),
        ({**told("AAPL", LAST), "s": float(LAST)}, "malformed"),
        ({**told("AAPL", LAST), "s": True}, "malformed"),
        ({**told("AAPL", LAST), "o": "1"}, "malformed"),
        ({**told("AAPL", LAST), "h": None}, "malformed"),
        ({**told("AAPL", LAST), "l": -1}, "malformed"),
        ({**told("AAPL", LAST), "c": True}, "malformed"),
        ({**told("AAPL", LAST), "v": 1e300}, "malformed"),
        ({"ev": "AM", "sym": ["AAPL"]}, "malformed"),
        ({**told("AAPL", LAST), "sym": "A\nB"}, "malformed"),
        ({"ev": "AM"}, "malformed"),
        ({"ev": "T", "sym": "AAPL"}, "unexpected"),
        ({"ev": ["status"]}, "unexpected"),
        ({"ev": "status", "status": {"a": 1}}, "unexpected"),
        ({"ev": "status", "status": "what_nobody_knows"}, "unexpected"),
        ({"ev": "status", "status": "connected"}, "unexpected"),
        ({}, "unexpected"),
    ],
)
def test_what_makes_no_sense_is_counted_and_passed_over(event, kind):
    machine = streaming()
    heard = machine.receive(frame(event, told("AAPL", LAST)), NOW)
    assert machine.anomalies == {kind: 1}
    assert len(heard.bars) == 1


@pytest.mark.parametrize(
    ("wrong", "start"),
    [
        ({"o": "1"}, LAST),
        ({"vw": None, "c": None}, LAST),
        ({"s": LAST + 1}, None),
        ({"s": str(LAST)}, None),
        ({"s": LAST // 1000}, None),
        ({"s": LAST + 60 * MINUTE}, None),
    ],
)
def test_a_bar_that_makes_no_sense_is_to_be_requested_with_its_start_if_that_does(wrong, start):
    heard = streaming(["AAPL", "MSFT"]).receive(
        frame({**told("AAPL", LAST), **wrong}, told("MSFT", LAST)), NOW
    )
    assert heard.unread == [UnreadBar("AAPL", start)]
    assert [bar.symbol for bar in heard.bars] == ["MSFT"]
    assert heard.confirmed == ["AAPL", "MSFT"]


def test_nothing_is_requested_of_a_symbol_that_nobody_wants():
    heard = streaming().receive(frame({**told("XYZ", LAST), "o": "1"}, {"ev": "AM", "o": "1"}), NOW)
    assert (heard.unread, heard.confirmed) == ([], [])


@pytest.mark.parametrize(
    "raw", [b"", b"[", b"\xff\xfe", b"null", b"17", b'"x"', b"[[]]", b"[1]", b"[" * 100_000, b'{"a":1']
)
def test_a_frame_that_is_none_is_malformed(raw):
    machine = streaming()
    heard = machine.receive(raw, NOW)
    assert (heard.bars, heard.requests, heard.end_reason) == ([], [], None)
    assert machine.anomalies["malformed"] == 1


def test_bars_before_the_key_was_taken_are_not_believed():
    machine = ProtocolMachine(["AAPL"])
    assert not machine.receive(frame(told("AAPL", LAST)), NOW).bars
    assert machine.anomalies == {"unexpected": 1}


@pytest.mark.parametrize("said", FINAL_STATUSES)
@pytest.mark.parametrize(
    "state", [ConnectionState.GREETING, ConnectionState.AUTHENTICATING, ConnectionState.STREAMING]
)
def test_whatever_is_over_is_over_in_their_words(said, state):
    machine = ProtocolMachine(["AAPL"])
    machine.state = state
    assert (
        machine.receive(frame({"ev": "status", "status": said}, told("AAPL", LAST)), NOW).end_reason == said
    )
    assert machine.state is ConnectionState.OVER
    assert not machine.receive(status("connected"), NOW).requests


def test_an_error_in_place_of_an_admission_is_the_end():
    machine = ProtocolMachine([])
    machine.receive(status("connected"), NOW)
    assert machine.receive(status("error", "no such plan"), NOW).end_reason == "error"


def test_an_error_about_one_symbol_leaves_the_others():
    machine = streaming(("AAPL", "NONE"))
    assert machine.receive(status("error", "not authorized to subscribe to AM.NONE"), NOW).end_reason is None
    assert machine.receive(frame(told("AAPL", LAST)), NOW).bars
    assert machine.unconfirmed == ["NONE"]


def test_a_second_greeting_does_not_make_it_show_the_key_again():
    machine = ProtocolMachine([])
    machine.receive(status("connected"), NOW)
    assert machine.receive(status("connected"), NOW).requests == []


def test_other_symbols_are_the_difference():
    machine = streaming(("AAPL", "MSFT"))
    assert machine.set_symbols(["MSFT", "IBM"]) == [
        Request("unsubscribe", "AM.AAPL"),
        Request("subscribe", "AM.IBM"),
    ]
    assert machine.set_symbols(["MSFT", "IBM"]) == []
    heard = machine.receive(frame(told("AAPL", LAST), told("IBM", LAST)), NOW)
    assert [bar.symbol for bar in heard.bars] == ["IBM"]  # one of AAPL may have been under way


def test_what_is_wanted_before_it_streams_is_asked_for_when_it_does():
    machine = ProtocolMachine(["AAPL"])
    assert machine.set_symbols(["IBM"]) == []
    machine.receive(status("connected"), NOW)
    assert machine.receive(status("auth_success"), NOW).requests == [Request("subscribe", "AM.IBM")]


def test_a_symbol_that_comes_back_is_held_anew():
    machine = streaming()
    machine.receive(status("success", "subscribed to: AM.AAPL"), NOW)
    machine.set_symbols([])
    machine.set_symbols(["AAPL"])
    assert machine.receive(status("success", "subscribed to: AM.AAPL"), NOW).confirmed == ["AAPL"]


def test_a_recording_tells_of_whichever_symbols_it_has():
    heard = streaming(None).receive(frame(told("AAPL", LAST), told("IBM", LAST)), NOW)
    assert [bar.symbol for bar in heard.bars] == ["AAPL", "IBM"]
    assert heard.confirmed == []


def test_the_table_has_no_way_out_of_over_and_one_into_streaming():
    assert ConnectionState.OVER not in {state for state, _said in TABLE}
    assert [
        step for step, (to, _) in TABLE.items() if to is ConnectionState.STREAMING and step[0] is not to
    ] == [(ConnectionState.AUTHENTICATING, "auth_success")]


said = st.sampled_from(sorted({status for _, status in TABLE} | {"other"})).map(
    lambda word: {"ev": "status", "status": word}
)
events = st.one_of(
    said,
    st.builds(told, st.sampled_from(["AAPL", "X"]), st.integers(-3, 3).map(lambda n: LAST + n * MINUTE)),
    st.dictionaries(st.sampled_from(["ev", "sym", "s", "o"]), st.one_of(st.none(), st.integers(), st.text())),
)


@given(st.lists(st.one_of(st.binary(max_size=30), st.lists(events, max_size=4).map(json.dumps)), max_size=12))
def test_no_frames_make_it_raise_or_show_the_key_twice_or_tell_what_nobody_wanted(frames):
    machine = ProtocolMachine(["AAPL"])
    requests, over = [], 0
    for each in frames:
        heard = machine.receive(each, NOW)
        requests += heard.requests
        over += heard.end_reason is not None
        assert all(bar.symbol == "AAPL" for bar in heard.bars)
    assert [request.action for request in requests].count("auth") <= 1
    assert over <= 1
    assert (machine.state is ConnectionState.OVER) == bool(over)
