"""Post to a Discord webhook: one embed for each message, no mentions, and pauses for the rate limit."""

import asyncio
import re
import time
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from marketswarm.bus.stored_values import parse_object
from marketswarm.channels.channel import LONGEST_RETRY_SEC, Failure, Receipt, SendError
from marketswarm.channels.http import (
    WITHIN_SEC,
    Http,
    HttpChannel,
    UrlOptions,
    exchange_json,
    make_response_error,
    parse_pause_sec,
)
from marketswarm.channels.links import fit_links, list_links
from marketswarm.channels.message import Message, MessageLink, choose_style, format_title
from marketswarm.channels.registry import is_in_domains
from marketswarm.channels.text import fit_lines, printable_line, printable_lines, truncate, utf16_length
from marketswarm.net.http import HttpResponse
from marketswarm.text import format_utc

TITLE_AT_MOST: Final = 256
TEXT_AT_MOST: Final = 1500
DESCRIPTION_AT_MOST: Final = 4096
LINKS_ROOM: Final = 2200
"""Characters of the links in a description; text and lines have the rest."""
LABEL_AT_MOST: Final = 80
VERSIONS: Final = {"discord.com": "v10", "discordapp.com": "v9"}
"""By domain, the version of the API that messages are posted to. v10 is refused at the older domain.

A webhook's URL as Discord shows it has no version, and so means v6. Until v7, the pauses of a 429 are in
milliseconds; from v8 on, they are in seconds.
"""
PAUSE_AT_MOST: Final = 3.0
"""How long `send` itself waits for the rate limit, in seconds; a longer pause raises SendError."""

_GONE: Final = frozenset({10003, 10015, 50001, 50013, 50027, 50083, 160005})
"""Codes in Discord's JSON that are about the webhook, its channel or its thread, whatever the status is."""

_MARKUP: Final = re.compile(r"[\\*_~`|<>\[\]@#]|:(?=\S)|(?<!\S)[-+](?=\s)|(?<=\d)[.)](?=\s)")
"""Characters that format, link, mention or begin a list; a backslash before one takes away that effect."""

_MILLISECONDS: Final = re.compile(r"^/api(?:/v[1-7])?/(?=webhooks/)")
"""The begin of the path of a webhook's URL whose version has pauses in milliseconds."""
_ENDS_LINK: Final = re.compile(r"[()<>\\\s]")
"""Characters that would end the address in a link of Markdown."""
_BETWEEN_LINKS: Final = " · "


class Options(UrlOptions):
    """The webhook's URL; a URL with `?thread_id=` posts into that thread."""


class Discord(HttpChannel):
    """A channel that posts to one Discord webhook."""

    def __init__(self, name: str, options: Options, http: Http | None = None) -> None:
        super().__init__(name, options.url, http)
        self._url = choose_version(add_wait_parameter(options.url))
        self.within_sec = PAUSE_AT_MOST + WITHIN_SEC
        self._free_at = float("-inf")

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:  # noqa: ARG002 - no threads here
        """Wait for the rate limit, PAUSE_AT_MOST at most; if that is not enough, raise SendError."""
        pause = self._free_at - time.monotonic()
        if pause > PAUSE_AT_MOST:
            raise SendError("rate_limit", retry_after_sec=pause)
        if pause > 0:
            await asyncio.sleep(pause)
        answer = await exchange_json(self._http, self._url, build_payload(message))
        found = parse_object(answer.body)
        after_sec = parse_pause_sec(found.get("retry_after")) if answer.status == 429 else None
        self._record_rate_limit(answer, after_sec)
        if not 200 <= answer.status < 300:
            error = make_response_error(answer, after_sec)
            if error.failure is Failure.REJECTED and found.get("code") in _GONE:
                raise SendError(error.reason, Failure.BROKEN)
            raise error
        return Receipt(str(answer.status))

    def _record_rate_limit(self, answer: HttpResponse, after_sec: float | None) -> None:
        if answer.headers.get("x-ratelimit-remaining") == "0":
            after_sec = after_sec or parse_pause_sec(answer.headers.get("x-ratelimit-reset-after"))
        if after_sec is not None:
            self._free_at = time.monotonic() + min(after_sec, LONGEST_RETRY_SEC)


def add_wait_parameter(url: str) -> str:
    """Return the webhook's URL with `wait=true`: Discord then answers once the message is stored."""
    parts = urlsplit(url)
    query = [(key, value) for key, value in parse_qsl(parts.query) if key != "wait"]
    return parts._replace(query=urlencode([*query, ("wait", "true")])).geturl()


def choose_version(url: str) -> str:
    """Return the URL of a webhook with a version of the API whose pauses are in seconds.

    One that has such a version, or is not Discord's own, is returned unchanged.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    version = next((VERSIONS[domain] for domain in VERSIONS if is_in_domains(host, (domain,))), None)
    if version is None:
        return url
    return parts._replace(path=_MILLISECONDS.sub(f"/api/{version}/", parts.path)).geturl()


def build_payload(message: Message) -> dict[str, Any]:
    """Return the JSON of a message: one embed within Discord's limits, without mentions."""
    style = choose_style(message)
    text = truncate(printable_lines(message.text), TEXT_AT_MOST, _cost)
    # in one line of Markdown, because webhooks of no application have no buttons that act; those that don't
    # fit are left out, the page last of all
    between = len(_BETWEEN_LINKS)
    shown = fit_links(list_links(message), LINKS_ROOM, utf16_length, show=_show_link, between=between)
    links = _BETWEEN_LINKS.join(shown)
    lines = fit_lines(message.lines, DESCRIPTION_AT_MOST - _cost(text) - 2 - len(links) - 1, _cost)
    embed = {
        "title": _escape_markup(truncate(format_title(message), TITLE_AT_MOST, _cost)),
        "description": "\n".join((*map(_escape_markup, (text, *lines)), *([links] if links else ()))),
        "color": style.colour,
        "timestamp": format_utc(message.timestamp),
    }
    return {"embeds": [embed], "allowed_mentions": {"parse": []}}


def _show_link(link: MessageLink) -> str:
    label = _escape_markup(truncate(printable_line(link.label), LABEL_AT_MOST))
    return f"[{label}]({_ENDS_LINK.sub(lambda found: f'%{ord(found[0]):02X}', link.url)})"


def _escape_markup(text: str) -> str:
    return _MARKUP.sub(r"\\\g<0>", text)


def _cost(text: str) -> int:
    return utf16_length(_escape_markup(text))
