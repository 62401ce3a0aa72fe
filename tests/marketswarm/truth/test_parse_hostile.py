"""Whatever the bytes: `parse_truth` accepts them or raises TruthError, and shows no secret."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.truth import TruthError, find_nearest, parse_truth
from marketswarm.truth.errors import MAX_COMPARED_CHARS
from marketswarm.truth.parse import MAX_BYTES

SHIPPED = (Path(__file__).parents[3] / "truth.json").read_bytes()
WORDS = """
    services buses version rss_agg healer heartbeat channel interval_sec redis_url timeout_sec monitored
    threshold heartbeat_cadence bus_timeout_sec access_points subscribe_to publish_to bus key depends_on tags
    description endpoints settings url password api_key token system-redis market-redis
"""
KEYS = st.sampled_from(WORDS.split())
VALUES = st.sampled_from(
    [
        "env:NAME",
        "redis://:hunter2@h",
        "system-redis",
        "rss_agg:heartbeat",
        "redis://system-redis:6379",
        10,
        1e308,
        "",
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | KEYS | VALUES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(st.characters()), inner, max_size=6)
    ),
    max_leaves=12,
)
SECTION = st.fixed_dictionaries(
    {},
    optional={
        "heartbeat": st.dictionaries(KEYS, ANYTHING, max_size=4) | ANYTHING,
        "access_points": st.fixed_dictionaries(
            {},
            optional={
                kind: st.lists(st.dictionaries(KEYS, ANYTHING, max_size=3) | ANYTHING)
                for kind in ("subscribe_to", "publish_to")
            },
        ),
        "threshold": st.dictionaries(KEYS, ANYTHING, max_size=3) | ANYTHING,
        "depends_on": st.lists(KEYS | ANYTHING, max_size=3) | ANYTHING,
        "settings": st.dictionaries(KEYS, ANYTHING, max_size=3),
    },
)
ALMOST = st.fixed_dictionaries(
    {"services": st.dictionaries(KEYS | st.text(), SECTION | ANYTHING, max_size=5)},
    optional={
        "buses": st.dictionaries(
            KEYS | st.text(), st.dictionaries(KEYS, ANYTHING, max_size=2) | ANYTHING, max_size=3
        )
    },
)


def accepted_or_told(raw: bytes) -> None:
    try:
        loaded = parse_truth(raw)
    except TruthError as error:
        text = str(error) or "nothing said"
    else:
        text = "\n".join(map(str, loaded.warnings))
        # an accepted one answers everything that agents ask of it
        loaded.truth.watched()
        loaded.truth.alert_target("healer:alerts")
        assert all(loaded.truth.bus_of(svc) in loaded.truth.bus_names() for svc in loaded.truth.services)
        assert all(
            loaded.truth.bus_url(bus) is None or loaded.truth.bus_url(bus) for bus in loaded.truth.bus_names()
        )
    assert text != "nothing said"
    assert "hunter2" not in text
    text.encode()  # fit for a log
    assert all(character.isprintable() for character in text.replace("\n", ""))


@given(st.binary(max_size=300))
def test_no_bytes_whatever_crash_it(raw):
    accepted_or_told(raw)


@given(ANYTHING)
def test_no_json_whatever_crashes_it(document):
    accepted_or_told(json.dumps(document).encode())


@given(ALMOST)
def test_nothing_shaped_like_a_truth_crashes_it(document):
    accepted_or_told(json.dumps(document).encode())


@given(st.lists(st.tuples(st.integers(0, len(SHIPPED) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_no_damage_to_the_shipped_truth_crashes_it(damage):
    raw = bytearray(SHIPPED)
    for place, byte in damage:
        raw[place] = byte
    accepted_or_told(bytes(raw))


@given(st.integers(0, len(SHIPPED) - 1))
def test_a_cut_off_truth_is_never_accepted(length):
    cut = SHIPPED[:length]
    try:
        parse_truth(cut)
    except TruthError:
        return
    assert cut.strip() == SHIPPED.strip()


def test_more_than_the_limit_is_refused_unread():
    with pytest.raises(TruthError, match=r"^truth: 16777217 bytes are more than the 16777216"):
        parse_truth(b" " * (MAX_BYTES + 1))


def test_a_thousand_mistakes_are_a_thousand_lines():
    services = {f"s{n}": {"heartbeat": {"interval_sec": -n}} for n in range(1000)}
    with pytest.raises(TruthError) as caught:
        parse_truth(json.dumps({"services": services}).encode())
    assert len(caught.value.problems) == 1000


def make_unknown(services, unknown, length):
    """Return a document of services, one of which depends on others that are unknown, with names so long."""
    names = [f"{n:b}".rjust(length, "a") for n in range(services + unknown)]
    sections = {name: {} for name in names[:services]} | {"x": {"depends_on": names[services:]}}
    return json.dumps({"services": sections}).encode()


@pytest.mark.parametrize("length", [12, 60])
def test_a_document_of_many_unknown_names_is_compared_with_what_is_known_only_so_often(length, monkeypatch):
    compared = []

    def find(name, known, **how):
        compared.append(len(name) * sum(map(len, known)))
        return []

    monkeypatch.setattr("marketswarm.truth.errors.difflib.get_close_matches", find)
    with pytest.raises(TruthError) as refused:
        parse_truth(make_unknown(400, 400, length))
    assert len(refused.value.problems) == 400, "each is an error, with a hint or without"
    assert sum(compared) <= MAX_COMPARED_CHARS
    before = len(compared)
    with pytest.raises(TruthError):
        parse_truth(make_unknown(5, 5, length))
    assert len(compared) == before + 5, "the next document has hints again"


def test_the_known_names_are_cut_before_they_are_compared():
    assert find_nearest("a" * 5000, ["b" * 5000, "a" * 5000 + "b"]) == "a" * 5000 + "b"
