"""Let everyone with a signed link act: its GET only shows, its POST acts, once, within its life.

A mail scanner or a chat's preview opens each link that it sees, so opening one does nothing. What links are
for is `marketswarm/operator/signed_link.py`. A link needs no token: it is one, for a single act.

Which links were used is on the bus of the audit log: a key `board:links:<id>` for each. A link is claimed
before it acts and marked as used after that, until it counts no more. A claim without an act, of a board that
was killed between them, ends by itself, and the link counts again.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Final, TypeVar

from fastapi import APIRouter, Request
from pydantic import SecretStr, ValidationError
from starlette.responses import HTMLResponse, Response

from marketswarm.bus import Bus
from marketswarm.keys import board_link_key
from marketswarm.operator.healing_text import describe_proposal
from marketswarm.operator.signed_link import LINK_PATH, QUIET_SEC, LinkAction, SignedLink, read_link
from marketswarm.operator.silences import is_pattern
from marketswarm.tasks import gather_all
from marketswarm.text import format_moment, parse_digits
from marketswarm.web.limits import RefusedError, refuse_without_bus
from marketswarm.web.responses import Templates
from marketswarm.web.sessions import find_origin
from marketswarm.web.tokens import Client, find_address
from services.board.actions.steering import AckBody, ApproveBody, HealingSteering, SilenceBody, Steering
from services.board.fleet.incident_record import ProposalView

CLAIMED: Final = b"claimed"
CLAIM_SEC: Final = 60
"""How long a claim lasts, in seconds: longer than any act takes."""
MARGIN_SEC: Final = 60
"""How much longer than its link the record of its use lasts, in seconds."""
_UNKNOWN: Final = "this link is not one of ours, or it was changed: copy all of it from the message"
_ASKED: Final = "The notifier has not answered yet: one that runs within a day does it."
_APPROVED: Final = "The medic does it within seconds, once, unless something forbids it meanwhile."
_TITLES: Final = {
    LinkAction.APPROVE: ("Approve", "Approved"),
    LinkAction.ACK: ("I see to it", "You see to it"),
    LinkAction.QUIET: ("Quiet for 2 h", "Quiet for 2 h"),
}
"""By action, the heading before it is done, and after that."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LinkPage:
    """What a link would do at `now` (epoch seconds), or its outcome; `about` names its subjects for people.

    `used_at` is when it was used before, `done` what it has just done, in a sentence.
    """

    template: ClassVar = "link.html"
    link: SignedLink
    now: float
    about: str
    proposal: ProposalView | None = None
    used_at: float | None = None
    done: str = ""
    ends_at: float | None = None

    @property
    def title(self) -> str:
        is_done = self.used_at is not None or self.done != ""
        return f"{_TITLES[self.link.action][is_done]}: {self.about}"


@dataclass(frozen=True, slots=True)
class LinkActs:
    """Does what links say, with the operations of tokens, on record in the audit log.

    Every method raises RefusedError if the bus that has the audit log and the uses of links does not answer.
    """

    steering: Steering
    healing: HealingSteering

    async def show(self, link: SignedLink, now: float) -> LinkPage:
        """Return the page of a link that was not used yet, or when it was. Raises RefusedError."""
        used_at = await self._find_use(link)
        if used_at is not None or link.action is not LinkAction.APPROVE:
            return LinkPage(link, now, link.about, used_at=used_at)
        proposal = await self.healing.find_proposal(link.subjects[0])
        return LinkPage(link, now, proposal.act, proposal)

    async def act(self, link: SignedLink, client: Client, now: float) -> LinkPage:
        """Do what a link says, unless it was used before; return its outcome. Raises RefusedError."""
        if not await self.claim(link):
            used_at = await self._find_use(link)
            if used_at is None:
                raise RefusedError(409, "this link is being used right now: load the page again")
            return LinkPage(link, now, link.about, used_at=used_at)
        try:
            page = await self._do(link, client, now)
        except BaseException:  # it was not done, or is cancelled midway: so the link may be used again
            with suppress(RefusedError):  # the claim ends by itself
                await self._release(link)
            raise
        await self._mark_used(link, now)
        return page

    async def claim(self, link: SignedLink) -> bool:
        """Claim a link for CLAIM_SEC; return False if it is claimed or used."""
        key = board_link_key(link.id)
        return bool(await self._ask(lambda bus: bus.client.set(key, CLAIMED, nx=True, ex=CLAIM_SEC)))

    async def _find_use(self, link: SignedLink) -> float | None:
        """Return when a link was used, in epoch seconds; None if it was not."""
        at = parse_digits(await self._ask(lambda bus: bus.client.get(board_link_key(link.id))))
        return None if at is None else float(at)

    async def _mark_used(self, link: SignedLink, now: float) -> None:
        """Record that a link was used at `now` (epoch seconds), until it expires."""
        left_sec, key = max(0, int(link.until - now)) + MARGIN_SEC, board_link_key(link.id)
        await self._ask(lambda bus: bus.client.set(key, str(int(now)), ex=left_sec))

    async def _release(self, link: SignedLink) -> None:
        """Delete the claim of a link that did nothing, so that it counts again."""
        await self._ask(lambda bus: bus.client.delete(board_link_key(link.id)))

    async def _ask(self, request: Callable[[Bus], Awaitable[T]]) -> T:
        bus = self.steering.audit.bus()
        with refuse_without_bus("records the use of links"):
            answer: T = await bus.ask(request(bus))
        return answer

    async def _do(self, link: SignedLink, client: Client, now: float) -> LinkPage:
        if link.action is LinkAction.APPROVE:
            approval = await self.healing.approve(client, ApproveBody(by=link.author), link.subjects[0], now)
            return LinkPage(link, now, describe_proposal(approval.remedy, approval.svc), done=_APPROVED)
        if link.action is LinkAction.ACK:
            return LinkPage(link, now, link.about, done=await self._acknowledge(link, client))
        return await self._silence(link, client, now)

    async def _acknowledge(self, link: SignedLink, client: Client) -> str:
        """Acknowledge the outages of each thread; return what the notifier says. Raises RefusedError.

        All are asked for at once: a notifier that is away is waited for once, within the time of one answer.
        """
        body = AckBody(by=link.author)
        answers = await gather_all(
            self.steering.acknowledge(client, body, thread) for thread in link.subjects
        )
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
        return LinkPage(link, now, link.about, done="No messages about it", ends_at=silence.ends_at)


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
