"""Let everyone with a signed link act: its GET only shows, its POST acts, once, within its life.

A mail scanner or a chat's preview opens each link that it sees, so opening one does nothing. What links are
for is `marketswarm/operator/signed_link.py`. A link needs no token: it is one, for a single act.
"""

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import ClassVar, Final

from fastapi import APIRouter, Request
from pydantic import SecretStr, ValidationError
from starlette.responses import HTMLResponse, Response

from marketswarm.operator.healing_text import describe_proposal
from marketswarm.operator.signed_link import LINK_PATH, QUIET_SEC, LinkAction, SignedLink, read_link
from marketswarm.operator.silences import is_pattern
from marketswarm.text import format_moment
from marketswarm.web.limits import RefusedError
from marketswarm.web.responses import Templates
from marketswarm.web.sessions import find_origin
from marketswarm.web.tokens import Client, find_address
from services.board.actions.steering import AckBody, ApproveBody, HealingSteering, SilenceBody, Steering
from services.board.actions.used_links import UsedLinks
from services.board.fleet.incident_record import ProposalView

_UNKNOWN: Final = "this link is not one of ours, or it was changed: copy all of it from the message"
_ASKED: Final = "The notifier has not answered yet: one that runs within a day does it."
_APPROVED: Final = "The medic does it within seconds, once, unless something forbids it meanwhile."
_TITLES: Final = {
    LinkAction.APPROVE: ("Approve", "Approved"),
    LinkAction.ACK: ("I see to it", "You see to it"),
    LinkAction.QUIET: ("Quiet for 2 h", "Quiet for 2 h"),
}


@dataclass(frozen=True, slots=True)
class LinkPage:
    """What a link would do at `now`, and until when it counts (epoch seconds), or its outcome.

    `used_at` is when it was used before, `done` what it has just done, in a sentence.
    """

    template: ClassVar = "link.html"
    title: str
    now: float
    until: float
    action: LinkAction
    author: str
    proposal: ProposalView | None = None
    used_at: float | None = None
    done: str = ""
    ends_at: float | None = None


@dataclass(frozen=True, slots=True)
class LinkActs:
    """Does what links say, with the operations of tokens, on record in the audit log."""

    steering: Steering
    healing: HealingSteering
    used: UsedLinks

    async def show(self, link: SignedLink, now: float) -> LinkPage:
        """Return the page of a link that was not used yet, or when it was. Raises RefusedError."""
        used_at = await self.used.find_use(link)
        if used_at is not None:
            return _make_page(link, now, is_done=True, used_at=used_at)
        if link.action is not LinkAction.APPROVE:
            return _make_page(link, now)
        return _make_page(link, now, await self.healing.find_proposal(link.subjects[0]))

    async def act(self, link: SignedLink, client: Client, now: float) -> LinkPage:
        """Do what a link says, unless it was used before; return its outcome. Raises RefusedError."""
        if not await self.used.claim(link):
            used_at = await self.used.find_use(link)
            if used_at is None:
                raise RefusedError(409, "this link is being used right now: load the page again")
            return _make_page(link, now, is_done=True, used_at=used_at)
        async with self._release_if_refused(link):
            page = await self._do(link, client, now)
        await self.used.mark_used(link, now)
        return page

    @contextlib.asynccontextmanager
    async def _release_if_refused(self, link: SignedLink) -> AsyncIterator[None]:
        """Give a link back if the block is refused: then nothing was done, and it may be used again."""
        try:
            yield
        except RefusedError:
            await self.used.release(link)
            raise

    async def _do(self, link: SignedLink, client: Client, now: float) -> LinkPage:
        if link.action is LinkAction.APPROVE:
            approval = await self.healing.approve(client, ApproveBody(by=link.author), link.subjects[0], now)
            title = f"Approved: {describe_proposal(approval.remedy, approval.svc)}"
            return LinkPage(title, now, link.until, link.action, link.author, done=_APPROVED)
        if link.action is LinkAction.ACK:
            return _make_page(link, now, is_done=True, done=await self._acknowledge(link, client))
        return await self._silence(link, client, now)

    async def _acknowledge(self, link: SignedLink, client: Client) -> str:
        """Acknowledge the outages of each thread; return what the notifier says. Raises RefusedError."""
        body = AckBody(by=link.author)
        answers = [await self.steering.acknowledge(client, body, thread) for thread in link.subjects]
        accepted = [answer for answer in answers if answer.ok]
        if accepted:
            return "; ".join(line.said for answer in accepted for line in answer.answers)
        if not all(answer.done for answer in answers):
            return _ASKED
        raise RefusedError(409, f"nothing of it is down any more: {link.about}")

    async def _silence(self, link: SignedLink, client: Client, now: float) -> LinkPage:
        reason = "quiet for 2 h, by a link in a message"
        if any(map(is_pattern, link.subjects)):  # a foreign name must not silence the services of others
            raise RefusedError(422, "a link silences services by their names, and this is a pattern")
        try:
            body = SilenceBody(services=link.subjects, for_sec=QUIET_SEC, reason=reason, author=link.author)
        except ValidationError:
            raise RefusedError(422, "it can't be silenced by its name") from None
        silence = await self.steering.add_silence(client, body, now)
        return _make_page(link, now, is_done=True, done="No messages about it", ends_at=silence.ends_at)


def _make_page(
    link: SignedLink,
    now: float,
    proposal: ProposalView | None = None,
    *,
    is_done: bool = False,
    used_at: float | None = None,
    done: str = "",
    ends_at: float | None = None,
) -> LinkPage:
    about = link.about if proposal is None else proposal.act
    title = f"{_TITLES[link.action][is_done]}: {about}"
    return LinkPage(title, now, link.until, link.action, link.author, proposal, used_at, done, ends_at)


def make_link_site(acts: LinkActs, key: SecretStr | None, templates: Templates) -> APIRouter:
    """Return the routes of links signed with `key`; none without one."""
    site = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    if key is None:
        return site

    def require_link(text: str, now: float) -> SignedLink:
        link = read_link(text, key)
        if link is None:
            raise RefusedError(404, _UNKNOWN)
        if link.is_expired(now):
            raise RefusedError(410, f"this link counted until {format_moment(link.until)}: it has expired")
        return link

    @site.get(f"{LINK_PATH}{{text}}")
    async def show(text: str) -> Response:
        now = time.time()
        return templates.answer(await acts.show(require_link(text, now), now))

    @site.post(f"{LINK_PATH}{{text}}")
    async def act(text: str, request: Request) -> Response:
        # the link is the credential, so a program (an app's button) needs no origin; a foreign page has one
        if "origin" in request.headers:
            find_origin(request, "board")
        now = time.time()
        client = Client(None, find_address(request.scope))
        return templates.answer(await acts.act(require_link(text, now), client, now))

    return site
