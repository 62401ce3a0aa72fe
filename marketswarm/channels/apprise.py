"""Send messages through the library `apprise`, which supports many more services.

The extra `apprise` installs it. Each address has a background thread of its own, so that an address
that hangs delays no other. The library's log lines are switched off, because they could show an
address.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from pydantic import SecretStr

from marketswarm.channels.channel import AcceptedParts, Channel, ChannelOptions, Receipt, SendError
from marketswarm.channels.links import fit_links, list_links
from marketswarm.channels.message import Message, Style, choose_style
from marketswarm.channels.registry import ChannelError
from marketswarm.channels.text import fit_lines, printable_line, printable_lines, truncate

TITLE_AT_MOST: Final = 200
_ACTIVE: Final = str.maketrans("<>@*`~|[]#&\\{}", "‹›＠∗ˋ∼¦［］＃＆＼｛｝")  # noqa: RUF001 - look-alikes are the purpose
"""Characters that some markup interprets, and their look-alikes."""
_EDGES: Final = re.compile(r"(?<!\w)_+|_+(?!\w)|:(?=[A-Za-z+-][\w+-]*:)")
"""Underscores around words, and the colon that begins `:emoji:`; those inside names are kept."""
_OTHER: Final = {"_": "＿", ":": "∶"}  # noqa: RUF001 - as above
_TYPES: Final = {Style.GOOD: "success", Style.NEWS: "info", Style.WARNING: "warning", Style.ALARM: "failure"}
WITHIN_SEC: Final = 15.0
"""How long one attempt may take, in seconds."""
BODY_AT_MOST: Final = 20_000
"""The greatest length of a body, in characters, even if a service takes more."""
_BETWEEN: Final = re.compile(r"(?<![\s,])[\s,]++(?=[A-Za-z0-9]+://)")


def neutralize_markup(text: str) -> str:
    """Return the text with each character that some markup may interpret replaced by one look-alike."""
    return _EDGES.sub(lambda found: _OTHER[found[0][0]] * len(found[0]), text.translate(_ACTIVE))


def render_notification(message: Message, room: int) -> dict[str, str]:
    """Return the title, body and type of a message, as text that no service formats.

    `room` is the greatest length of the body, in characters.
    """
    text = truncate(neutralize_markup(printable_lines(message.text)), room // 2, len)
    plain = [
        replace(link, label=neutralize_markup(printable_line(link.label))) for link in list_links(message)
    ]
    text = "\n".join((text, *fit_links(plain, room // 4, len)))
    lines = fit_lines([neutralize_markup(line) for line in message.lines], room - len(text) - 2, len)
    return {
        "title": truncate(neutralize_markup(printable_line(message.title)), TITLE_AT_MOST),
        "body": "\n".join([text, *lines]),
        "notify_type": _TYPES[choose_style(message)],
    }


class Options(ChannelOptions):
    """The addresses for apprise, separated by commas or white space."""

    urls: SecretStr


class AppriseTarget:
    """One address, to which one message at a time is sent in a daemon thread.

    Such a thread does not delay the program's end.
    """

    def __init__(self, apprise: Any, longest: int) -> None:
        self._apprise, self._is_busy = apprise, False
        # half of what the service takes, since escaped text grows
        self._room = min(longest // 2, BODY_AT_MOST)

    def begin(self, message: Message, done: Callable[[bool], object]) -> None:
        """Begin to send a message; `done` gets True in the event loop if it was accepted, otherwise False.

        That is False at once while an earlier message is still being sent.
        """
        if self._is_busy:
            done(False)
            return
        loop = asyncio.get_running_loop()
        notification = render_notification(message, self._room)

        def end_sending(answer: bool) -> None:
            self._is_busy = False
            done(answer)

        def send_notification() -> None:
            try:
                answer = bool(self._apprise.notify(body_format="text", **notification))
            except Exception:  # noqa: BLE001 - a foreign library may raise anything
                answer = False
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(end_sending, answer)

        self._is_busy = True
        threading.Thread(target=send_notification, name="apart", daemon=True).start()


class Apprise(Channel):
    """A channel that sends to all addresses at once; a repeat goes only to those that did not accept."""

    def __init__(self, name: str, where: str, targets: dict[str, AppriseTarget], within_sec: float) -> None:
        self.name = name
        self.where = where
        self._targets = targets
        self._parts = AcceptedParts()
        self.within_sec = within_sec

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:  # noqa: ARG002 - has no threads
        """Send a message to the addresses that have not accepted it yet.

        Raises SendError unless all of them accept it in time.
        """
        left = self._parts.remaining(message.id, self._targets)
        answers = [self._send_to(message, part) for part in left]
        if not answers:
            self._parts.forget(message.id)  # accepted after the previous attempt had timed out
            return Receipt("accepted")
        done, waiting = await asyncio.wait(answers, timeout=self.within_sec)
        failed = sum(not answer.result() for answer in done)
        if failed or waiting:
            raise SendError("timeout" if waiting else f"not accepted by {failed} of {len(self._targets)}")
        self._parts.forget(message.id)
        return Receipt("accepted")

    def _send_to(self, message: Message, part: str) -> asyncio.Future[bool]:
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def done(accepted: bool) -> None:
            if accepted:
                self._parts.mark_accepted(message.id, part)
            if not answer.done():
                answer.set_result(accepted)

        self._targets[part].begin(message, done)
        return answer


def create_apprise(name: str, options: Options) -> Channel:
    """Create the channel with this name.

    Raises ChannelError without the library, or for an address that the library does not know.
    """
    try:
        import apprise  # noqa: PLC0415 - an extra, and a big one
    except ModuleNotFoundError:
        raise ChannelError(f"{name}: needs the extra: pip install 'marketswarm[apprise]'") from None
    library = logging.getLogger("apprise")
    library.handlers, library.propagate = [logging.NullHandler()], False
    # the library's own time limit would use threads for which the program has to wait at its end
    asset = apprise.AppriseAsset(app_id="MarketSwarm", app_desc="MarketSwarm", service_timeout=0)
    targets, services = {}, set()
    for at, url in enumerate(_BETWEEN.split(options.urls.get_secret_value().strip(" ,\n")), 1):
        target = apprise.Apprise(asset=asset)
        if not target.add(url):
            raise ChannelError(f"{name}: urls: the address at {at} is not one that apprise knows")
        targets[str(at)] = AppriseTarget(target, target[0].body_maxlen)
        services.add(str(target[0].service_name))
    return Apprise(name, ", ".join(sorted(services)), targets, WITHIN_SEC)
