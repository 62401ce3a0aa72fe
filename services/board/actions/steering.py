"""Act on the fleet for clients with a token: silences, acknowledgements, approvals. A function a verb.

The API and the forms of the pages make a body of what a client sent, and call the verb with it.

Each act is in the audit log before it is done; what can't be noted there is not done.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from marketswarm.bus import Bus, NoBusError
from marketswarm.operator.audit import Act, Action, AuditOutcome
from marketswarm.operator.fields import Name, Text
from marketswarm.operator.healing import FUSE, HealingApproval, write_approval
from marketswarm.operator.requests import (
    ALL,
    Answer,
    RequestKind,
    collect_answers,
    create_request,
    send_request,
)
from marketswarm.operator.silences import (
    MAX_SILENCE_SEC,
    NO_REASON,
    Silence,
    create_silence,
    find_unknown_target,
    list_targets,
    match_targets,
    read_silences,
    write_silence,
)
from marketswarm.operator.tokens import Scope
from marketswarm.truth import Truth, describe_unknown
from marketswarm.web.audit import AuditLog
from marketswarm.web.limits import RETRY_SEC, RefusedError, require_found
from marketswarm.web.tokens import Client
from services.board.fleet.incident_record import IncidentRecord, ProposalView
from services.board.fleet.snapshot import SilenceView, copy_fields

ANSWER_SEC: Final = 5.0  # how long a client waits for the notifier; its answer must begin in ten seconds
GRACE_SEC: Final = 1.0  # how many seconds after `answer_sec` the last answer may still arrive
MAX_WAITING: Final = 20  # how many clients may wait for the notifier at once


def _require_printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("it can't be shown on one line")
    return text.strip()


Line = Annotated[Name, AfterValidator(_require_printable)]
Names = Annotated[tuple[Name, ...], Field(max_length=50)]


class VerbBody(BaseModel):
    """What a client sends for a verb: no conversions, no unknown keys, and nothing of it in an error."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class SilenceBody(VerbBody):
    """A silence: services, by name or pattern, and tags; `author` is by default the token's name."""

    services: Names = ()
    tags: Names = ()
    for_sec: Annotated[float, Field(gt=0, le=MAX_SILENCE_SEC, allow_inf_nan=False)]
    reason: Annotated[Text, AfterValidator(_require_printable)] = NO_REASON
    author: Line | None = None


class AckBody(VerbBody):
    """Who sees to an outage; by default the token's name."""

    by: Line | None = None


class ResendBody(VerbBody):
    """The message to send again, by default every one, and who does; by default the token's name."""

    id: Name | None = None
    by: Line | None = None


class ChannelTestBody(VerbBody):
    """The channel to test, by default every one, and who does; by default the token's name."""

    channel: Name | None = None
    by: Line | None = None


