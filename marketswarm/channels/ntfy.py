"""Publish messages to an ntfy topic, for phones.

The message is JSON, since headers carry ASCII only; ntfy has no markup.
"""

import re
from typing import Any, Final, Self
from urllib.parse import urlsplit

import orjson
from pydantic import model_validator

from marketswarm.channels.channel import Receipt
from marketswarm.channels.http import Http, HttpChannel, UrlOptions, exchange_json, require_success
from marketswarm.channels.message import APPROVE, Message, MessageLink, Style, choose_style
from marketswarm.channels.text import fit_lines, printable_line, printable_lines, truncate
from marketswarm.settings import Token

TITLE_AT_MOST: Final = 250
MESSAGE_AT_MOST: Final = 3800
"""Bytes of a message: ntfy makes a file of 4,096 or more, and pushes carry some 4,000 in all."""
TEXT_AT_MOST: Final = 1500
ACTIONS_AT_MOST: Final = 3
"""How many buttons a message of ntfy may have."""
BUTTON_AT_MOST: Final = 40
URL_AT_MOST: Final = 500
"""Characters of a button's address: three of them leave room for the text."""

_SHOWN: Final = {
    Style.GOOD: (3, "white_check_mark"),
    Style.NEWS: (3, "information_source"),
    Style.WARNING: (4, "warning"),
    Style.ALARM: (5, "rotating_light"),
}
"""The priority (3 is the default, 5 the highest), and the tag that is shown as a sign."""


class Options(UrlOptions):
    """The topic's URL, and an access token for a protected topic."""

    token: Token | None = None

    @model_validator(mode="after")
    def _require_topic(self) -> Self:
        if not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", split_topic(self.url)[1]):
            raise ValueError("url must end in a topic: https://host/topic")
        return self


class Ntfy(HttpChannel):
    """A channel that publishes to one ntfy topic."""

    def __init__(self, name: str, options: Options, http: Http | None = None) -> None:
        super().__init__(name, options.url, http)
        self._url, self._topic = split_topic(options.url)
        self._token = options.token

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:  # noqa: ARG002 - no threads here
        payload = build_payload(message, self._topic)
        answer = await exchange_json(self._http, self._url, payload, self._token)
        return Receipt(str(require_success(answer).status))


def split_topic(url: str) -> tuple[str, str]:
    """Return the URL that JSON is POSTed to, and the topic: the last part of the path."""
    parts = urlsplit(url)
    root, _, topic = parts.path.rstrip("/").rpartition("/")
    return parts._replace(path=f"{root}/", fragment="").geturl(), topic


def build_payload(message: Message, topic: str) -> dict[str, Any]:
    priority, tag = _SHOWN[choose_style(message)]
    text = truncate(printable_lines(message.text), TEXT_AT_MOST, _cost)
    acts = [link for link in message.links if link.action and len(link.url) <= URL_AT_MOST]
    actions = [_build_action(link) for link in acts[:ACTIONS_AT_MOST]]
    found: dict[str, Any] = {"click": message.page_url} if message.page_url else {}
    found |= {"actions": actions} if actions else {}
    room = MESSAGE_AT_MOST - len(orjson.dumps(found))  # pushes carry buttons and text in one
    lines = fit_lines(message.lines, room - _cost(text) - 2, _cost, between=2)
    return {
        **found,
        "topic": topic,
        "title": truncate(printable_line(message.title), TITLE_AT_MOST, _cost),
        "message": "\n".join((text, *lines)),
        "priority": priority,
        "tags": [tag],
    }


def _build_action(link: MessageLink) -> dict[str, Any]:
    """Return the button of a link: its answer is one tap, without a browser, but a proposal is read first."""
    label = truncate(printable_line(link.label), BUTTON_AT_MOST)
    if link.action == APPROVE:
        return {"action": "view", "label": label, "url": link.url, "clear": False}
    return {"action": "http", "label": label, "url": link.url, "method": "POST", "clear": True}


def _cost(text: str) -> int:
    return len(orjson.dumps(text)) - 2
