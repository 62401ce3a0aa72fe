"""Send messages to one chat as a Telegram bot, each as a reply to the first one of its thread.

The bot's token is part of the URL, so the URL is never shown.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any, Final
from urllib.parse import quote

from pydantic import Field

from marketswarm import log as logs
from marketswarm.bus.stored_values import get_object, parse_object
from marketswarm.channels.channel import ChannelOptions, Failure, Receipt, SendError
from marketswarm.channels.http import (
    WITHIN_SEC,
    BaseUrl,
    Http,
    HttpChannel,
    exchange_json,
    make_response_error,
    parse_pause_sec,
)
from marketswarm.channels.links import fit_links, list_buttons, list_links
from marketswarm.channels.message import Message, MessageLink, format_title
from marketswarm.channels.text import fit_lines, printable_line, printable_lines, truncate, utf16_length
from marketswarm.net.http import HttpResponse
from marketswarm.settings import Name, Token

TITLE_AT_MOST: Final = 300
TEXT_AT_MOST: Final = 1500
MESSAGE_AT_MOST: Final = 4096
LINKS_ROOM: Final = 1500
"""Characters of links that can't be buttons."""
BUTTONS_AT_MOST: Final = 8
BUTTON_AT_MOST: Final = 60
BUTTON_URL_AT_MOST: Final = 2000
"""Characters of a button's address; Telegram documents no limit."""

_ACTIVE: Final = re.compile(r"(?<!\w)[@#$/](?=\w)")
"""Characters that begin a mention, a tag or a command, which Telegram activates in any markup."""

_CHAT: Final = re.compile(r"chat|rights|peer_id|user|topic|bot", re.IGNORECASE)
"""Words in the description of a status 400 that is about the chat or the bot, not about the message."""

log = logs.get("telegram")


class Options(ChannelOptions):
    """A bot's token, and the chat: its id, or @ and the name of a public channel."""

    token: Token
    chat: Name | int
    url: BaseUrl = Field("https://api.telegram.org", repr=False)


class Telegram(HttpChannel):
    """A channel that sends to one chat."""

    def __init__(self, name: str, options: Options, http: Http | None = None) -> None:
        super().__init__(name, options.url, http)
        token = quote(options.token.get_secret_value(), safe=":")
        self._url = f"{options.url.rstrip('/')}/bot{token}/sendMessage"
        self._chat = options.chat
        self.within_sec = 2 * WITHIN_SEC  # two requests if the chat has moved

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:
        """Send a message as a reply to the message `anchor`, again if the chat moved. Raises SendError."""
        body = build_payload(message, anchor)
        answer = await exchange_json(self._http, self._url, {"chat_id": self._chat, **body})
        moved = _parse_parameters(answer).get("migrate_to_chat_id")
        if isinstance(moved, int):
            # a group that has become a supergroup has another id for good
            log.warning("telegram.chat_moved", channel=self.name)
            self._chat = moved
            answer = await exchange_json(self._http, self._url, {"chat_id": moved, **body})
        return _parse_receipt(answer, anchor)


def build_payload(message: Message, anchor: str | None = None) -> dict[str, Any]:
    """Return the JSON of a message without the chat; `anchor` is the id of the message to reply to."""
    title = truncate(format_title(message), TITLE_AT_MOST, _cost)
    text = truncate(printable_lines(message.text), TEXT_AT_MOST, _cost)
    buttons = list_buttons(message, BUTTONS_AT_MOST, BUTTON_URL_AT_MOST)
    links = _format_links([] if buttons else list_links(message))
    head = "\n".join((f"<b>{_escape_markup(title)}</b>\n{_escape_markup(text)}", *links))
    lines = fit_lines(message.lines, MESSAGE_AT_MOST - utf16_length(head) - 1, _cost)
    body: dict[str, Any] = {
        "text": "\n".join((head, *map(_escape_markup, lines))),
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
    }
    if buttons:
        body["reply_markup"] = {"inline_keyboard": [[_build_button(link)] for link in buttons]}
    if anchor is not None and re.fullmatch("[0-9]{1,15}", anchor):
        body["reply_parameters"] = {"message_id": int(anchor), "allow_sending_without_reply": True}
    return body


def _format_links(links: Sequence[MessageLink]) -> list[str]:
    """Return links as lines of HTML; only a label can hold a mention, and an address stays as it is."""
    plain = [replace(link, label=_disarm(printable_line(link.label))) for link in links]
    return [escape(line, quote=False) for line in fit_links(plain, LINKS_ROOM, _cost)]


def _build_button(link: MessageLink) -> dict[str, str]:
    return {"text": truncate(printable_line(link.label), BUTTON_AT_MOST), "url": link.url}


def _parse_receipt(answer: HttpResponse, anchor: str | None) -> Receipt:
    """Return the receipt for a response, with `anchor` or else the new message's id.

    Raises SendError if the response is not a success.
    """
    found = parse_object(answer.body)
    if found.get("ok") is True:
        ident = get_object(found.get("result")).get("message_id")
        return Receipt("ok", anchor or (str(ident) if isinstance(ident, int) else None))
    code = found.get("error_code") if 200 <= answer.status < 300 else answer.status
    if not isinstance(code, int):
        raise SendError("bad_answer")
    error = make_response_error(
        replace(answer, status=code), parse_pause_sec(_parse_parameters(answer).get("retry_after"))
    )
    if error.failure is Failure.REJECTED and _CHAT.search(str(found.get("description"))):
        raise SendError(error.reason, Failure.BROKEN)
    raise error


def _parse_parameters(answer: HttpResponse) -> dict[str, Any]:
    return get_object(parse_object(answer.body).get("parameters"))


def _escape_markup(text: str) -> str:
    """Return the text as HTML in which nothing is a mention, a tag or a command."""
    return escape(_disarm(text), quote=False)


def _disarm(text: str) -> str:
    return _ACTIVE.sub("\\g<0>\N{WORD JOINER}", text)


def _cost(text: str) -> int:
    return utf16_length(_escape_markup(text))