@dataclass(frozen=True, slots=True)
class SilenceAnswer(SilenceView):
    """A silence, the names in the truth that it matches, and the buses that did not take it, with the reason.

    Times are epoch seconds.
    """

    matches: tuple[str, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RequestAnswer:
    """What the notifier answered: a line for each channel, or one in all.

    `done` is False if it has not finished; `ok` is True if it has, and every line is ok. `refused` are the
    buses that did not take the request, with the reason.
    """

    id: str
    done: bool
    ok: bool
    answers: tuple[Answer, ...]
    refused: Mapping[str, str]


@dataclass(slots=True)
class Steering:
    """Acts on one fleet.

    `buses` returns every bus of the fleet, and `truth` the truth in force. Every async method may raise
    RefusedError, and ValidationError for an impossible name.
    """

    buses: Callable[[], Sequence[Bus]]
    audit: AuditLog
    truth: Callable[[], Truth]
    answer_sec: float = ANSWER_SEC
    _waiting: int = field(default=0, init=False)

    async def add_silence(self, client: Client, body: SilenceBody, now: float) -> SilenceAnswer:
        """Set a silence at `now` (epoch seconds), if the truth has each name in it."""
        author = body.author or client.name
        silence = create_silence(
            body.services, body.tags, body.for_sec, author=author, reason=body.reason, now=now
        )
        targets = list_targets(self.truth())
        unknown = find_unknown_target(silence, targets)
        if unknown is not None:
            raise RefusedError(422, describe_unknown(unknown, targets))
        return await self._write_silence(Action.SILENCE, client, silence, now)

    async def end_silence(self, client: Client, ident: str, now: float) -> SilenceAnswer:
        """End a silence at `now` (epoch seconds); one that is over stays as it is."""
        try:
            known = await read_silences(self.buses())
        except NoBusError as error:
            raise RefusedError(503, str(error), RETRY_SEC) from None
        found = require_found(known.silences.get(ident), "silence")
        if found.has_ended(now):
            return _make_answer(found, self.truth(), {})
        return await self._write_silence(Action.UNSILENCE, client, found.end_at(now), now)

    async def acknowledge(self, client: Client, body: AckBody, svc: str) -> RequestAnswer:
        """Have the notifier send no reminders of an outage; `svc` is the service or the id of its miss."""
        return await self._request_notifier(client, Action.ACK, svc, body.by)

    async def send_test(self, client: Client, body: ChannelTestBody) -> RequestAnswer:
        return await self._request_notifier(client, Action.TEST, body.channel or ALL, body.by)

    async def resend(self, client: Client, body: ResendBody) -> RequestAnswer:
        return await self._request_notifier(client, Action.RESEND, body.id or ALL, body.by)

    async def _request_notifier(
        self, client: Client, action: Action, what: str, by: str | None
    ) -> RequestAnswer:
        """Send a request about `what` to the notifier, on record in the audit log; return what it answers.

        Raises RefusedError.
        """
        by = by or client.name
        if self._waiting >= MAX_WAITING:
            raise RefusedError(503, "too many clients wait for the notifier", RETRY_SEC)
        request = create_request(RequestKind(action), what, by, time.time())
        act = Act(action, what, client.token, client.address, f"by {by}")
        self._waiting += 1
        try:
            async with self.audit.around(act):
                taken, refused = await send_request(self.buses(), request)
                answers = await self._collect_answers(taken, request.id)
        finally:
            self._waiting -= 1
        done = bool(answers) and answers[-1].done
        ok = done and all(answer.ok for answer in answers)
        outcome = AuditOutcome.DONE if ok else AuditOutcome.REFUSED if done else AuditOutcome.UNANSWERED
        await self.audit.end(act, outcome, "; ".join(answer.said for answer in answers))
        return RequestAnswer(request.id, done, ok, tuple(answers), refused)

    async def _write_silence(
        self, action: Action, client: Client, silence: Silence, now: float
    ) -> SilenceAnswer:
        """Write a silence to every bus, with entries in the audit log."""
        targets = ", ".join((*silence.services, *(f"tag {tag}" for tag in silence.tags)))
        detail = f"{targets} until {silence.ends_at:.0f}: {silence.reason} ({silence.author})"
        act = Act(action, silence.id, client.token, client.address, detail)
        async with self.audit.around(act):
            buses = self.buses()
            refused = await write_silence(buses, await read_silences(buses), silence, now)
        await self.audit.end(act, AuditOutcome.DONE)
        return _make_answer(silence, self.truth(), refused)

    async def _collect_answers(self, buses: Sequence[Bus], request_id: str) -> list[Answer]:
        """Return the notifier's answers that arrive within `answer_sec`, even if it announced more."""
        seen: list[Answer] = []
        try:
            async with asyncio.timeout(self.answer_sec + GRACE_SEC):
                return await collect_answers(buses, request_id, self.answer_sec, seen.append)
        except TimeoutError:
            return seen


def _make_answer(silence: Silence, truth: Truth, refused: Mapping[str, str]) -> SilenceAnswer:
    matches = tuple(match_targets(silence, list_targets(truth)))
    return SilenceAnswer(**copy_fields(silence, SilenceView), matches=matches, refused=refused)


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
        return ApprovalAnswer(ident, proposal.svc, proposal.remedy, by)
