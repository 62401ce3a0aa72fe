"""Take evidence of an outage before anything is done about it: the state of the target, the end of its log.

A remedy changes what is to be seen: a process that was restarted has another memory, and its log scrolls on.
People read the evidence in the post-mortem. Lines of logs are data from others: bounded, without secrets, and
escaped where they are shown.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from marketswarm.operator.healing import EntryKind, OutageEvidence, TimelineEntry
from marketswarm.packed_log import LOG_BYTES, pack_log
from marketswarm.redactor import Redactor
from marketswarm.tasks import gather_all
from services.medic.diagnosis.bundle import describe_target
from services.medic.facts import FleetFacts
from services.medic.owners.log_source import LogSource, read_log_end
from services.medic.planner import RepairPlan
from services.medic.refusal import Refusal
from services.medic.remedies import Remedy
from services.medic.repair import AttemptVerdict, Repair

EVIDENCE_SEC: Final = 2.0
"""How long the logs may take, since the remedy waits for them."""
REDACT_SEC: Final = 1.0
"""How long secrets are removed from them; what is left then is left out."""
MOST: Final = 8
"""Of how many outages evidence is taken in one round; of more than that at once, the fuse tells."""
_KINDS: Final = (EntryKind.PROPOSED, EntryKind.INTENDED, EntryKind.ESCALATED)
_TO_PEOPLE: Final = ((EntryKind.REFUSED, Refusal.OBSERVED), (EntryKind.REFUSED, Refusal.DRY_RUN))
"""What an entry says in mode `observe`, or a dry run: a person may do what medic would have done."""
_NOT_DONE: Final = (AttemptVerdict.PENDING, AttemptVerdict.UNDONE, AttemptVerdict.EXPIRED)


def _is_first(repair: Repair | None) -> bool:
    if repair is None:
        return False
    return all(each.verdict in _NOT_DONE for each in repair.attempts if each.remedy is not Remedy.WAIT)


class EvidenceCollector:
    """Take evidence; `secrets` are removed from it, as all that looks like one."""

    def __init__(self, log_sources: Sequence[LogSource], secrets: Iterable[str]) -> None:
        self._log_sources, self._redactor = log_sources, Redactor(secrets)

    async def collect(
        self, plan: RepairPlan, facts: FleetFacts, list_resources: Callable[[str], Mapping[str, float]]
    ) -> tuple[OutageEvidence, ...]:
        """Return the evidence of each outage about which a plan is the first to do something."""
        begun = (
            each for each in plan.entries if each.what in _KINDS or (each.what, each.reason) in _TO_PEOPLE
        )
        first = [each for each in begun if _is_first(plan.repairs.get(each.svc))][:MOST]
        works = (self._take(each, facts, list_resources(each.svc)) for each in first)
        return tuple(await gather_all(works))

    async def _take(
        self, entry: TimelineEntry, facts: FleetFacts, readings: Mapping[str, float]
    ) -> OutageEvidence:
        text = await read_log_end(self._log_sources, entry.svc, LOG_BYTES, EVIDENCE_SEC)
        target = facts.targets.get(entry.svc)
        known: dict[str, Any] = {} if target is None else describe_target(target)
        return OutageEvidence(
            svc=entry.svc,
            incident=entry.incident,
            ts=time.time(),
            step=f"{entry.what} {entry.remedy}".strip(),
            facts={
                name: value if value is None or type(value) in (int, float) else str(value)[:500]
                for name, value in known.items()
            },
            readings=dict(readings),
            packed_log=await self._pack(text) if text else "",
        )

    async def _pack(self, text: str) -> str:
        """Return the end of a log packed; empty if even that takes too long: the remedy waits for it."""
        until = time.monotonic() + REDACT_SEC

        def pack() -> str:
            return pack_log(self._redactor.redact(text, LOG_BYTES, lambda: time.monotonic() >= until))

        try:
            async with asyncio.timeout(EVIDENCE_SEC):
                return await asyncio.to_thread(pack)
        except TimeoutError:  # no thread is free
            return ""
