"""Every kind of channel as a row of a table: what it is made of, what it sends, how people read that.

`tests/marketswarm/channels/test_contract.py` says what holds for all of them. What only one kind does is
proven in the file of that kind.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_string, policy
from email.message import EmailMessage
from functools import partial
from html import unescape
from html.parser import HTMLParser
from typing import Any

import orjson
import pytest
from pydantic import TypeAdapter

from marketswarm.channels import (
    Channel,
    Failure,
    Message,
    SendError,
    alertmanager,
    apprise,
    discord,
    ntfy,
    pagerduty,
    pushover,
    slack,
    teams,
    telegram,
    webhook,
)
from marketswarm.channels import email as mail
from marketswarm.channels.message import encode_webhook_body
from marketswarm.channels.text import printable_line, replace_surrogates
from support import chat_schemas as documented
from support.channel_messages import MISS

TEMPORARY, REJECTED, BROKEN = Failure.TEMPORARY, Failure.REJECTED, Failure.BROKEN
KEY = "hunter2-0123456789abcdef01234567"
SECRETS = ("s3cret", "hunter2")
HOST = "receiver.example.org:8443"
URL = f"https://{HOST}/hook/s3cret"

Refusal = tuple[int, bytes, str, Failure, float | None]
"""The status and the body of a receiver's answer; the reason, the failure and the pause that follow."""


@dataclass(frozen=True)
class ChannelKind:
    """One kind of channel."""

    name: str
    build: Callable[[Message], bytes]
    """The payload of a message, as its golden file has it."""
    read: Callable[[bytes], list[str]]
    """What people see of a payload: the title, the text, each line. Fails where a part of it is markup."""
    schema: Any = Any
    """What its receiver documents of a payload."""
    make: Callable[..., Channel] | None = None
    """Makes the channel from its name, its options and an HTTP client; None where it has none."""
    options: Mapping[str, Any] = field(default_factory=lambda: {"url": URL})
    accepted: tuple[int, bytes] = (200, b"")
    answer: str = "200"
    """What the receipt says after the answer `accepted`."""
    refusals: tuple[Refusal, ...] = ()
    """What only this receiver answers, beside what every one does by its status."""
    sent: Callable[[list[bytes]], bytes] = lambda bodies: bodies[0]
    """The payload of a message from the bodies of its requests."""
    show: Callable[[str], str] = printable_line
    """How a name looks where people see it."""
    widest: str = ""
    """A text that grows most when it is escaped; empty where a payload has no limit to test here."""
    has_golden: bool = True

    @property
    def module(self) -> str:
        return f"marketswarm.channels.{self.name.split()[0]}"

    def check(self, payload: bytes) -> None:
        """Raise ValueError unless the payload is as documented."""
        if self.schema is not Any:
            TypeAdapter(self.schema).validate_json(payload)


def in_json(build: Callable[..., Any], *arguments: Any, **more: Any) -> Callable[[Message], bytes]:
    """Return what builds a payload of JSON, with some more in it."""
    return lambda message: orjson.dumps({**more, **build(message, *arguments)})


def error(status: int, found: object, reason: str, failure: Failure, pause: float | None = None) -> Refusal:
    body = found if isinstance(found, bytes) else orjson.dumps(found)
    return status, body, reason, failure, pause


