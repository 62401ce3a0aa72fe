"""Post an adaptive card to a Teams workflow's URL, or to an older connector.

All text is in RichTextBlocks, which know no Markdown and no mentions. Teams drops a card that is too long
after the workflow has accepted it, so the card is kept well below the limit.
"""

import json
import re
from typing import Any, Final

from marketswarm.channels.channel import Receipt, SendError
from marketswarm.channels.http import (
    Http,
    HttpChannel,
    UrlOptions,
    classify_status,
    exchange_json,
    require_success,
)
from marketswarm.channels.links import list_links
from marketswarm.channels.message import Message, MessageLink, Style, choose_style, format_title
from marketswarm.channels.text import fit_lines, printable_line, truncate

CARD_AT_MOST: Final = 24_000
"""The greatest length of a card, as JSON inside a string of JSON; Teams refuses 28,672 bytes and more."""
TITLE_AT_MOST: Final = 600
TEXT_AT_MOST: Final = 3000
BUTTONS_AT_MOST: Final = 6
"""How many actions of a card Teams shows."""
BUTTON_AT_MOST: Final = 80

_COLOURS: Final = {
    Style.GOOD: "Good",
    Style.NEWS: "Accent",
    Style.WARNING: "Warning",
    Style.ALARM: "Attention",
}
_FAILED: Final = re.compile(rb"HTTP error (\d{3})")
"""The text with which an older connector reports, with status 200, that Teams refused the message."""


class Options(UrlOptions):
    """The URL of a workflow with the trigger "when a Teams webhook request is received"."""


class Teams(HttpChannel):
    """A channel that posts to the URL of one workflow."""

    def __init__(self, name: str, options: Options, http: Http | None = None) -> None:
        super().__init__(name, options.url, http)

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:  # noqa: ARG002 - no threads here
        answer = require_success(await exchange_json(self._http, self._url, build_payload(message)))
        failed = _FAILED.search(answer.body)
        if failed:
            code = int(failed[1])
            raise SendError(str(code), classify_status(code))
        return Receipt(str(answer.status))


def build_payload(message: Message) -> dict[str, Any]:
    """Return the JSON of a message with its card: a title in colour, the text, and a block for each line."""
    colour = _COLOURS[choose_style(message)]
    style = {"weight": "Bolder", "size": "Medium", "color": colour}
    title = truncate(format_title(message), TITLE_AT_MOST, _cost)
    text = [truncate(printable_line(line), TEXT_AT_MOST, _cost) for line in message.text.splitlines()]
    body = [
        _build_block(title, **style),
        *map(_build_block, fit_lines(text, TEXT_AT_MOST, _cost, longest=TEXT_AT_MOST)),
    ]
    actions = [_build_action(link) for link in list_links(message, BUTTONS_AT_MOST)]
    room = CARD_AT_MOST - _measure_size(_build_message(body, actions))
    lines = fit_lines(message.lines, room, _cost, longest=600)
    return _build_message([*body, *(_build_block(line, spacing="None") for line in lines)], actions)


def _build_action(link: MessageLink) -> dict[str, Any]:
    title = truncate(_hide_functions(printable_line(link.label)), BUTTON_AT_MOST)
    return {"type": "Action.OpenUrl", "title": title, "url": link.url}


def _build_message(body: list[dict[str, Any]], actions: list[dict[str, Any]]) -> dict[str, Any]:
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.2",
        "msteams": {"width": "Full"},
        "body": body,
    }
    if actions:
        card["actions"] = actions
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "contentUrl": None, "content": card}]}


def _build_block(text: str, /, *, spacing: str = "Small", **style: str) -> dict[str, Any]:
    run = {"type": "TextRun", "text": _hide_functions(text), **style}
    return {"type": "RichTextBlock", "spacing": spacing, "inlines": [run]}


def _hide_functions(text: str) -> str:
    """Return the text without `{{`: Teams replaces {{DATE(…)}} in every text."""
    return text.replace("{{", "{\N{ZERO WIDTH SPACE}{")


def _cost(line: str) -> int:
    return _measure_size(_build_block(line, spacing="None"))


def _measure_size(found: dict[str, Any]) -> int:
    return len(json.dumps(json.dumps(found, separators=(",", ":"))))
