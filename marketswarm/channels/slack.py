"""Send messages to Slack, through an incoming webhook or, with a token, `chat.postMessage`.

Only the latter can answer in a thread. Embedded texts are plain text, where only `&`, `<` and `>` are
markup, and these are escaped.
"""

import re
from functools import partial
from html import escape
from typing import Any, Final, Self

from pydantic import Field, model_validator

from marketswarm.bus.stored_values import parse_object
from marketswarm.channels.channel import ChannelOptions, Failure, Receipt, SendError
from marketswarm.channels.http import WITHIN_SEC, Http, HttpChannel, exchange_json, require_success
from marketswarm.channels.links import fit_links, list_buttons, list_links
from marketswarm.channels.message import Message, MessageLink, choose_style, format_title
from marketswarm.channels.text import (
    fit_lines,
    paginate,
    printable_line,
    printable_lines,
    truncate,
    utf16_length,
)
from marketswarm.settings import HttpUrl, Name, Token

API: Final = "https://slack.com/api"
TITLE_AT_MOST: Final = 300
SECTION_AT_MOST: Final = 3000
BUTTONS_AT_MOST: Final = 8
BUTTON_AT_MOST: Final = 75
BUTTON_URL_AT_MOST: Final = 3000
LINKS_ROOM: Final = 1500
"""Characters of links that can't be buttons."""
BLOCKS_AT_MOST: Final = 9000
"""Characters in all blocks of a message; Slack documents no limit, but has refused some 11,000."""

_QUIET: Final = {"mrkdwn": False, "unfurl_links": False, "unfurl_media": False}
# fmt: off
_LATER: Final = frozenset({
    "ratelimited", "rate_limited", "message_limit_exceeded", "fatal_error", "internal_error",
    "service_unavailable", "request_timeout", "team_added_to_org", "org_login_required", "accesslimited",
})
# fmt: on
"""Errors of the API after which a later attempt may succeed."""
# fmt: off
_REJECTED: Final = frozenset({
    "msg_too_long", "msg_blocks_too_long", "message_too_long", "no_text", "invalid_blocks",
    "invalid_blocks_format", "invalid_attachments", "too_many_attachments", "invalid_arguments",
    "invalid_json", "json_not_object", "duplicate_message",
})
# fmt: on
"""Errors of the API about one message; all others are about the channel or the token."""

_escape_markup: Final = partial(escape, quote=False)


class Options(ChannelOptions):
    """The URL of an incoming webhook, or a bot's token (`chat:write`) and a channel."""

    url: HttpUrl | None = Field(None, repr=False)
    token: Token | None = None
    channel: Name | None = None

    @model_validator(mode="after")
    def _require_url_or_token(self) -> Self:
        if (self.url is None) == (self.token is None) or (self.token is None) != (self.channel is None):
            raise ValueError("needs either url, or token and channel")
        return self


class Slack(HttpChannel):
    """A channel that posts to one Slack channel.

    `api` is where a token is sent. It is no option, because a truth must not choose that.
    """

    def __init__(self, name: str, options: Options, http: Http | None = None, *, api: str = API) -> None:
        super().__init__(name, options.url or api, http)
        self._options = options
        self._url = options.url or f"{api}/chat.postMessage"
        self.within_sec = 2 * WITHIN_SEC  # one request in the thread, then one without it

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:
        """Send a message; with a token and an `anchor` send it into its thread. Raises SendError.

        If the thread is gone, the message goes to the channel without it.
        """
        body = build_payload(message)
        if self._options.url is not None:
            return await self._post(body)
        body["channel"] = self._options.channel
        if anchor is not None:
            try:
                # broadcast: readers of the channel see the reply as well, not only followers of the thread
                return await self._post({**body, "thread_ts": anchor, "reply_broadcast": True}, anchor)
            except SendError as error:
                if not re.search("thread|reply|message_not_found", error.reason):
                    raise  # any other error means that the thread was deleted or locked
        return await self._post(body)

    async def _post(self, body: dict[str, Any], anchor: str | None = None) -> Receipt:
        """Return the receipt, with the `ts` of its thread if a token is used. Raises SendError."""
        answer = require_success(await exchange_json(self._http, self._url, body, self._options.token))
        if self._options.url is not None:
            return Receipt(str(answer.status))
        found = parse_object(answer.body)
        if found.get("ok") is not True:
            word = str(found.get("error"))
            if not re.fullmatch("[a-z_]{1,60}", word):
                raise SendError("bad_answer")
            raise SendError(word, _classify_error_word(word))
        return Receipt("ok", anchor or str(found.get("ts") or "") or None)


def _classify_error_word(word: str) -> Failure:
    if word in _LATER:
        return Failure.TEMPORARY
    return Failure.REJECTED if word in _REJECTED else Failure.BROKEN


def build_payload(message: Message) -> dict[str, Any]:
    """Return the JSON of a message: a line for notifications, and the details beside a coloured bar."""
    style = choose_style(message)
    buttons = list_buttons(message, BUTTONS_AT_MOST, BUTTON_URL_AT_MOST)
    links = fit_links([] if buttons else list_links(message), LINKS_ROOM, _cost)
    room = SECTION_AT_MOST - sum(_cost(line) + 1 for line in links)
    text = "\n".join((truncate(printable_lines(message.text), room, _cost), *links))
    lines = fit_lines(message.lines, BLOCKS_AT_MOST - _cost(text), _cost)
    sections = [
        _build_section(part) for part in (text, *paginate(lines, SECTION_AT_MOST, _cost)) if part.strip()
    ]
    if buttons:
        sections.append({"type": "actions", "elements": [_build_button(link) for link in buttons]})
    return {
        "text": _escape_markup(truncate(format_title(message), TITLE_AT_MOST, _cost)),
        **_QUIET,
        "attachments": [{"color": f"#{style.colour:06x}", "blocks": sections}] if sections else [],
    }


def _build_section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _build_text(text)}


def _build_text(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": _escape_markup(text), "emoji": False}


def _build_button(link: MessageLink) -> dict[str, Any]:
    label = truncate(printable_line(link.label), BUTTON_AT_MOST, _cost)
    return {"type": "button", "text": _build_text(label), "url": link.url}


def _cost(text: str) -> int:
    return utf16_length(_escape_markup(text))
