"""Holds docs/notifications.md to what is really sent."""

from datetime import UTC, datetime

import orjson
from pages import ROOT, blocks

from marketswarm.channels import Message, message_of
from marketswarm.channels.body import payload
from marketswarm.channels.mail import mail_of
from marketswarm.channels.webhook import headers_of
from marketswarm.event import Event, parse

PAGE = ROOT / "docs" / "notifications.md"
KEY = b"key"


def sample(first_word: str) -> tuple[list[str], str]:
    """Head and body of the sample that begins so."""
    block = next(block for block in blocks(PAGE, "text") if block.startswith(first_word))
    head, _, body = block.partition("\n\n")
    return head.splitlines(), body


def message() -> Message:
    """What the page shows, from the event that it shows."""
    raw = orjson.dumps(orjson.loads(sample("POST")[1])["data"]["events"][0])
    event = parse(raw)
    assert isinstance(event, Event)
    return message_of(event, raw, event.ts + 15)


def test_the_webhook_is_the_one_that_is_sent():
    head, body = sample("POST")
    assert orjson.loads(body) == orjson.loads(payload(message()))
    shown = dict(line.split(": ", 1) for line in head[1:])
    assert shown == headers_of(message(), payload(message()), 1762434015, KEY)


def test_the_mail_is_the_one_that_is_sent():
    head, body = sample("Subject")
    mail = mail_of(
        message(),
        "MarketSwarm <swarm@example.org>",
        "ops@example.org, night@example.org",
        datetime(2025, 11, 6, 13, 0, 15, tzinfo=UTC),
    )
    shown = dict(line.split(": ", 1) for line in head)
    assert shown == {name: mail[name] for name in shown}
    assert mail.get_body(("plain",)).get_content() == body


def test_the_signature_can_be_checked_as_it_says():
    (source,) = blocks(PAGE, "python")
    names: dict = {}
    exec(source, names)  # noqa: S102 - the page's own example
    body = payload(message())
    headers = headers_of(message(), body, 17, KEY)
    assert names["is_genuine"](headers, body, KEY)
    assert not names["is_genuine"](headers, body + b" ", KEY)
    assert not names["is_genuine"](headers, body, b"another")
