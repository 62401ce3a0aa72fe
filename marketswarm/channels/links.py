"""Say which links of a message become buttons, and write the others as lines. Pure."""

from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from marketswarm.channels.message import Message, MessageLink, format_link
from marketswarm.channels.text import Cost

LINKS_AT_MOST: Final = 8
"""How many links a message shows at most: what acts comes first, and the page is always there."""


def list_links(message: Message, at_most: int = LINKS_AT_MOST) -> list[MessageLink]:
    """Return the links to show, `at_most` of them: those that act, and the page as the last one."""
    acts = [link for link in message.links if link.action]
    pages = [link for link in message.links if not link.action]
    return [*acts[: at_most - len(pages)], *pages]


def list_buttons(message: Message, at_most: int, url_at_most: int) -> list[MessageLink]:
    """Return the links to show if each of them may be a button, otherwise none: they are lines then.

    A receiver refuses the whole message if it takes one address for wrong: one that is too long, or one whose
    host has no dot, such as `localhost`.
    """
    links = list_links(message, at_most)
    return links if all(_may_be_button(link.url, url_at_most) for link in links) else []


def _may_be_button(url: str, url_at_most: int) -> bool:
    return len(url) <= url_at_most and "." in (urlsplit(url).hostname or "")


def fit_links(
    links: Sequence[MessageLink],
    room: int,
    cost: Cost,
    *,
    show: Callable[[MessageLink], str] = format_link,
    between: int = 1,
) -> list[str]:
    """Return as many links, each as `show` writes it, as cost `room` at most, the last ones first.

    `between` is the cost of joining two of them.
    """
    shown, left = list[str](), room
    for line in reversed([show(link) for link in links]):
        left -= cost(line) + between
        if left >= 0:
            shown.insert(0, line)
    return shown


def add_link_lines(message: Message) -> str:
    """Return the text of a message, and its links as lines, for receivers that know no buttons."""
    return "\n".join((message.text, *map(format_link, list_links(message))))
