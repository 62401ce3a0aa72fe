import os
from dataclasses import replace

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marketswarm.beat import (
    MAX_BEAT_BYTES,
    MAX_BOOT_CHARS,
    MAX_HOST_CHARS,
    Beat,
    MalformedBeat,
    Meaning,
    Sender,
    encode_beat,
    parse_beat,
    parse_sender,
)

ORIGINAL = b'{"svc":"my_svc","i":1,"ts":1762433458}'


def payload(**changed) -> bytes:
    found = {"svc": "a", "i": 1, "ts": 1762433458.125, **changed}
    return orjson.dumps({key: value for key, value in found.items() if value is not ...})


# -- what counts as life


def test_the_references_one_liner_is_a_full_citizen():
    assert parse_beat(ORIGINAL, "my_svc") == Beat("my_svc", 1, 1762433458.0)


@pytest.mark.parametrize(
    ("changed", "want"),
    [
        ({}, Beat("a", 1, 1762433458.125)),
        ({"i": 0}, Beat("a", 0, 1762433458.125)),
        ({"ts": 0}, Beat("a", 1, 0.0)),
        ({"ts": -5}, Beat("a", 1, -5.0)),
        ({"boot": "b"}, Beat("a", 1, 1762433458.125, boot="b")),
        ({"rev": 7}, Beat("a", 1, 1762433458.125, rev=7)),
        ({"status": "ok"}, Beat("a", 1, 1762433458.125)),
        ({"status": "degraded"}, Beat("a", 1, 1762433458.125, status="degraded")),
        ({"status": "stopping"}, Beat("a", 1, 1762433458.125, status="stopping")),
        ({"detail": "x" * 201}, Beat("a", 1, 1762433458.125, detail="x" * 200)),
        ({"every": 5}, Beat("a", 1, 1762433458.125, every=5.0)),
        ({"exit_code": 3}, Beat("a", 1, 1762433458.125, exit_code=3)),
        ({"run": "started"}, Beat("a", 1, 1762433458.125, run="started")),
        ({"run": "ended", "rid": "r" * 36}, Beat("a", 1, 1762433458.125, run="ended", rid="r" * 36)),
        ({"run": "failed", "exit_code": 3}, Beat("a", 1, 1762433458.125, run="failed", exit_code=3)),
        ({"run": "log", "status": "degraded"}, Beat("a", 1, 1762433458.125, status="degraded", run="log")),
        ({"run": "ended", "status": "stopping"}, Beat("a", 1, 1762433458.125, run="ended")),
        ({"something": {"newer": [1]}}, Beat("a", 1, 1762433458.125)),
    ],
)
def test_a_beat_is_read_with_what_was_added_later(changed, want):
    assert parse_beat(payload(**changed), "a") == want


@pytest.mark.parametrize(
    "wrong",
    [
        {"boot": 5},
        {"boot": ""},
        {"boot": "b" * (MAX_BOOT_CHARS + 1)},
        {"rev": "7"},
        {"rev": 1.5},
        {"rev": True},
        {"status": "splendid"},
        {"status": ["stopping"]},
        {"status": None},
        {"detail": 5},
        {"detail": ""},
        {"every": 0},
        {"every": -1},
        {"every": "5"},
        {"every": True},
        {"exit_code": True},
        {"exit_code": "3"},
        {"exit_code": 256},
        {"exit_code": -1},
        {"run": "start"},
        {"run": ["started"]},
        {"run": True},
        {"run": {}},
        {"rid": ""},
        {"rid": 5},
        {"rid": "r" * 37},
    ],
)
def test_a_wrong_optional_key_is_passed_over_since_the_sender_is_alive_all_the_same(wrong):
    assert parse_beat(payload(**wrong), "a") == Beat("a", 1, 1762433458.125)


