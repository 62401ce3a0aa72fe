"""The links of a message: who may make them, what they say, for which messages, and when they count."""

import string
from base64 import b32encode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from marketswarm.channels import AlertState, Message, Severity
from marketswarm.channels.message import encode_message, parse_message
from marketswarm.event import Event, Kind, encode_event
from marketswarm.operator.approval_request import (
    MAX_WAIT_SEC,
    ApprovalRequest,
    describe_request,
    find_request,
)
from marketswarm.operator.signed_link import (
    MAX_LIFE_SEC,
    MAX_LINK_CHARS,
    LinkAction,
    SignedLink,
    make_link,
    read_link,
)
from marketswarm.settings.programs import NotifierSettings
from notifier.message_links import MAX_APPROVALS, make_link_adder

UNTIL = 1_800_000_900.0
KEY, URL, NOW = SecretStr("k" * 32), "https://up.example/board", 1_800_000_000.25
PROPOSED = Event(
    Kind.MONITOR_MISS, "medic/proposed/feed", NOW, "e.1", "medic",
    reason="restart; to approve it until 2027-01-15 08:15:00 UTC: marketswarm medic approve 3f9a1c04",
)  # fmt: skip
PROPOSAL = Message("m.1", "title", "text", Severity.WARNING, NOW, events=(encode_event(PROPOSED),))
MISS = Event(Kind.HEARTBEAT_MISS, "feed", NOW, "e.2", "healer")


def lasting(svc, thread="m.2", name="heartbeat", ended_at=None):
    return AlertState(name, svc, thread, Severity.WARNING, NOW, ended_at)


DOWN = Message(
    "m.2", "feed is down", "text", Severity.WARNING, NOW,
    events=(encode_event(MISS),), opens=True, about=("feed",), states=(lasting("feed"),),
)  # fmt: skip


def add(message, channel="team", *, key=KEY):
    return make_link_adder(NotifierSettings(approval_link_key=key, board_public_url=f"{URL}/"))(
        message, channel
    )


def read(link, now=NOW):
    start, _, text = link.url.rpartition("/")
    assert start == f"{URL}/link"
    found = read_link(text, KEY)
    return None if found is None or found.is_expired(now) else found


def labels(message, **more):
    return [link.label for link in add(message, **more).links]


def test_a_message_about_a_proposal_has_its_link_and_each_attempt_has_the_same():
    sent = add(PROPOSAL)
    approve, page = sent.links
    assert (approve.label, approve.action) == ("Approve: restart feed", "approve")
    assert (page.label, page.url, page.action) == ("Open incidents", f"{URL}/incidents", "")
    assert read(approve) == SignedLink(LinkAction.APPROVE, ("3f9a1c04",), "restart feed", "team", UNTIL)
    assert read(approve, UNTIL + 1) is None
    assert add(PROPOSAL) == sent
    assert replace(sent, links=()) == PROPOSAL, "nothing else is changed"


def test_a_message_about_an_outage_has_a_page_an_answer_and_quiet():
    see, quiet, page = add(DOWN).links
    assert [link.label for link in (see, quiet, page)] == ["I see to it", "Quiet for 2 h", "Open feed"]
    assert page.url == f"{URL}/services/feed"
    until = float(int(NOW + MAX_LIFE_SEC))
    assert read(see) == SignedLink(LinkAction.ACK, ("m.2",), "feed", "team", until)
    assert read(quiet) == SignedLink(LinkAction.QUIET, ("feed",), "feed", "team", until)
    assert read(see).author == "link of team"
    assert see.url not in repr(see), "it lets its reader act, so no log shows it"


def test_a_link_is_never_stored_with_its_message():
    stored = encode_message(add(DOWN))
    assert b"/link/" not in stored
    assert parse_message(stored) == DOWN


def test_an_end_has_the_page_alone_and_so_has_flapping_without_an_outage():
    up = Event(Kind.HEARTBEAT_OK, "feed", NOW, "e.3", "healer", down_sec=3.0)
    end = replace(DOWN, events=(encode_event(up),), opens=False, states=(lasting("feed", ended_at=NOW),))
    assert labels(end) == ["Open feed"]
    assert labels(replace(DOWN, states=(lasting("feed", name="flapping"),))) == ["Open feed"]
    assert labels(replace(DOWN, events=(), about=(), states=())) == ["Open notifications"]


def test_a_group_is_answered_by_its_threads_and_kept_quiet_while_its_names_are_few():
    events = tuple(encode_event(replace(MISS, svc=f"feed{n}", id=f"e.{n}")) for n in range(200))
    group = replace(DOWN, events=events, states=tuple(lasting(f"feed{n}") for n in range(200)))
    see, page = add(group).links
    assert read(see).subjects == ("m.2",)
    assert read(see).about == "feed0, feed1, feed2 and 197 more"
    assert page.label == "Open incidents"
    assert labels(replace(group, states=group.states[:5])) == [
        "I see to it",
        "Quiet for 2 h",
        "Open incidents",
    ]
    several = replace(group, states=tuple(lasting(f"feed{n}", f"m.{n}") for n in range(6)))
    assert labels(several) == ["Open incidents"], "of more conversations than one link names"
    mixed = replace(DOWN, states=(lasting("feed"), lasting("mesh", ended_at=NOW)))
    assert read(add(mixed).links[1]).subjects == ("feed",), "what is up again is not silenced"


