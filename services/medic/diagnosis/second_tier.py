"""Ask a command or an OpenAI-compatible endpoint, which the environment names, for a diagnosis of an outage.

Both are off by default, and asked ten times an hour at most, one outage after the other, each once. The
answer is not trusted: it is parsed strictly, and becomes a proposal at most.
"""

import asyncio
import os
import shlex
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import orjson

from marketswarm.agent import Agent
from marketswarm.bus import BusError
from marketswarm.channels.exec import read_command
from marketswarm.net.chat import BadAnswerError, ChatClient, ChatQuestion, ChatStatusError
from marketswarm.net.http import HttpError
from marketswarm.operator.healing import MAX_MODEL, DiagnosisRecord, TimelineEntry
from marketswarm.redactor import Redactor, list_secrets
from marketswarm.tasks import end_tasks
from marketswarm.text import escape_text
from marketswarm.truth import SYSTEM
from marketswarm.truth.diff import diff_truths, format_changes
from marketswarm.truth.parse import parse_truth
from services.medic.diagnosis.bundle import (
    INSTRUCTION,
    MAX_ANSWER_BYTES,
    DiagnosisAnswer,
    DiagnosisEvidence,
    make_bundle,
    parse_answer,
)
from services.medic.diagnosis.repository import read_commits, read_source
from services.medic.facts import FleetFacts
from services.medic.guards import Fuse
from services.medic.owners.log_source import LogSource, read_log_end
from services.medic.refusal import Refusal
from services.medic.remedies import Remedy
from services.medic.remedies.rollback import read_newest_revisions
from services.medic.repair import AttemptVerdict, Repair, RepairState
from services.medic.settings import FuseSettings, MedicEnvironment

BUDGET: Final = FuseSettings(remedies=10, within_sec=3600)
"""How many questions are asked in what time."""
FAILURES: Final = 5
"""The failed attempts in a row from which a diagnosis is asked for, though the ladder continues."""
TIMELINE_KEPT: Final = 500
LOG_BYTES: Final = 24 * 1024
"""How much is kept of the logs of a service, all of which is redacted; the bundle has the end of that."""
LOG_SEC: Final = 5.0
REDACT_SEC: Final = 3.0
"""How long secrets are removed from a bundle or an answer; what is left then is left out."""
MAX_RESPONSE_BYTES: Final = 256 * 1024
_BAD: Final = (AttemptVerdict.FAILED, AttemptVerdict.RELAPSED, AttemptVerdict.ABANDONED)
_WAITS: Final = (RepairState.WAITING, RepairState.STABILIZING)


def find_reason(repair: Repair, suspect: Mapping[str, str]) -> str | None:
    """Return the word for why a repair needs a diagnosis; None if it needs none, or one was asked for.

    `suspect` has the services for which something unknown or damaged calls for one, with the word for it:
    but not while the outage may end by itself, or seems to be over.
    """
    if repair.asked_at is not None:
        return None
    if repair.state is RepairState.ESCALATED:
        return "escalated"
    if repair.refusal is Refusal.EMERGENCY:  # a rule of that severity holds, such as one about corruption
        return "emergency"
    if repair.svc in suspect and repair.attempts and repair.state not in _WAITS:
        return suspect[repair.svc]
    last = repair.attempts[-FAILURES:]
    return "failures" if len(last) == FAILURES and all(each.verdict in _BAD for each in last) else None


