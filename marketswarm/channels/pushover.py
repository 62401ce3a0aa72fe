"""Send messages to phones by Pushover; a critical outage rings until somebody confirms it or it ends.

The text is HTML, in which lines end with `<br>`. A critical outage is an emergency with the tag of its
thread, and the end of the outage cancels what still rings under that tag.
"""

from hashlib import sha256
from html import escape
from typing import Any, Final

from pydantic import Field, StrictBool

from marketswarm.bus.stored_values import parse_object
from marketswarm.channels.channel import ChannelOptions, Failure, Receipt, SendError
from marketswarm.channels.http import (
    BaseUrl,
    Http,
    HttpPartsChannel,
    exchange_json,
    make_response_error,
)
from marketswarm.channels.links import fit_links, list_links
from marketswarm.channels.message import Message, MessageLink, Style, choose_style, format_title
from marketswarm.channels.text import fit_lines, printable_line, printable_lines, truncate, utf16_length
from marketswarm.net.http import HttpResponse
from marketswarm.settings import Name, Token

TITLE_AT_MOST: Final = 250
MESSAGE_AT_MOST: Final = 1024
LINKS_ROOM: Final = 600
"""Characters of the links in a message; text and lines have the rest."""
LINES_ROOM: Final = 100
"""Characters that a text leaves to the lines at least, if there are any."""
URL_AT_MOST: Final = 512
URL_TITLE_AT_MOST: Final = 100
RETRY_SEC: Final = 60
"""The pause between two rings of an emergency; Pushover takes 30 and more."""
EXPIRE_SEC: Final = 10_800
"""How long an emergency rings at most, which is Pushover's limit; a reminder rings again."""

_BREAK: Final = "<br>"
_NORMAL, _HIGH, _EMERGENCY = 0, 1, 2
_LAST_TIME: Final = 2**32
_REFUSED_FIELDS: Final = ("token", "user")
"""Keys of Pushover's JSON that are about the sender or the receiver, whatever the message is."""


class Options(ChannelOptions):
    """An application's token, and the key of a user or a group; `device` for some of the user's devices.

    Without `emergency` a critical outage rings once.
    """

    token: Token
    user: Token
    device: Name | None = None
    emergency: StrictBool = True
    url: BaseUrl = Field("https://api.pushover.net", repr=False)


class Pushover(HttpPartsChannel):
    """A channel that sends to one user or group, and ends the emergencies of what has ended."""

    def __init__(self, name: str, options: Options, http: Http | None = None) -> None:
        super().__init__(name, options.url, http)
        self._options = options
        self._root = f"{options.url.rstrip('/')}/1"

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:  # noqa: ARG002 - the tag is the thread
        """Send a message, then cancel the emergencies that it closes; raise SendError.

        What was accepted of it is not sent again.
        """
        cancels = [f"receipts/cancel_by_tag/{make_tag(each)}" for each in message.closes]
        parts = ["messages", *(cancels if self._options.emergency else ())]
        await self.send_parts(
            message.id,
            parts,
            lambda part: self._post_message(message) if part == "messages" else self._cancel(part),
        )
        return Receipt("ok")

    async def _post_message(self, message: Message) -> str:
        body = {"user": self._options.user.get_secret_value()}
        if self._options.device is not None:
            body["device"] = self._options.device
        body |= build_payload(message, emergency=self._options.emergency)
        return _require_success(await self._post("messages", body))

    async def _cancel(self, path: str) -> str:
        """End an emergency. If Pushover refuses that for good, the emergency ends by itself."""
        try:
            return _require_success(await self._post(path, {}))
        except SendError as error:
            if not error.is_permanent:
                raise
            return error.reason

    async def _post(self, path: str, body: dict[str, Any]) -> HttpResponse:
        token = {"token": self._options.token.get_secret_value()}
        return await exchange_json(self._http, f"{self._root}/{path}.json", {**token, **body})


def _require_success(answer: HttpResponse) -> str:
    """Return the status.

    Raise SendError for a refusal: BROKEN if it is about the token, the user, or a used-up quota.
    """
    found = parse_object(answer.body)
    if 200 <= answer.status < 300:
        if found.get("status") != 1:
            raise SendError("bad_answer")
        return str(answer.status)
    is_quota = answer.status == 429 and found.get("status") == 0
    if is_quota or (answer.status == 400 and any(found.get(each) == "invalid" for each in _REFUSED_FIELDS)):
        raise SendError(str(answer.status), Failure.BROKEN)
    raise make_response_error(answer)


def make_tag(thread: str) -> str:
    """Return the tag of a thread's emergencies: 40 letters and digits, since no page states a limit."""
    return sha256(thread.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def build_payload(message: Message, *, emergency: bool = True) -> dict[str, Any]:
    """Return the JSON of a message without the token and the receiver."""
    main, others = _choose_main_link(list_links(message))
    links = fit_links(others, LINKS_ROOM, utf16_length, show=_show_link, between=len(_BREAK))
    room = MESSAGE_AT_MOST - sum(utf16_length(line) + len(_BREAK) for line in links)
    text = printable_lines(message.text)
    text = truncate(text, room - (LINES_ROOM if message.lines else 0), _cost)
    lines = fit_lines(message.lines, room - _cost(text) - len(_BREAK), _cost, between=len(_BREAK))
    title = truncate(format_title(message), TITLE_AT_MOST)
    words = [each for each in (text, *lines) if each.strip()]
    shown = [*map(_escape_markup, words), *links] or [_escape_markup(title)]  # no message may be empty
    found: dict[str, Any] = {
        "title": title,
        "message": _BREAK.join(shown),
        "html": 1,
        **_build_priority(message, emergency=emergency),
    }
    if 0 <= message.timestamp < _LAST_TIME:
        found["timestamp"] = int(message.timestamp)
    if main is not None:
        found["url"] = main.url
        if label := truncate(printable_line(main.label), URL_TITLE_AT_MOST):
            found["url_title"] = label
    return found


def _build_priority(message: Message, *, emergency: bool) -> dict[str, Any]:
    """Return the priority; of a critical outage that lasts also how it rings, and the tag that ends it."""
    if choose_style(message) is not Style.ALARM:
        return {"priority": _NORMAL}
    threads = message.list_open_threads()
    if not emergency or not threads:
        return {"priority": _HIGH}
    return {
        "priority": _EMERGENCY,
        "retry": RETRY_SEC,
        "expire": EXPIRE_SEC,
        "tags": make_tag(threads[0]),  # with several tags, the end of one outage would silence the others
    }


def _choose_main_link(links: list[MessageLink]) -> tuple[MessageLink | None, list[MessageLink]]:
    """Return the link below the message, and the others: the first one that acts, otherwise the page."""
    fitting = [link for link in links if len(link.url) <= URL_AT_MOST]
    main = next((link for link in fitting if link.action), next(iter(fitting), None))
    return main, [link for link in links if link is not main]


def _show_link(link: MessageLink) -> str:
    label = escape(truncate(printable_line(link.label), URL_TITLE_AT_MOST), quote=False)
    return f'<a href="{escape(link.url)}">{label}</a>'


def _escape_markup(text: str) -> str:
    return escape(text, quote=False).replace("\n", _BREAK)


def _cost(text: str) -> int:
    return utf16_length(_escape_markup(text))
