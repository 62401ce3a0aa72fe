"""Teams: its golden payloads, its limit as Teams counts, hostile names, and a no that comes as a 200."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.channels.channel import SendError
from marketswarm.channels.http import Http
from marketswarm.channels.message import Message, Severity
from marketswarm.channels.teams import CARD_AT_MOST, Options, Teams, build_payload
from marketswarm.channels.text import printable_line
from support.channel_messages import CASES, HOSTILE, MISS, agrees, group_of, hostile
from support.chat_schemas import Teams as Documented
from support.rig.receiver import Answer, Receiver

TEXTS = st.text(st.characters(), max_size=300)  # halves of characters too


def said(message: Message) -> list[str]:
    """All that people see, a block each; nothing else in the card is text."""
    body = build_payload(message)
    Documented.model_validate_json(orjson.dumps(body))
    blocks = body["attachments"][0]["content"]["body"]
    return ["".join(run["text"] for run in block["inlines"]) for block in blocks]


@pytest.mark.parametrize("case", CASES)
def test_the_payload_is_the_golden_one_and_as_documented(case):
    said(CASES[case])
    agrees("teams", case, orjson.dumps(build_payload(CASES[case])))


@pytest.mark.parametrize("count", [1, 200, 5000])
@pytest.mark.parametrize("name", ["w", "x" * 63, '"\\' * 40, "\U0001f4a9" * 1000])
def test_however_many_and_long_the_names_the_limit_is_kept_as_teams_counts(count, name):
    message = group_of([f"{i}{name}" for i in range(count)])
    shown = said(message)[2:]
    left = int(shown.pop().split()[1].replace(",", "")) if shown[-1].endswith(" more") else 0
    assert len(shown) + left == count
    counted = len(json.dumps(json.dumps(build_payload(message), separators=(",", ":"))))
    assert counted <= CARD_AT_MOST
    assert left == 0 or counted > CARD_AT_MOST - 1500  # and there was no room for many more


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stands_where_nothing_is_markup_and_is_shown_as_it_is(name):
    """That it is nowhere but in text runs is for the documented schema to say, which knows no other block."""
    for text in said(hostile(name)):
        assert "{{" not in text
    assert printable_line(name) in " ".join(said(hostile(name))).replace("\u200b", "")


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=30))
def test_whatever_a_message_says_the_payload_is_as_documented(title, text, lines):
    said(Message("x", title, text, Severity.INFO, 0.0, lines=tuple(lines)))


@pytest.mark.parametrize(
    ("code", "permanent"), [(429, False), (408, False), (500, False), (413, True), (404, True)]
)
async def test_what_a_connector_could_not_hand_on_is_a_refusal_though_it_says_200(code, permanent):
    body = (
        b"Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error %d with x"
        % code
    )
    with Receiver(Answer(200, body=body), Answer(200, body=b"1"), 202) as receiver:
        http = Http(within_sec=2.0)
        teams = Teams("teams", Options(url=receiver.url), http)
        with pytest.raises(SendError) as caught:
            await teams.send(MISS)
        assert (caught.value.reason, caught.value.is_permanent) == (str(code), permanent)
        assert [(await teams.send(MISS)).answer for _ in range(2)] == ["200", "202"]
        await http.aclose()
