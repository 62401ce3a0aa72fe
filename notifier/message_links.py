"""Add links to a message when it is sent: to its page of the board, and signed ones by which its reader acts.

A signed link is a credential, so it is made here and not when the message is queued: what is queued is on the
buses. Each attempt at sending a message has the same links.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final
from urllib.parse import quote

from pydantic import SecretStr

from marketswarm.channels import Message
from marketswarm.channels.message import MessageLink
from marketswarm.channels.text import printable_line, replace_surrogates, truncate
from marketswarm.event import Event
from marketswarm.event_text import find_proposal_subject
from marketswarm.operator.approval_request import find_request
from marketswarm.operator.healing_text import describe_proposal
from marketswarm.operator.signed_link import (
    MAX_ABOUT_CHARS,
    MAX_LIFE_SEC,
    MAX_SUBJECTS,
    LinkAction,
    SignedLink,
    make_link,
)
from marketswarm.operator.silences import is_pattern
from marketswarm.settings.programs import NotifierSettings
from marketswarm.text import format_names

MAX_APPROVALS: Final = 5
"""The most proposals that one message has links to approve."""
MAX_CHARS: Final = 200
"""The longest name that a link may act on: it is that of a request."""
_NAMED: Final = 3
_FLAPPING: Final = "flapping"
_SILENCED: Final = frozenset({"heartbeat", "healer", "bus", "truth", "probe", "watch"})
"""The kinds of alerts that a silence can name: the truth knows what they are about."""
_WITH_PAGE: Final = frozenset({"heartbeat_miss", "heartbeat_ok", "heartbeat_gap"})
"""The types of events about a service, which has a page of its own."""


def make_link_adder(settings: NotifierSettings) -> Callable[[Message, str], Message] | None:
    """Return what adds links to a message for a channel; None where the board has no public address.

    Without a key to sign with, the links only show.
    """
    if settings.board_public_url is None:
        return None
    return partial(add_links, settings.board_public_url, settings.approval_link_key)


def add_links(public_url: str, key: SecretStr | None, message: Message, channel: str) -> Message:
    """Return the message with its links: those that act first, the one to its page last."""
    events = message.parse_events()
    signed = () if key is None else tuple(_list_acts(public_url, key, message, events, channel))
    return replace(message, links=(*signed, _make_page_link(public_url, message, events)))


def _list_acts(
    public_url: str, key: SecretStr, message: Message, events: list[Event], channel: str
) -> Iterator[MessageLink]:
    where = truncate(printable_line(channel), 60) or "?"
    acts = [*_list_approvals(events, where), *_list_answers(message, where)]
    for label, act in acts:
        url = make_link(public_url, key, act)
        if url is not None:
            yield MessageLink(label, url, act.action)


def _list_approvals(events: list[Event], channel: str) -> list[tuple[str, SignedLink]]:
    """Return the words of a button and its link for each remedy that these events ask a person to approve."""
    found: list[tuple[str, SignedLink]] = []
    for event in events:
        request = find_request(event)
        if request is not None:
            about = _shorten(describe_proposal(request.remedy, find_proposal_subject(event.svc)))
            link = SignedLink(LinkAction.APPROVE, (request.ident,), about, channel, request.until)
            found.append((f"Approve: {about}", link))
    return found[:MAX_APPROVALS]


def _list_answers(message: Message, channel: str) -> Iterator[tuple[str, SignedLink]]:
    """Yield the links about the outages that the message says last; none for an end, or for proposals."""
    own = message.thread or message.id
    proposals = {event.svc for event in message.parse_events() if find_request(event) is not None}
    lasting = [
        state
        for state in message.states
        if state.ended_at is None and state.name != _FLAPPING and state.svc not in proposals
    ]
    threads = tuple(dict.fromkeys(state.thread or own for state in lasting))
    services = tuple(dict.fromkeys(state.svc for state in lasting))
    about, until = _shorten(format_names(services, _NAMED)), message.timestamp + MAX_LIFE_SEC
    if _are_subjects(threads):
        yield "I see to it", SignedLink(LinkAction.ACK, threads, about, channel, until)
    silenced = all(state.name in _SILENCED and not is_pattern(state.svc) for state in lasting)
    if silenced and _are_subjects(services):
        yield "Quiet for 2 h", SignedLink(LinkAction.QUIET, services, about, channel, until)


def _are_subjects(names: tuple[str, ...]) -> bool:
    return 0 < len(names) <= MAX_SUBJECTS and all(_is_subject(name) for name in names)


def _is_subject(name: str) -> bool:
    return 0 < len(name) <= MAX_CHARS and replace_surrogates(name) == name


def _shorten(text: str) -> str:
    return truncate(printable_line(text), MAX_ABOUT_CHARS // 2)


def _make_page_link(public_url: str, message: Message, events: list[Event]) -> MessageLink:
    """Return the link to the page of the one service, of all outages, or of the channels."""
    services = {event.svc for event in events}
    if len(services) == 1 and all(event.type in _WITH_PAGE for event in events):
        (svc,) = services
        if "/" not in svc and _is_subject(svc):
            return MessageLink(f"Open {_shorten(svc)}", f"{public_url}/services/{quote(svc, safe='')}")
    if not events and not message.about:
        return MessageLink("Open notifications", f"{public_url}/notifications")
    return MessageLink("Open incidents", f"{public_url}/incidents")
