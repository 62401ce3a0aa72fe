"""Let everyone with a signed link approve one proposal: its GET only shows, its POST acts, within its life.

A mail scanner or a chat's preview opens each link that it sees, so opening one does nothing. What a link is
for is `marketswarm/operator/approval_link.py`.
"""

import time
from dataclasses import dataclass
from typing import ClassVar, Final

from fastapi import APIRouter, Request
from pydantic import SecretStr
from starlette.responses import HTMLResponse, Response

from marketswarm.operator.approval_link import LINK_PATH, LinkTarget, read_link
from services.board.access.limits import RefusedError
from services.board.access.sessions import find_origin
from services.board.access.tokens import Client, find_address
from services.board.actions.steering import ApprovalAnswer, ApproveBody, HealingSteering
from services.board.fleet.incident_record import ProposalView
from services.board.responses import answer_page

AUTHOR: Final = "a signed link"
_OVER: Final = "this link does not count, or not any more: its time is over, or it was changed"


@dataclass(frozen=True, slots=True)
class ApprovalPage:
    """What a link would approve at `now`, and until when it counts (epoch seconds), or what it `done` was."""

    template: ClassVar = "approval.html"
    title: str
    now: float
    until: float
    proposal: ProposalView | None = None
    done: ApprovalAnswer | None = None


def make_link_site(healing: HealingSteering, key: SecretStr | None) -> APIRouter:
    """Return the routes of links signed with `key`; none without one."""
    site = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    if key is None:
        return site

    def require_target(link: str, now: float) -> LinkTarget:
        target = read_link(link, key, now)
        if target is None:
            raise RefusedError(404, _OVER)
        return target

    @site.get(f"{LINK_PATH}{{link}}")
    async def show(link: str) -> Response:
        now = time.time()
        target = require_target(link, now)
        proposal = await healing.find_proposal(target.ident)
        title = f"Approve: {proposal.remedy} {proposal.svc}"
        return answer_page(ApprovalPage(title, now, target.until, proposal=proposal))

    @site.post(f"{LINK_PATH}{{link}}")
    async def approve(link: str, request: Request) -> Response:
        find_origin(request)
        now = time.time()
        target, client = require_target(link, now), Client(None, find_address(request.scope))
        done = await healing.approve(client, ApproveBody(by=AUTHOR), target.ident, now)
        title = f"Approved: {done.remedy} {done.svc}"
        return answer_page(ApprovalPage(title, now, target.until, done=done))

    return site