@pytest.mark.parametrize("name", ["*", "fee?", "feed[0]", "x" * 201, "", "\ud800"])
def test_a_name_that_would_silence_others_or_is_none_is_not_silenced_by_a_link(name):
    assert "Quiet for 2 h" not in labels(replace(DOWN, states=(lasting(name),)))


def test_a_rule_of_the_medic_is_seen_to_and_not_silenced_since_no_silence_names_it():
    message = replace(DOWN, states=(lasting("medic/rule/feed", name="monitor"),))
    assert labels(message) == ["I see to it", "Open feed"]


def test_without_a_key_links_only_show_and_without_an_address_there_are_none():
    assert make_link_adder(NotifierSettings()) is None
    assert labels(DOWN, key=None) == ["Open feed"]
    assert labels(PROPOSAL, key=None) == ["Open incidents"]


def test_no_other_event_is_a_proposal():
    for other in (
        replace(PROPOSED, type=Kind.MONITOR_OK),
        replace(PROPOSED, svc="medic/escalated/feed"),
        replace(PROPOSED, svc="proposed/feed"),
        replace(PROPOSED, reason=None),
        replace(PROPOSED, reason=f"{PROPOSED.reason} and more"),
        replace(PROPOSED, reason=f"{PROPOSED.reason}\n"),
        replace(PROPOSED, reason="marketswarm medic approve fuse"),
        replace(PROPOSED, reason="restart; to approve it: marketswarm medic approve 3f9a1c04"),
        replace(PROPOSED, reason=PROPOSED.reason.replace("01-15", "02-30")),
        replace(PROPOSED, reason=PROPOSED.reason.replace("08:15", "08:75")),
    ):
        assert find_request(other) is None
        assert labels(replace(PROPOSAL, events=(encode_event(other),)))[:-1] == []


def test_a_proposal_s_link_lives_as_long_as_it_and_a_day_at_most():
    for until, ends_at in ((NOW + 60, 1_800_000_060.0), (NOW + 9 * MAX_WAIT_SEC, NOW + MAX_WAIT_SEC)):
        request = ApprovalRequest("restart, while 4 that are up need it", "3f9a1c04", until)
        event = replace(PROPOSED, reason=describe_request(request))
        assert find_request(event) == replace(request, until=ends_at)


@pytest.mark.parametrize(
    ("remedy", "label"),
    [
        ("restart, while 4 that are up need it", "Approve: restart feed"),
        ("pause_source (source kraken)", "Approve: pause the source (feed)"),
        ("of_another_release", "Approve: of_another_release (feed)"),
        ("\u202e\n" + "x" * 5_000, "Approve: (feed)"),
        ("", "Approve: (feed)"),
    ],
)
def test_a_link_says_in_words_what_is_approved(remedy, label):
    event = replace(PROPOSED, reason=describe_request(ApprovalRequest(remedy, "3f9a1c04", UNTIL)))
    assert labels(replace(PROPOSAL, events=(encode_event(event),)))[0] == label


def test_a_message_has_a_few_approvals_at_most():
    many = replace(PROPOSAL, events=(encode_event(PROPOSED),) * 50)
    assert [link.action for link in add(many).links].count("approve") == MAX_APPROVALS


@pytest.mark.parametrize(
    "settings", [{"approval_link_key": "short", "board_public_url": URL}, {"approval_link_key": "k" * 32}]
)
def test_a_short_key_or_one_without_the_address_of_the_board_is_refused_and_not_repeated(settings):
    with pytest.raises(ValidationError) as found:
        NotifierSettings(**settings)
    assert "k" * 32 not in str(found.value)
    assert "short" not in str(found.value)


LINK = SignedLink(LinkAction.ACK, ("m.2",), "feed", "team", 1_800_000_000.0)


def test_a_link_counts_until_its_time_and_by_its_own_key_and_no_part_of_it_can_be_changed():
    text = make_link("", KEY, LINK).rpartition("/")[2]
    assert read_link(text, KEY) == LINK
    assert (LINK.is_expired(NOW - 1), LINK.is_expired(NOW + 1)) == (False, True)
    assert read_link(text, SecretStr("l" * 32)) is None
    assert set(text) <= {*string.ascii_lowercase, *"234567."}, "no markup of a chat changes it"
    for at, char in enumerate(text):
        assert read_link(f"{text[:at]}{'a' if char != 'a' else 'b'}{text[at + 1 :]}", KEY) is None
    for other in (text[:-1], f"{text}=", f" {text}", text.upper()):
        assert read_link(other, KEY) is None


def test_two_links_of_other_acts_channels_or_times_are_used_apart():
    others = [
        replace(LINK, action=LinkAction.QUIET),
        replace(LINK, subjects=("m.3",)),
        replace(LINK, channel="night"),
        replace(LINK, until=LINK.until + 1),
    ]
    assert len({link.id for link in (LINK, *others)}) == 5
    assert read_link(make_link("", KEY, LINK).rpartition("/")[2], KEY).id == LINK.id


def test_a_link_that_would_be_too_long_for_a_button_is_not_made():
    assert make_link("", KEY, replace(LINK, subjects=("x" * 200,) * 5)) is None
    longest = make_link("", KEY, replace(LINK, subjects=("x" * 200,)))
    assert len(longest) < MAX_LINK_CHARS


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda raw: b32encode(raw).decode().lower()))
def test_no_text_is_a_link_or_breaks_its_reading(text):
    assert read_link(text, KEY) is None
    assert read_link(f"{text}.{'a' * 32}", KEY) is None
