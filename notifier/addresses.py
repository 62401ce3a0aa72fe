"""The addresses that a truth itself names for its channels, and the word about one that it names anew.

Whoever can write a truth can have messages sent to himself, and no longer to those who had them. So a new
address is told over the other channels, those that it takes the place of included. Addresses that are in the
environment (`"env:NAME"`) are the operator's: they are none of these.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from marketswarm import log as logs
from marketswarm.channels import Channel, Message, SendError
from marketswarm.truth.credentials import reference_in
from marketswarm.truth.env_policy import place_of

PARTS: Final = ("type", "url", "host", "to", "channel", "chat")
"""The options that say where a channel leads."""
SHOWN: Final = ("to", "channel", "chat")
PAUSES_SEC: Final = (1.0, 5.0, 20.0)
"""Between the attempts over a channel that is open for this word alone."""

log = logs.get("notifier")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a channel of the truth leads: `digest` tells one from another, `shown` holds no path of a URL."""

    digest: str
    shown: str


def addresses(channels: Mapping[str, Mapping[str, Any]]) -> dict[str, Address]:
    """By channel, the address that the truth names."""
    found = {}
    for name, options in channels.items():
        said = {part: options[part] for part in PARTS if _is_said(options.get(part))}
        if said.keys() - {"type"}:
            digest = hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:24]
            found[name] = Address(digest, _shown(said))
    return found


async def send_once(channels: Mapping[str, Channel], message: Message) -> None:
    """Send a message over channels that are open for it alone, with a few attempts each, and close them."""
    await asyncio.gather(*(_send(channel, message) for channel in channels.values()))


async def _send(channel: Channel, message: Message) -> None:
    try:
        for pause_sec in (*PAUSES_SEC, None):
            try:
                await channel.send(message)
            except SendError as error:
                reason = error.reason
                if error.permanent or pause_sec is None:
                    break
            else:
                return
            await asyncio.sleep(pause_sec)
        log.warning("channel.address_untold", channel=channel.name, reason=reason)
    except Exception as error:  # noqa: BLE001 - whatever a channel does, the term goes on
        log.warning("channel.address_untold", channel=channel.name, reason=type(error).__name__)
    finally:
        await channel.aclose()


def _is_said(value: Any) -> bool:
    return value is not None and reference_in(value) is None


def _shown(said: Mapping[str, Any]) -> str:
    kind, url, host = said.get("type"), said.get("url"), said.get("host")
    place = place_of(url) if isinstance(url, str) else host
    rest = ", ".join(str(said[part])[:100] for part in SHOWN if part in said)
    where = " ".join(filter(None, (f"at {place}" if place else "", f"to {rest}" if rest else "")))
    return f"{kind} {where}"[:300]
