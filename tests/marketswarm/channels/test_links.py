"""The links of a message, as each receiver shows them: buttons where it has some, otherwise words."""

import re
from dataclasses import replace
from email import message_from_string, policy

import orjson
import pytest

from marketswarm.channels.links import list_links
from marketswarm.channels.message import MessageLink
from support.channel_kinds import KINDS
from support.channel_messages import GROUP, HOSTILE, LINKED, MISS, OK, group_of

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
by_name = {kind.name: kind for kind in KINDS}
SEE, QUIET, PAGE = LINKED.links
APPROVE = MessageLink("Approve: feed", "https://up.example/link/approve.s", "approve")
LOCAL = tuple(replace(link, url=link.url.replace("up.example", "localhost:8080")) for link in LINKED.links)
LONG = tuple(
    MessageLink(f"{'&_' * 60}{n}", f"https://up.example/link/{'a' * 798}{n}", "approve") for n in range(7)
)


def build(name, message):
    payload = by_name[name].build(message)
    by_name[name].check(payload)
    return payload if name == "email" else orjson.loads(payload)


def list_shown(message):
    return [(link.label, link.url) for link in message.links]


@every_kind
def test_with_links_of_every_length_and_host_each_payload_is_as_documented(kind):
    for links in (LINKED.links, LOCAL, LONG, (*LONG, PAGE), (replace(PAGE, label=""),)):
        for message in (MISS, OK, GROUP, group_of(["x" * 200] * 500), replace(MISS, text="&" * 9000)):
            if links[0].label or kind.name == "email":
                kind.check(kind.build(replace(message, links=links)))


@every_kind
def test_the_page_is_always_there_and_the_whole_of_each_address(kind):
    for links in (LINKED.links, LOCAL, (*LONG, PAGE)):
        shown = kind.build(replace(MISS, links=links)).replace(b"\\n", b"\n").replace(b"=\n", b"")
        assert links[-1].url.encode() in shown
        for address in re.findall(rb"https?://(?:up|local)[a-z.:0-9]+/[a-z]+/[a-z0-9_.]+", shown):
            known = [link.url.encode() for link in links]
            assert kind.name == "email" or address in known, "none is cut off"


@pytest.mark.parametrize("name", ["slack", "slack by token"])
def test_slack_has_buttons_that_open_them(name):
    (attachment,) = build(name, LINKED)["attachments"]
    *sections, actions = attachment["blocks"]
    assert [block["type"] for block in sections] == ["section"]
    assert [(each["text"]["text"], each["url"]) for each in actions["elements"]] == list_shown(LINKED)


def test_telegram_has_a_keyboard_and_lines_where_it_would_refuse_the_address_of_a_button():
    rows = build("telegram", LINKED)["reply_markup"]["inline_keyboard"]
    assert [(button["text"], button["url"]) for (button,) in rows] == list_shown(LINKED)
    local = build("telegram", replace(MISS, links=LOCAL))
    assert "reply_markup" not in local
    assert local["text"].endswith("\nOpen rss_agg: https://localhost:8080/services/rss_agg")


def test_teams_has_actions_of_the_card():
    card = build("teams", LINKED)["attachments"][0]["content"]
    assert [(each["title"], each["url"]) for each in card["actions"]] == list_shown(LINKED)
    many = build("teams", replace(MISS, links=(*LONG, PAGE)))["attachments"][0]["content"]["actions"]
    assert (len(many), many[-1]["url"]) == (6, PAGE.url)


def test_ntfy_opens_the_page_and_answers_in_one_tap_while_a_proposal_is_read_first():
    found = build("ntfy", replace(LINKED, links=(APPROVE, *LINKED.links)))
    assert found["click"] == PAGE.url
    assert [(each["action"], each["url"]) for each in found["actions"]] == [
        ("view", APPROVE.url),
        ("http", SEE.url),
        ("http", QUIET.url),
    ]
    assert "actions" not in build("ntfy", replace(MISS, links=(PAGE,)))


def test_pushover_has_the_answer_below_the_message_and_the_others_as_links_in_it():
    found = build("pushover", LINKED)
    assert (found["url_title"], found["url"]) == (SEE.label, SEE.url)
    assert re.findall(r'<br><a href="([^"]+)">([^<]+)</a>', found["message"]) == [
        (QUIET.url, QUIET.label),
        (PAGE.url, PAGE.label),
    ]
    page_alone = build("pushover", replace(MISS, links=(PAGE,)))
    assert (page_alone["url_title"], page_alone["url"]) == (PAGE.label, PAGE.url)
    odd = MessageLink("<b>", 'https://up.example/?a=1&b="')
    assert (
        '<a href="https://up.example/?a=1&amp;b=&quot;">&lt;b&gt;</a>'
        in build("pushover", replace(MISS, links=(SEE, odd)))["message"]
    )


def test_discord_has_links_of_markdown_that_nothing_in_them_ends():
    description = build("discord", LINKED)["embeds"][0]["description"]
    last = description.splitlines()[-1]
    assert re.findall(r"\[([^\]]+)\]\(([^)]+)\)", last) == [
        (label.replace("rss_agg", r"rss\_agg"), url) for label, url in list_shown(LINKED)
    ]
    odd = MessageLink("a](https://evil.example)", "https://up.example/b(c)")
    shown = build("discord", replace(MISS, links=(odd,)))["embeds"][0]["description"].splitlines()[-1]
    assert shown == r"[a\](https\://evil.example)](https://up.example/b%28c%29)"


def test_a_mail_has_lines_in_its_text_and_links_in_its_html():
    found = message_from_string(build("email", LINKED).decode(), policy=policy.default)
    plain, html = (part.get_content() for part in found.iter_parts())
    for label, url in list_shown(LINKED):
        assert f"{label}: {url}\n" in plain
        assert re.search(rf'<a [^>]*href="{re.escape(url)}">{label}</a>', html)


def test_pagerduty_keeps_them_with_the_alert_and_alertmanager_in_the_description():
    (request,) = build("pagerduty", LINKED)
    assert request["client_url"] == PAGE.url
    assert [(each["text"], each["href"]) for each in request["links"]] == list_shown(LINKED)
    group = build("alertmanager", LINKED)
    assert group["externalURL"] == PAGE.url
    assert f"\nI see to it: {SEE.url}\n" in group["alerts"][0]["annotations"]["description"]


@pytest.mark.parametrize("name", ["webhook", "exec"])
def test_a_program_gets_them_as_a_list_and_a_person_in_the_text(name):
    data = build(name, LINKED)["data"]
    assert [(each["label"], each["url"], each["action"]) for each in data["links"]] == [
        (link.label, link.url, link.action) for link in LINKED.links
    ]
    assert data["text"].endswith(f"\nOpen rss_agg: {PAGE.url}")
    assert "links" not in build(name, MISS)["data"]


def test_apprise_changes_no_character_of_an_address():
    body = build("apprise", LINKED)["body"]
    for _, url in list_shown(LINKED):
        assert f": {url}" in body


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name not in ("email", "discord")])
def test_a_hostile_name_in_a_label_breaks_no_payload(kind):
    for name in HOSTILE:
        kind.check(kind.build(replace(MISS, links=(MessageLink(f"Open {name}", PAGE.url),))))


def test_what_acts_comes_first_and_the_page_stays_where_there_are_too_many():
    assert list_links(replace(MISS, links=(*LONG, PAGE)), 3) == [*LONG[:2], PAGE]
