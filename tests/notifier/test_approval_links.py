"""The links that approve a proposal: who may make them, what they say, and when they count."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from marketswarm.channels import Message, Severity
from marketswarm.event import Event, Kind, encode_event
from marketswarm.operator.approval_link import (
    MAX_LIFE_SEC,
    LinkTarget,
    describe_request,
    find_link_target,
    make_link,
    read_link,
)
from marketswarm.settings import NotifierSettings
from notifier.approval_links import MAX_LINKS, make_link_adder

UNTIL = 1_800_000_900.0
KEY, URL, NOW = SecretStr("k" * 32), "https://up.example/board", 1_800_000_000.25
MISS = Event(
    Kind.MONITOR_MISS, "medic/proposed/feed", NOW, "e.1", "medic",
    reason="restart; to approve it until 2027-01-15 08:15:00 UTC: marketswarm medic approve 3f9a1c04",
)  # fmt: skip
MESSAGE = Message("m.1", "title", "text", Severity.WARNING, NOW, events=(encode_event(MISS),))


def test_a_message_about_a_proposal_has_its_link_and_each_attempt_has_the_same():
    add = make_link_adder(NotifierSettings(approval_link_key=KEY, board_public_url=f"{URL}/"))
    sent = add(MESSAGE)
    first, line = sent.text.split("\n")
    assert first == "text"
    link = line.removeprefix("approve medic/proposed/feed: ")
    assert link.startswith(f"{URL}/approve/3f9a1c04.1800000900.")
    assert read_link(link.rpartition("/")[2], KEY, UNTIL - 1) == LinkTarget("3f9a1c04", UNTIL)
    assert read_link(link.rpartition("/")[2], KEY, UNTIL + 1) is None
    assert add(MESSAGE) == sent
    assert replace(sent, text="text") == MESSAGE, "nothing else is changed"


def test_without_a_key_or_a_proposal_a_message_stays_as_it_is():
    assert make_link_adder(NotifierSettings()) is None
    add = make_link_adder(NotifierSettings(approval_link_key=KEY, board_public_url=URL))
    for other in (
        replace(MISS, type=Kind.MONITOR_OK),
        replace(MISS, svc="medic/escalated/feed"),
        replace(MISS, svc="proposed/feed"),
        replace(MISS, reason=None),
        replace(MISS, reason=f"{MISS.reason} and more"),
        replace(MISS, reason=f"{MISS.reason}\n"),
        replace(MISS, reason="marketswarm medic approve fuse"),
        replace(MISS, reason="restart; to approve it: marketswarm medic approve 3f9a1c04"),
        replace(MISS, reason=MISS.reason.replace("01-15", "02-30")),
        replace(MISS, reason=MISS.reason.replace("08:15", "08:75")),
    ):
        assert find_link_target(other) is None
        message = replace(MESSAGE, events=(encode_event(other),))
        assert add(message) is message


def test_a_link_lives_as_long_as_its_proposal_and_a_day_at_most():
    for until, ends_at in ((NOW + 60, 1_800_000_060.0), (NOW + 9 * MAX_LIFE_SEC, NOW + MAX_LIFE_SEC)):
        event = replace(MISS, reason=describe_request("restart", LinkTarget("3f9a1c04", until)))
        assert find_link_target(event) == LinkTarget("3f9a1c04", ends_at)


def test_a_message_has_a_few_links_at_most():
    add = make_link_adder(NotifierSettings(approval_link_key=KEY, board_public_url=URL))
    many = replace(MESSAGE, events=(encode_event(MISS),) * 50)
    assert add(many).text.count("/approve/") == MAX_LINKS


@pytest.mark.parametrize(
    "settings", [{"approval_link_key": "short", "board_public_url": URL}, {"approval_link_key": "k" * 32}]
)
def test_a_short_key_or_one_without_the_address_of_the_board_is_refused_and_not_repeated(settings):
    with pytest.raises(ValidationError) as found:
        NotifierSettings(**settings)
    assert "k" * 32 not in str(found.value)
    assert "short" not in str(found.value)


def test_a_link_counts_until_its_time_and_by_its_own_key():
    end = make_link("", KEY, LinkTarget("3f9a1c04", NOW)).rpartition("/")[2]
    assert read_link(end, KEY, NOW - 1) == LinkTarget("3f9a1c04", int(NOW))
    assert read_link(end, KEY, NOW + 1) is None
    assert read_link(end, SecretStr("l" * 32), NOW - 1) is None
    ident, until, signature = end.split(".")
    for changed in (
        f"0f9a1c04.{until}.{signature}",
        f"{ident}.{int(until) + 1}.{signature}",
        f"{ident}.{until}.{signature[:-1]}",
        f"{ident}.{until}.{signature}=",
        f" {end}",
    ):
        assert read_link(changed, KEY, NOW - 1) is None


@given(st.text(max_size=80))
def test_no_text_is_a_link_or_breaks_its_reading(text):
    assert read_link(text, KEY, NOW) is None
