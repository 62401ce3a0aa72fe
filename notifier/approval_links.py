"""Add to a message about proposals of the medic the links that approve them, when it is sent."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from pydantic import SecretStr

from marketswarm.channels import Message
from marketswarm.operator.approval_link import find_link_target, make_link
from marketswarm.settings import NotifierSettings

MAX_LINKS: Final = 5
"""The most links that one message has."""


def make_link_adder(settings: NotifierSettings) -> Callable[[Message], Message] | None:
    """Return what adds links to a message; None where there is no key to sign with."""
    key, public_url = settings.approval_link_key, settings.board_public_url
    return None if key is None or public_url is None else partial(add_links, public_url, key)


def add_links(public_url: str, key: SecretStr, message: Message) -> Message:
    """Return the message with a line for each proposal: the same ones in every attempt at sending it."""
    found = ((event, find_link_target(event)) for event in message.parse_events())
    lines = [
        f"approve {event.svc}: {make_link(public_url, key, target)}"
        for event, target in found
        if target is not None
    ]
    return replace(message, text="\n".join((message.text, *lines[:MAX_LINKS]))) if lines else message
