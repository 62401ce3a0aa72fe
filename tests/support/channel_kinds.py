"""Every kind of channel as a row of a table: what it is made of, what it sends, how people read that.

`tests/marketswarm/channels/test_contract.py` says what holds for all of them. What only one kind does is
proven in the file of that kind.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_string, policy
from email.message import EmailMessage
from html import unescape
from html.parser import HTMLParser
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

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
    options: dict[str, Any]
    build: Callable[[Message], bytes]
    """The payload of a message, as its golden file has it."""
    check: Callable[[bytes], object]
    """Raises ValueError for a payload that its receiver's documentation does not allow."""
    read: Callable[[bytes], list[str]]
    """What people see of a payload: the title, the text, each line. Fails where a part of it is markup."""
    show: Callable[[str], str] = printable_line
    """How a name looks there."""
    widest: str = ""
    """A text that grows most when it is escaped; empty where a payload has no limit to test here."""
    has_golden: bool = True
    make: Callable[..., Channel] | None = None
    """Makes the channel from its name, its options and an HTTP client; None where it has none."""
    sent: Callable[[list[bytes]], bytes] = lambda bodies: bodies[0]
    """The payload of a message from the bodies of its requests."""
    accepted: tuple[int, bytes] = (200, b"")
    answer: str = "200"
    refusals: tuple[Refusal, ...] = ()
    """What only this receiver answers, beside what every one does by its status."""

    @property
    def module(self) -> str:
        return f"marketswarm.channels.{self.name.split()[0]}"


def of(model: type[BaseModel]) -> Callable[[bytes], object]:
    """Check by a model that refuses everything else."""
    return model.model_validate_json


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


def refuse_teams(code: int, failure: Failure) -> Refusal:
    said = f"Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error {code}"
    return error(200, said.encode(), str(code), failure)


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


def check_mail(raw: bytes) -> None:
    found = message_from_string(raw.decode(), policy=policy.default)
    assert [part.get_content_type() for part in found.iter_parts()] == ["text/plain", "text/html"]
    assert not found.defects
    assert max(map(len, raw.splitlines())) < 998


def read_mail(raw: bytes) -> list[str]:
    """Return the subject, and what either form shows, which must be the same words."""
    found = message_from_string(raw.decode(), policy=policy.default)
    html, plain = (found.get_body((kind,)).get_content() for kind in ("html", "plain"))  # type: ignore[union-attr]
    markup = Markup(html)
    assert markup.tags <= {"html", "body style", "h3 style", "p", "p style", "br"} | {
        "table style",
        "tr",
        "td style",
    }
    assert markup.shown.split() == plain.split()
    return [found["Subject"], *plain.split("\n")]


def read_apprise(raw: bytes) -> list[str]:
    found = orjson.loads(raw)
    text = f"{found['title']}\n{found['body']}"
    assert not set(text) & set("<>@*`~|[]#&\\{}")
    assert not re.search(r":rotating| _|_ ", text)
    return text.split("\n")


def anything(_raw: bytes) -> None:
    pass


_SLACK_BY_TOKEN = {"token": f"xoxb-{KEY}", "channel": "#ops", "api": URL}
_TELEGRAM = {"token": f"123456:{KEY}", "chat": "-1001", "url": URL}