@pytest.mark.parametrize(
    ("run", "status", "meaning"),
    [
        (None, "ok", Meaning.LIFE),
        (None, "degraded", Meaning.LIFE),
        (None, "stopping", Meaning.GOODBYE),
        ("ended", "ok", Meaning.LIFE),
        ("ended", "stopping", Meaning.LIFE),  # a report about a run is never a goodbye
        ("started", "stopping", Meaning.REPORT),
        ("failed", "ok", Meaning.REPORT),
        ("log", "ok", Meaning.REPORT),
    ],
)
def test_a_payload_is_a_sign_of_life_a_report_or_a_goodbye(run, status, meaning):
    beat = parse_beat(encode_beat(Beat("a", 1, 0.0, status=status, run=run, rid="5f0c")), "a")
    assert isinstance(beat, Beat)
    assert (beat.run, beat.rid, beat.meaning) == (run, "5f0c", meaning)


# -- what does not


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not_json"),
        (b"\xff\xfe\x00", "not_json"),
        (b"alive", "not_json"),
        (b'{"svc":"a","i":1,"ts":1', "not_json"),
        (b'{"svc":"a","i":1,"ts":NaN}', "not_json"),
        (b'{"svc":"a","i":1,"ts":1}\xff', "not_json"),
        (b"[" * 4000, "not_json"),
        (b"null", "not_an_object"),
        (b"5", "not_an_object"),
        (b'"a"', "not_an_object"),
        (b'[{"svc":"a","i":1,"ts":1}]', "not_an_object"),
        (payload(svc="b"), "other_svc"),
        (payload(svc="A"), "other_svc"),
        (payload(svc=None), "other_svc"),
        (payload(svc=["a"]), "other_svc"),
        (payload(svc=...), "other_svc"),
        (b"{}", "other_svc"),
        (payload(i=...), "bad_i"),
        (payload(i="1"), "bad_i"),
        (payload(i=1.0), "bad_i"),
        (payload(i=-1), "bad_i"),
        (payload(i=True), "bad_i"),
        (payload(i=None), "bad_i"),
        (b'{"svc":"a","i":18446744073709551616,"ts":1}', "bad_i"),
        (payload(ts=...), "bad_ts"),
        (payload(ts="1762433458"), "bad_ts"),
        (payload(ts=None), "bad_ts"),
        (payload(ts=True), "bad_ts"),
        (payload(ts=[1]), "bad_ts"),
    ],
)
def test_what_is_no_sign_of_life_is_a_value_that_says_why(raw, reason):
    assert parse_beat(raw, "a") == MalformedBeat(reason)


def test_a_payload_of_exactly_4_kib_is_read_and_one_byte_more_is_not():
    bare = len(payload(pad=""))
    fits = payload(pad="x" * (MAX_BEAT_BYTES - bare))
    assert MAX_BEAT_BYTES == 4096
    assert len(fits) == 4096
    assert parse_beat(fits, "a") == Beat("a", 1, 1762433458.125)
    assert parse_beat(fits + b" ", "a") == MalformedBeat("too_long")


@given(st.binary(max_size=5000))
@example(b"[" * 4096)
@example(b'{"svc":"a","i":1,"ts":"\\ud800"}')
@example(b'{"svc":"a","i":1,"ts":1e999}')
@example(b'{"svc":"a","i":1,"ts":1' + b"0" * 400 + b"}")
def test_no_bytes_crash_the_reading(raw):
    assert isinstance(parse_beat(raw, "a"), Beat | MalformedBeat)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from(
    [
        "svc",
        "i",
        "ts",
        "boot",
        "rev",
        "status",
        "detail",
        "every",
        "exit_code",
        "host",
        "version",
        "started",
        "more",
    ]
)


@given(st.dictionaries(keys, anything | st.just("a")))
def test_no_json_whatever_crashes_the_reading(found):
    got = parse_beat(orjson.dumps(found), "a")
    if isinstance(got, Beat):
        assert (got.svc, got.i) == (found["svc"], found["i"]) == ("a", found["i"])
        assert got.status in ("ok", "degraded", "stopping")
        assert isinstance(parse_sender(orjson.dumps(found)), Sender)


# -- how ours are written


