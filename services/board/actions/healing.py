"""Approve what the medic proposes, for clients with a token."""

from collections.abc import Callable
from dataclasses import dataclass

from marketswarm.bus import Bus
from marketswarm.operator.audit import Act, Action, AuditOutcome
from marketswarm.operator.healing import FUSE, HealingApproval, write_approval
from marketswarm.operator.tokens import Scope
from services.board.access.audit import RETRY_SEC, AuditLog
from services.board.access.limits import RefusedError
from services.board.access.tokens import Client
from services.board.actions.steering import Line, VerbBody
from services.board.fleet.incident_record import IncidentRecord, ProposalView


class ApproveBody(VerbBody):
    """Who approves; by default the token's name."""

    by: Line | None = None


@dataclass(frozen=True, slots=True)
class ApprovalAnswer:
    """A proposal that was approved: its id, the service and the remedy, which are empty for the fuse."""

    id: str
    svc: str
    remedy: str
    by: str


@dataclass(frozen=True, slots=True)
class HealingSteering:
    """Approve proposals that are on `record`, on the bus that `get_bus` returns."""

    get_bus: Callable[[], Bus]
    audit: AuditLog
    record: IncidentRecord

    async def find_proposal(self, ident: str) -> ProposalView:
        """Raises RefusedError if nothing is proposed under that id, or the record can't be read."""
        found = await self.record.read()
        if found.away is not None:
            raise RefusedError(503, f"{found.away}", RETRY_SEC)
        proposal = next((each for each in found.list_proposals() if each.id == ident), None)
        if proposal is None:
            raise RefusedError(404, "nothing is proposed under that id, or not any more")
        return proposal

    async def approve(self, client: Client, body: ApproveBody, ident: str, now: float) -> ApprovalAnswer:
        """Have the medic carry out a proposal, once, at `now` (epoch seconds); it still refuses what it must.

        Raises RefusedError.
        """
        self.record.clear()
        proposal = await self.find_proposal(ident)
        if proposal.is_diagnosis and (client.token is None or Scope.DIAGNOSE not in client.token.scopes):
            raise RefusedError(403, f"a diagnosis proposes it: the token lacks the scope {Scope.DIAGNOSE}")
        by = body.by or client.name
        what = "fuse" if ident == FUSE else f"{proposal.remedy} {proposal.svc}"
        act = Act(Action.APPROVE, ident, client.token, client.address, f"{what} ({by})")
        async with self.audit.around(act):
            await write_approval(self.get_bus(), HealingApproval(id=ident, by=by, ts=now))
        await self.audit.end(act, AuditOutcome.DONE)
        is_fuse = ident == FUSE
        return ApprovalAnswer(ident, "" if is_fuse else proposal.svc, "" if is_fuse else proposal.remedy, by)