KINDS = (
    ChannelKind(
        "slack",
        {"url": URL},
        lambda message: orjson.dumps(slack.build_payload(message)),
        of(documented.Slack),
        read_slack,
        widest="&" * 63,
        make=slack.Slack,
    ),
    ChannelKind(
        "slack by token",
        _SLACK_BY_TOKEN,
        lambda message: orjson.dumps({**slack.build_payload(message), "channel": "#ops"}),
        of(documented.SlackPost),
        read_slack,
        has_golden=False,
        make=slack.Slack,
        accepted=(200, b'{"ok":true,"channel":"C1","ts":"1503435956.000247","message":{}}'),
        answer="ok",
        refusals=SLACK_REFUSALS,
    ),
    ChannelKind(
        "discord",
        {"url": URL},
        lambda message: orjson.dumps(discord.build_payload(message)),
        of(documented.Discord),
        read_discord,
        widest="_" * 63,
        make=discord.Discord,
        refusals=(
            error(400, {"code": 50035}, "400", REJECTED),
            error(400, {"code": 50083}, "400", BROKEN),
            error(404, {"code": 10015}, "404", BROKEN),
            error(429, {"retry_after": 64.57}, "429", TEMPORARY, 64.57),
        ),
    ),
    ChannelKind(
        "teams",
        {"url": URL},
        lambda message: orjson.dumps(teams.build_payload(message)),
        of(documented.Teams),
        read_teams,
        widest='"\\' * 40,
        make=teams.Teams,
        accepted=(202, b"1"),
        answer="202",
        refusals=(
            refuse_teams(429, TEMPORARY),
            refuse_teams(408, TEMPORARY),
            refuse_teams(500, TEMPORARY),
            refuse_teams(413, REJECTED),
            refuse_teams(404, BROKEN),
        ),
    ),
    ChannelKind(
        "ntfy",
        {"url": f"{URL}/ops", "token": f"tk_{KEY}"},
        lambda message: orjson.dumps(ntfy.build_payload(message, "ops")),
        of(documented.Ntfy),
        read_ntfy,
        widest='"\\' * 40,
        make=ntfy.Ntfy,
    ),
    ChannelKind(
        "telegram",
        _TELEGRAM,
        lambda message: orjson.dumps({"chat_id": "-1001", **telegram.build_payload(message)}),
        of(documented.Telegram),
        read_telegram,
        widest="&" * 63,
        make=telegram.Telegram,
        accepted=(200, b'{"ok":true,"result":{"message_id":77,"date":1,"chat":{"id":-1001}}}'),
        answer="ok",
        refusals=TELEGRAM_REFUSALS,
    ),
    ChannelKind(
        "webhook",
        {"url": URL, "secret": KEY},
        encode_webhook_body,
        of(documented.Webhook),
        read_webhook,
        show=replace_surrogates,
        make=webhook.Webhook,
    ),
    ChannelKind(
        "alertmanager",
        {"url": URL},
        lambda message: alertmanager.encode_alert_group(message, "alertmanager"),
        of(documented.Alertmanager),
        read_alertmanager,
        show=replace_surrogates,
        make=alertmanager.Alertmanager,
    ),
    ChannelKind(
        "pagerduty",
        {"routing_key": KEY, "url": f"https://{HOST}/v2/enqueue"},
        lambda message: orjson.dumps(list(pagerduty.build_requests(message).values())),
        documented.PAGERDUTY.validate_json,
        read_pagerduty,
        make=pagerduty.PagerDuty,
        sent=strip_routing_keys,
        accepted=(202, b'{"status":"success","message":"Event processed","dedup_key":"a"}'),
        answer="202",
        refusals=(
            error(400, {"errors": ["'payload.summary' is missing or blank"]}, "400", REJECTED),
            error(400, {"errors": ["Invalid routing key"]}, "400", BROKEN),
            error(400, {"errors": ["'routing_key' is missing or blank"]}, "400", BROKEN),
        ),
    ),
    ChannelKind(
        "email",
        {"host": "mail.example.org", "sender": "a@b.example", "to": "c@d.example", "password": KEY},
        lambda message: re.sub(r"={15}\d+==", "=boundary=", compose(message).as_string()).encode(),
        check_mail,
        read_mail,
    ),
    ChannelKind(
        "exec",
        {"command": f"/usr/bin/tell --token {KEY}"},
        encode_webhook_body,
        of(documented.Webhook),
        read_webhook,
        show=replace_surrogates,
    ),
    ChannelKind(
        "apprise",
        {"urls": f"json://me:{KEY}@127.0.0.1/{KEY}"},
        lambda message: orjson.dumps(apprise.render_notification(message, 20_000)),
        anything,
        read_apprise,
        show=lambda name: apprise.neutralize_markup(printable_line(name)),
        has_golden=False,
    ),
)
OVER_HTTP = tuple(kind for kind in KINDS if kind.make)


async def refused(channel: Channel, message: Message = MISS, anchor: str | None = None) -> SendError:
    """Return what sending a message comes to, in which no secret may show."""
    with pytest.raises(SendError) as caught:
        await channel.send(message, anchor)
    found = caught.value
    shown = f"{found!r} {found} {channel!r} {channel.where}"
    assert not any(secret in shown for secret in SECRETS)
    assert found.__context__ is None or found.__suppress_context__  # no URL in a traceback either
    return found


async def refused_for(channel: Channel) -> tuple[str, bool]:
    """Return why a message was refused, and whether that is for good."""
    found = await refused(channel)
    return found.reason, found.is_permanent