def test_a_beat_is_written_with_the_original_keys_first_in_the_original_order():
    assert encode_beat(Beat("rss_agg", 42, 1762433458.125)) == b'{"svc":"rss_agg","i":42,"ts":1762433458.125}'
    assert encode_beat(
        Beat("rss_agg", 42, 1762433458.1254, boot="b", rev=3, status="degraded", detail="why", every=9.87654)
    ) == (
        b'{"svc":"rss_agg","i":42,"ts":1762433458.125,"boot":"b","rev":3,"status":"degraded",'
        b'"detail":"why","every":9.877}'
    )


def test_what_says_nothing_is_not_written():
    assert (
        encode_beat(Beat("a", 1, 1.0, boot="b", status="ok", detail=""))
        == b'{"svc":"a","i":1,"ts":1.000,"boot":"b"}'
    )
    assert b'"status":"ok"' in encode_beat(Beat("a", 1, 1.0, detail="a note on being well"))


def test_a_beat_tells_last_who_sent_it_and_the_beat_itself_is_read_as_ever():
    who = Sender("web1", "0.3.0", 1762430000.12345)
    said = encode_beat(Beat("a", 1, 2.0, boot="b", every=10.0), who)
    assert said == (
        b'{"svc":"a","i":1,"ts":2.000,"boot":"b","every":10.0,'
        b'"host":"web1","version":"0.3.0","started":1762430000.123}'
    )
    assert parse_beat(said, "a") == Beat("a", 1, 2.0, boot="b", every=10.0)
    assert parse_sender(said) == Sender("web1", "0.3.0", 1762430000.123)
    assert parse_sender(encode_beat(Beat("a", 1, 2.0), Sender("h" * 300))) == Sender("h" * MAX_HOST_CHARS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": 5, "version": ["1"], "started": "now"},
        {"host": "", "version": "", "started": None},
        {"host": "h" * 65, "version": "v" * 33, "started": True},
        {},
    ],
)
def test_what_a_sender_gets_wrong_of_itself_is_not_known(wrong):
    assert parse_sender(payload(**wrong)) == Sender()


def test_a_detail_is_cut_to_200_characters_so_that_a_beat_always_fits():
    widest = encode_beat(
        Beat(
            "s" * 63,
            2**53,
            1e10,
            boot="\x01" * MAX_BOOT_CHARS,
            rev=2**53,
            status="stopping",
            detail="\x01" * 9000,
            every=1e9,
        ),
        Sender("\x01" * 300, "\x01" * 300, 1e9),
    )
    assert len(widest) <= MAX_BEAT_BYTES
    found = parse_beat(widest, "s" * 63)
    assert isinstance(found, Beat)
    assert found.detail == "\x01" * 200


def test_a_text_with_bytes_that_are_no_utf_8_is_written_with_a_question_mark_for_each():
    """As a file name or an argument of a program that writes Latin-1, or a host with such a name."""
    latin = os.fsdecode(b"can't read caf\xe9.dump")
    raw = encode_beat(
        Beat("a", 1, 2.0, status="degraded", detail=latin, rid=latin, via=latin), Sender(latin, latin)
    )
    beat = parse_beat(raw, "a")
    assert isinstance(beat, Beat)
    assert beat.detail == "can't read caf?.dump"
    assert parse_sender(raw) == Sender("can't read caf?.dump", "can't read caf?.dump")


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@given(
    st.builds(
        Beat,
        svc=st.just("a"),
        i=st.integers(0, 2**63),
        ts=st.floats(0, 1e11),
        boot=st.none() | texts.map(lambda boot: boot[:MAX_BOOT_CHARS]),
        rev=st.none() | st.integers(0, 2**53),
        status=st.sampled_from(["ok", "degraded", "stopping"]),
        detail=st.none() | texts,
        every=st.none() | st.floats(0.001, 1e6),
    )
)
def test_what_is_made_is_read_back_to_the_millisecond(beat):
    raw = encode_beat(beat)
    assert list(orjson.loads(raw))[:3] == ["svc", "i", "ts"]
    assert parse_beat(raw, "a") == replace(
        beat,
        ts=round(beat.ts, 3),
        detail=None if beat.detail is None else beat.detail[:200],
        every=None if beat.every is None else round(beat.every, 3),
    )