class SecondTier:
    """Ask for diagnoses, one at a time.

    Attributes:
        questions: when the last ones were asked, counted as the fuse counts remedies.
        entries: the last entries of timelines, for the bundles of their incidents.
        counts: the outcome of the questions: `answered`, or the reason why there is no diagnosis.
    """

    def __init__(
        self,
        me: Agent[MedicEnvironment],
        get_ladder: Callable[[str], Iterable[Remedy]],
        log_sources: Sequence[LogSource] = (),
    ) -> None:
        self.questions = Fuse()
        self.counts: Counter[str] = Counter({"answered": 0})
        self.me, self._get_ladder, self._log_sources = me, get_ladder, log_sources
        settings = me.settings
        self._command = shlex.split(settings.medic_diagnosis_command or "")
        self._url = settings.medic_diagnosis_url
        self._redactor = Redactor(list_secrets(os.environ, settings.medic_diagnosis_key))
        self._asking: asyncio.Task[DiagnosisRecord | None] | None = None
        self.entries: deque[TimelineEntry] = deque(maxlen=TIMELINE_KEPT)
        self._logged = set[str]()
        self._chat: ChatClient | None = None

    async def wait(self) -> None:
        """Return when no question is pending."""
        if self._asking is not None:
            await asyncio.wait({self._asking})

    def resume(self, questions: Fuse, now: float) -> None:
        """Go on with the budget that another medic stored."""
        self.questions = questions.shift_to(now)

    def note(self, entries: Iterable[TimelineEntry]) -> None:
        """Keep entries of timelines, for the bundles of their incidents."""
        self.entries.extend(entries)

    def choose(
        self, repairs: Iterable[Repair], suspect: Mapping[str, str], now: float
    ) -> tuple[Repair, str] | None:
        """Return a repair that needs a diagnosis now, with the word for why, and count the question."""
        if self._asking is not None or self.questions.is_due(BUDGET, now):
            return None
        found = ((each, find_reason(each, suspect)) for each in repairs)
        chosen = next(((each, reason) for each, reason in found if reason is not None), None)
        if chosen is not None:
            self.questions = self.questions.add(BUDGET, now)
        return chosen

    def begin(self, repair: Repair, reason: str, facts: FleetFacts, known: DiagnosisEvidence) -> None:
        """Begin to ask for a diagnosis of a repair; `take` returns it later.

        `known` has what the service and the rules say, and what was measured last; the rest is read now.
        """
        self.me.log.info("medic.diagnosis_asked", svc=repair.svc, incident=repair.incident, reason=reason)
        self._asking = asyncio.ensure_future(self._ask(repair, reason, facts, known))

    def take(self) -> DiagnosisRecord | None:
        """Return the diagnosis that was made since the last call; None if there is none."""
        if self._asking is None or not self._asking.done():
            return None
        done, self._asking = self._asking, None
        return done.result()

    async def end(self) -> None:
        """End the pending question, and close the connections."""
        if self._asking is not None:
            asking, self._asking = self._asking, None
            await end_tasks(asking)
        if self._chat is not None:
            chat, self._chat = self._chat, None
            await chat.aclose()

    async def _ask(
        self, repair: Repair, reason: str, facts: FleetFacts, known: DiagnosisEvidence
    ) -> DiagnosisRecord | None:
        """Return the diagnosis; None, counted, if the answer can't be used. `known` was known before."""
        try:
            bundle = await self._make_bundle(repair, reason, facts, known)
            content = await (self._run(bundle) if self._command else self._request(bundle))
            answer = parse_answer(content, repair.svc, self._list_known(repair))
            record = await asyncio.to_thread(self._build_record, answer, repair, reason)
        except BadAnswerError as error:
            self._note_failure(repair, str(error))
        except Exception as error:  # noqa: BLE001 - no defect in what is said of an outage may end the medic
            self._note_failure(repair, type(error).__name__, error)
        else:
            self.counts["answered"] += 1
            self._logged.clear()
            return record
        return None

    def _build_record(self, answer: DiagnosisAnswer, repair: Repair, reason: str) -> DiagnosisRecord:
        """Return an answer as it is stored. Raises BadAnswerError if it is too long for that."""
        is_late = self._begin_to_redact()
        patch = self._redactor.redact_code(answer.patch, is_late)
        try:
            record = DiagnosisRecord(
                svc=repair.svc,
                incident=repair.incident,
                ts=time.time(),
                reason=reason,
                text=self._redactor.redact(answer.text, is_late=is_late),
                remedies=tuple(map(str, answer.remedies)),
                patch=patch,
                altered=answer.is_altered or patch != answer.patch,
                model=self._find_model(),
            )
        except ValueError:  # what was removed can be shorter than the word in its place
            raise BadAnswerError("too_long") from None
        if DiagnosisRecord.parse(record.encode()) is None:
            raise BadAnswerError("too_long")
        return record

    def _find_model(self) -> str:
        """Return the name of what is asked: of the program, or of the endpoint's model."""
        name = Path(self._command[0]).name if self._command else self.me.settings.medic_diagnosis_model
        return escape_text(name)[:MAX_MODEL]

    def _note_failure(self, repair: Repair, why: str, error: Exception | None = None) -> None:
        """Count a question without a usable answer, and log each reason once until one is answered.

        `error` is one of ours.
        """
        self.counts[why] += 1
        if why not in self._logged:
            self._logged.add(why)
            self.me.log.warning(
                "medic.diagnosis_failed", svc=repair.svc, incident=repair.incident, reason=why, exc_info=error
            )

    def _list_known(self, repair: Repair) -> tuple[Remedy, ...]:
        """Return what a diagnosis may propose: the ladder of the truth for this service, or to wait."""
        return (Remedy.WAIT, *self._get_ladder(repair.svc))

    async def _make_bundle(
        self, repair: Repair, reason: str, facts: FleetFacts, known: DiagnosisEvidence
    ) -> bytes:
        """Return the bundle as JSON, with the truths, the logs and the repository read now."""
        folder = self.me.settings.medic_diagnosis_folder
        logs = await read_log_end(self._log_sources, repair.svc, LOG_BYTES, LOG_SEC)
        evidence = replace(
            known,
            timeline=[each for each in self.entries if each.incident == repair.incident],
            changes=await self._read_changes(),
            logs=logs,
            source=await read_source(folder, logs),
            commits=await read_commits(folder),
        )
        # beside the event loop: the lease is renewed on it
        redact = partial(self._redactor.redact, is_late=self._begin_to_redact())
        make = partial(make_bundle, known=self._list_known(repair), redact=redact)
        return await asyncio.to_thread(make, repair, reason, facts, evidence)

    def _begin_to_redact(self) -> Callable[[], bool]:
        """Return what says whether REDACT_SEC are over from now on."""
        until = time.monotonic() + REDACT_SEC
        return lambda: time.monotonic() >= until

    async def _read_changes(self) -> list[str]:
        """Return the difference of the last two truths, a line each."""
        try:
            newest = await read_newest_revisions(self.me.bus(SYSTEM), 2)
            if len(newest) > 1:
                new, old = (parse_truth(each.document).truth for each in newest)
                return list(format_changes(diff_truths(old, new)))
        except (BusError, ValueError):
            return ["the revisions can't be read"]
        return []

    async def _run(self, bundle: bytes) -> bytes:
        """Return what the command writes; it reads the instruction and the bundle. Raises BadAnswerError."""
        body = orjson.dumps({"instruction": INSTRUCTION, "bundle": orjson.Fragment(bundle)})
        within_sec = self.me.settings.medic_diagnosis_sec
        try:
            code, content = await read_command(self._command, within_sec, MAX_ANSWER_BYTES + 1, body)
        except TimeoutError:
            raise BadAnswerError("timeout") from None
        except OSError:
            raise BadAnswerError("not_runnable") from None
        if code != 0:
            raise BadAnswerError(f"exit_{code}" if code > 0 else "signal")
        return content

    async def _request(self, bundle: bytes) -> bytes:
        """Return the text of the endpoint's answer. Raises BadAnswerError."""
        settings = self.me.settings
        question = ChatQuestion(
            model=settings.medic_diagnosis_model, instruction=INSTRUCTION, data=bundle.decode()
        )
        if self._chat is None:
            key = settings.medic_diagnosis_key
            self._chat = ChatClient(self._url or "", key, "medic", max_bytes=MAX_RESPONSE_BYTES)
        try:  # `choose` has counted the question: its budget is stored with the repair, in one write
            content = await self._chat.ask(question, settings.medic_diagnosis_sec)
        except HttpError as error:
            raise BadAnswerError(error.reason) from None
        except ChatStatusError as error:
            raise BadAnswerError(f"http_{error.response.status}") from None
        return content.encode("utf-8", "replace")