class Markup(HTMLParser):
    """Reads what HTML shows, and which tags and attributes it has."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.shown = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(" ".join([tag, *(name for name, _ in attrs)]))

    def handle_data(self, data: str) -> None:
        self.shown += data


def read_slack(raw: bytes) -> list[str]:
    body = orjson.loads(raw)
    blocks = [block for attachment in body["attachments"] for block in attachment["blocks"]]
    texts = [body["text"], *(block["text"]["text"] for block in blocks)]
    assert not set("".join(texts)) & set("<>")
    return [line for text in texts for line in unescape(text).split("\n")]


def refuse_slack(words: str, failure: Failure) -> Iterator[Refusal]:
    for word in words.split():
        yield error(200, {"ok": False, "error": word}, word, failure)


SLACK_REFUSALS = (
    *refuse_slack("channel_not_found invalid_auth not_in_channel is_archived token_revoked", BROKEN),
    *refuse_slack("missing_scope", BROKEN),
    *refuse_slack("msg_blocks_too_long msg_too_long invalid_blocks", REJECTED),
    *refuse_slack("ratelimited rate_limited internal_error service_unavailable", TEMPORARY),
    *(
        error(200, body, "bad_answer", TEMPORARY)
        for body in (b"", b"ok", b"[]", b'{"ok":"true"}', b'{"ok":false,"error":"<x> y"}', b"\xff")
    ),
)


def read_discord(raw: bytes) -> list[str]:
    embed = orjson.loads(raw)["embeds"][0]
    assert not re.search(r"^\s*(- |\+ |\d+[.)] )", embed["description"], re.MULTILINE), "a list"
    assert not re.search(r":\S+:|://", embed["description"].replace("\\:", "")), "an emoji or a link"
    escaped = r"\\(_|[^\w\s])"
    for text in (embed["title"], embed["description"]):
        assert not set(re.sub(escaped, "", text)) & set("\\*_~`|<>[]@#"), text
    return [re.sub(escaped, r"\1", line) for line in (embed["title"], *embed["description"].split("\n"))]


def read_teams(raw: bytes) -> list[str]:
    blocks = orjson.loads(raw)["attachments"][0]["content"]["body"]
    texts = ["".join(run["text"] for run in block["inlines"]) for block in blocks]
    assert not any("{{" in text for text in texts)
    return [text.replace("{\u200b", "{") for text in texts]


TEAMS_FAILED = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error"
TEAMS_REFUSALS = tuple(
    error(200, f"{TEAMS_FAILED} {code}".encode(), str(code), failure)
    for code, failure in (
        (429, TEMPORARY),
        (408, TEMPORARY),
        (500, TEMPORARY),
        (413, REJECTED),
        (404, BROKEN),
    )
)


def read_ntfy(raw: bytes) -> list[str]:
    body = orjson.loads(raw)
    return [body["title"], *body["message"].split("\n")]


def read_telegram(raw: bytes) -> list[str]:
    found = Markup(orjson.loads(raw)["text"])
    assert found.tags == {"b"}
    assert not re.search(r"(?<!\w)[@#$/]\w", found.shown), "a mention, a tag or a command"
    return found.shown.replace("\u2060", "").split("\n")


def refuse_telegram(status: int, code: object, failure: Failure, said: str = "x", **more: int) -> Refusal:
    found = {"ok": False, "error_code": code, "description": said, "parameters": more}
    pause = more.get("retry_after")
    return error(status, found, str(code), failure, None if pause is None else float(pause))


TELEGRAM_REFUSALS = (
    refuse_telegram(400, 400, REJECTED, "Bad Request: message is too long"),
    refuse_telegram(400, 400, REJECTED, "Bad Request: can't parse entities"),
    refuse_telegram(400, 400, BROKEN, "Bad Request: chat not found"),
    refuse_telegram(400, 400, BROKEN, "Bad Request: not enough rights to send text messages"),
    refuse_telegram(401, 401, BROKEN, "Unauthorized"),
    refuse_telegram(403, 403, BROKEN, "Forbidden: bot was kicked"),
    refuse_telegram(429, 429, TEMPORARY, "Too Many Requests: retry after 34", retry_after=34),
    refuse_telegram(500, 500, TEMPORARY),
    refuse_telegram(200, 429, TEMPORARY, retry_after=5),
    refuse_telegram(200, 403, BROKEN),
    error(200, {"ok": False, "error_code": "x"}, "bad_answer", TEMPORARY),
    error(200, b"ok", "bad_answer", TEMPORARY),
    error(200, {"ok": 1, "parameters": []}, "bad_answer", TEMPORARY),
    error(502, b"<html>", "502", TEMPORARY),
)


def read_pushover(raw: bytes) -> list[str]:
    body = orjson.loads(raw)
    assert "\n" not in body["message"], "HTML shows it as a blank"
    found = Markup(body["message"].replace("<br>", "\n"))
    assert found.tags <= {"a href"}
    return [body["title"], *found.shown.split("\n")]


def strip_pushover_keys(bodies: list[bytes]) -> bytes:
    """Return the message of the requests for one: those after it cancel emergencies."""
    message, *cancels = map(orjson.loads, bodies)
    assert (message.pop("token"), message.pop("user")) == (KEY, f"u{KEY}")
    assert all(each == {"token": KEY} for each in cancels)
    return orjson.dumps(message)


PUSHOVER_REFUSALS = (
    error(200, {"status": 0, "errors": ["x"]}, "bad_answer", TEMPORARY),
    error(200, b"ok", "bad_answer", TEMPORARY),
    error(400, {"status": 0, "token": "invalid", "errors": ["application token is invalid"]}, "400", BROKEN),
    error(400, {"status": 0, "user": "invalid", "errors": ["user identifier is invalid"]}, "400", BROKEN),
    error(400, {"status": 0, "message": "cannot be blank"}, "400", REJECTED),
    error(429, {"status": 0, "errors": ["over its limit"]}, "429", BROKEN),
    error(500, {"status": 0}, "500", TEMPORARY),
)


def read_webhook(raw: bytes) -> list[str]:
    data = orjson.loads(raw)["data"]
    return [data["title"], data["text"], *data["lines"]]


def read_alertmanager(raw: bytes) -> list[str]:
    alerts = orjson.loads(raw)["alerts"]
    return [text for alert in alerts for text in alert["annotations"].values()]


def read_pagerduty(raw: bytes) -> list[str]:
    shown: list[str] = []
    for request in orjson.loads(raw):
        if payload := request.get("payload"):
            details = payload["custom_details"]
            shown += [payload["summary"], details["text"], *details.get("lines", ())]
    return shown


def strip_routing_keys(bodies: list[bytes]) -> bytes:
    requests = [orjson.loads(body) for body in bodies]
    assert {request.pop("routing_key") for request in requests} == {KEY}
    return orjson.dumps(requests)


def compose(message: Message, sender: str = "MarketSwarm <swarm@example.org>") -> EmailMessage:
    """Return the mail of a message, written at a known time."""
    written_at = datetime(2025, 11, 6, 12, 51, 30, tzinfo=UTC)
    return mail.compose_mail(message, sender, "Ops <ops@example.org>,night@example.org", written_at)


def build_mail(message: Message) -> bytes:
    return re.sub(r"={15}\d+==", "=boundary=", compose(message).as_string()).encode()


def read_mail(raw: bytes) -> list[str]:
    """Return the subject, and what either form shows, which must be the same words."""
    found = message_from_string(raw.decode(), policy=policy.default)
    assert max(map(len, raw.splitlines())) < 998
    assert not found.defects
    plain, html = found.iter_parts()
    assert (plain.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    markup, text = Markup(html.get_content()), plain.get_content()
    assert all(re.fullmatch("(html|body|h3|p|br|table|tr|td)( style)?", tag) for tag in markup.tags)
    assert markup.shown.split() == text.split()
    return [found["Subject"], *text.split("\n")]


def read_apprise(raw: bytes) -> list[str]:
    found = orjson.loads(raw)
    text = f"{found['title']}\n{found['body']}"
    assert not set(text) & set("<>@*`~|[]#&\\{}")
    assert not re.search(r":rotating| _|_ ", text)
    return text.split("\n")


SLACK_BY_TOKEN = {"token": f"xoxb-{KEY}", "channel": "#ops"}
SLACK_POSTED = b'{"ok":true,"channel":"C1","ts":"1503435956.000247","message":{}}'
TELEGRAM = {"token": f"123456:{KEY}", "chat": "-1001", "url": URL}
TELEGRAM_SENT = b'{"ok":true,"result":{"message_id":77,"date":1,"chat":{"id":-1001}}}'
PUSHOVER = {"token": KEY, "user": f"u{KEY}", "url": URL}
PUSHOVER_TAKEN = b'{"status":1,"request":"647d2300-702c-4b38-8b2f-d56326ae460b"}'
PAGERDUTY_TAKEN = b'{"status":"success","message":"Event processed","dedup_key":"a"}'
MAIL = {"host": "mail.example.org", "sender": "a@b.example", "to": "c@d.example", "password": KEY}

# fmt: off
KINDS = (
    ChannelKind(
        "slack", in_json(slack.build_payload), read_slack, documented.Slack, slack.Slack, widest="&" * 63,
    ),
    ChannelKind(
        "slack by token", in_json(slack.build_payload, channel="#ops"), read_slack, documented.SlackPost,
        partial(slack.Slack, api=URL), SLACK_BY_TOKEN, (200, SLACK_POSTED), "ok", SLACK_REFUSALS,
        has_golden=False,
    ),
    ChannelKind(
        "discord", in_json(discord.build_payload), read_discord, documented.Discord, discord.Discord,
        refusals=(
            error(400, {"code": 50035}, "400", REJECTED),
            error(400, {"code": 50083}, "400", BROKEN),
            error(404, {"code": 10015}, "404", BROKEN),
            error(429, {"retry_after": 64.57}, "429", TEMPORARY, 64.57),
        ),
        widest="_" * 63,
    ),
    ChannelKind(
        "teams", in_json(teams.build_payload), read_teams, documented.Teams, teams.Teams,
        accepted=(202, b"1"), answer="202", refusals=TEAMS_REFUSALS, widest='"\\' * 40,
    ),
    ChannelKind(
        "ntfy", in_json(ntfy.build_payload, "ops"), read_ntfy, documented.Ntfy, ntfy.Ntfy,
        {"url": f"{URL}/ops", "token": f"tk_{KEY}"}, widest='"\\' * 40,
    ),
    ChannelKind(
        "telegram", in_json(telegram.build_payload, chat_id="-1001"), read_telegram, documented.Telegram,
        telegram.Telegram, TELEGRAM, (200, TELEGRAM_SENT), "ok", TELEGRAM_REFUSALS, widest="&" * 63,
    ),
    ChannelKind(
        "pushover", in_json(pushover.build_payload), read_pushover, documented.Pushover, pushover.Pushover,
        PUSHOVER, (200, PUSHOVER_TAKEN), "ok", PUSHOVER_REFUSALS, strip_pushover_keys, widest="&" * 63,
    ),
    ChannelKind(
        "webhook", encode_webhook_body, read_webhook, documented.Webhook, webhook.Webhook,
        {"url": URL, "secret": KEY}, show=replace_surrogates,
    ),
    ChannelKind(
        "alertmanager",
        lambda message: next(iter(alertmanager.encode_alert_groups(message, "alertmanager").values())),
        read_alertmanager, documented.Alertmanager, alertmanager.Alertmanager, show=replace_surrogates,
    ),
    ChannelKind(
        "pagerduty", lambda message: orjson.dumps([*pagerduty.build_requests(message).values()]),
        read_pagerduty, list[documented.PagerDutyTrigger | documented.PagerDutyResolve], pagerduty.PagerDuty,
        {"routing_key": KEY, "url": f"https://{HOST}/v2/enqueue"}, (202, PAGERDUTY_TAKEN), "202",
        (
            error(400, {"errors": ["'payload.summary' is missing or blank"]}, "400", REJECTED),
            error(400, {"errors": ["Invalid routing key"]}, "400", BROKEN),
            error(400, {"errors": ["'routing_key' is missing or blank"]}, "400", BROKEN),
        ),
        strip_routing_keys,
    ),
    ChannelKind("email", build_mail, read_mail, options=MAIL),
    ChannelKind(
        "exec", encode_webhook_body, read_webhook, documented.Webhook,
        options={"command": f"/usr/bin/tell --token {KEY}"}, show=replace_surrogates,
    ),
    ChannelKind(
        "apprise", in_json(apprise.render_notification, 20_000), read_apprise,
        options={"urls": f"json://me:{KEY}@127.0.0.1/{KEY}"}, has_golden=False,
        show=lambda name: apprise.neutralize_markup(printable_line(name)),
    ),
)
# fmt: on
OVER_HTTP = tuple(kind for kind in KINDS if kind.make)


async def refused(channel: Channel, message: Message = MISS, anchor: str | None = None) -> SendError:
    """Return what sending a message comes to, in which no secret may show."""
    with pytest.raises(SendError) as caught:
        await channel.send(message, anchor)
    found = caught.value
    shown = f"{found!r} {found} {channel!r} {channel.where}"
    assert not any(secret in shown for secret in SECRETS)
    assert found.__cause__ is None  # no URL in a traceback either
    assert found.__context__ is None or found.__suppress_context__
    return found


async def refused_for(channel: Channel) -> tuple[str, bool]:
    """Return why a message was refused, and whether that is for good."""
    found = await refused(channel)
    return found.reason, found.is_permanent
