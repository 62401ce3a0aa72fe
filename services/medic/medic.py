"""The work of the one medic that leads: look, decide, store, and only then act."""

import asyncio
import contextlib
import os
import shlex
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from marketswarm.agent import Agent, Lease, LeaseLost
from marketswarm.agent.lease import is_in_time
from marketswarm.bus import BusError
from marketswarm.operator.healing import EntryKind, OutageEvidence, read_forgotten_at
from marketswarm.redactor import list_secrets
from marketswarm.time_slice import wait_until_due
from marketswarm.truth import SYSTEM
from services.medic.command_process import has_group_ended
from services.medic.command_runs import CommandRuns, RunningCommand
from services.medic.diagnosis.bundle import DiagnosisEvidence
from services.medic.diagnosis.outage_evidence import EvidenceCollector
from services.medic.facts import FleetFacts
from services.medic.observer import FleetObserver
from services.medic.owners.log_source import LogSource
from services.medic.owners.owner import ProcessOwner
from services.medic.people import add_people
from services.medic.planner import Planner, RepairPlan
from services.medic.refusal import Refusal
from services.medic.remedies import REMEDIES, OrderResult, Remedy, RemedyContext, RemedyOrder
from services.medic.remedies.evidence import add_evidence
from services.medic.repair import RepairState, find_proposal
from services.medic.rules.fleet import MedicWork
from services.medic.rules.monitor import RuleMonitor
from services.medic.settings import HealingSettings, MedicEnvironment
from services.medic.store import SUPERSEDED, MedicStore

if TYPE_CHECKING:
    from services.medic.diagnosis.second_tier import SecondTier

SHARE_OF_TIME: Final = 10.0
"""A round is followed by a rest of so many times its work, if that is more than `every_sec`."""
LEAST_REST_SEC: Final = 0.2
"""The rest that no alert ends: in a storm of alerts, rounds would follow one another without a pause."""
OLD_FACTS_SEC: Final = 1.0
"""If measuring for the rules took longer, the fleet is observed again before anything is decided."""
STUCK_SEC: Final = 60.0
"""A round that takes longer is one that hangs."""
TOLD_SEC: Final = 60.0
"""How long the beats say that two copies of what the medic goes by did not agree."""
LAST_WRITE_SEC: Final = 2.0
"""How long a medic that stops tries to store that it ended a command."""


def _is_bus_away(error: BaseException, lease: Lease) -> bool:
    """Return True if a term may have ended since the bus is away: commands go on until a medic leads.

    A bus that hangs ends the lease before it raises BusError. The lease of a medic that stood still ended in
    the same way, and another medic may lead since then: see `Medic.give_way`.
    """
    return isinstance(error, BusError) or (isinstance(error, asyncio.CancelledError) and lease.has_lapsed)


class Medic:
    """Heal the fleet while this process leads; `wake` ends the rest between two rounds.

    Attributes:
        second_tier: what is asked for diagnoses; None if nothing is.
        owners: what runs processes here.
        planner: the open repairs and the fuse, as this process knows them.
        facts: what was observed last.
        entries: how many entries were written, by what they say.
        orders: the outcome of orders, by their remedy and result.
        round_sec: the processor time of the last round.
        is_leading: whether this process leads.
        has_dry_run: whether a dry run is running beside it, as far as it knows.
    """

    def __init__(
        self,
        me: Agent[MedicEnvironment],
        get_settings: Callable[[], HealingSettings],
        rules: RuleMonitor,
        second_tier: "SecondTier | None" = None,
        owners: Sequence[ProcessOwner] = (),
        *,
        log_sources: Sequence[LogSource] = (),
    ) -> None:
        self._me, self._get_settings, self.rules = me, get_settings, rules
        self.second_tier = second_tier
        self.has_dry_run = False
        self.planner = Planner(get_settings, is_dry_run=me.settings.medic_dry_run)
        self.owners, self.observer = owners, FleetObserver(me, owners)
        self._evidence = EvidenceCollector(log_sources, list_secrets(os.environ))
        self.facts = FleetFacts()
        self.entries: Counter[str] = Counter(dict.fromkeys(EntryKind, 0))
        self.orders: Counter[tuple[str, str]] = Counter(
            {(remedy, result): 0 for remedy in Remedy if remedy is not Remedy.WAIT for result in OrderResult}
        )
        self.round_sec = self._measuring_sec = 0.0
        self.is_leading = False
        self._is_superseded = False
        self._disagreement, self._told_until = "", float("-inf")
        self._due = asyncio.Event()
        self._looked_at = time.monotonic()
        self._commands = CommandRuns(self._note_ended)

    def wake(self) -> None:
        self._due.set()

    async def lead(self, lease: Lease) -> None:
        """Heal until cancelled. Raises BusError, or LeaseLost once another medic has written."""
        store = MedicStore(self._me.bus(SYSTEM), is_dry_run=self._me.settings.medic_dry_run)
        # a clock that is set must neither end a cooldown nor begin one again; the age of what another process
        # wrote (an approval, an outage) is that by the clock as it is set
        began_at, began = time.time(), time.monotonic()

        def now() -> float:
            return began_at + time.monotonic() - began

        await store.repair_keys()
        try:
            repairs, fuse = await store.load(self._me.truth.services, lease.epoch)
        except LeaseLost:
            self._log_superseded(lease)
            raise
        self._is_superseded = False
        self.planner.resume(repairs, fuse, now())
        await self._follow_record(store)
        self.observer.begin_term()
        self.rules.begin_term(await store.load_observed(now))
        if self.second_tier is not None:
            self.second_tier.resume(await store.load_questions(), now())
        self.is_leading, self._looked_at = True, time.monotonic()
        try:
            while True:
                await self.time_round(store, lease, now)
                self.report_work(now())
                await self.rest()
        except BaseException as error:
            if not _is_bus_away(error, lease):
                await self._break_off(store, lease, now)
            raise
        finally:
            self.is_leading = False
            for owner in self.owners:
                await owner.end()
            if self.second_tier is not None:
                await self.second_tier.end()

    async def rest(self) -> None:
        """Rest until the next round is due, or a new alert comes, but for the least rest in any case."""
        rest_sec = self._find_rest_sec()
        least_sec = min(rest_sec, max(LEAST_REST_SEC, SHARE_OF_TIME * self.round_sec))
        await wait_until_due(self._due, rest_sec, least_sec=least_sec)

    def _find_rest_sec(self) -> float:
        return max(self._get_settings().every_sec, SHARE_OF_TIME * self.round_sec)

    async def time_round(self, store: MedicStore, lease: Lease, now: Callable[[], float]) -> None:
        """Do a round, and note how much it worked. Raises BusError, or LeaseLost.

        Waiting is no work: a process that hangs takes seconds to be ended, and a bus may stand still as long.
        A rest of ten times that would leave the medic blind just when it has something to heal or to verify.
        To measure for the rules, which is not done in each round, does not count either.
        """
        began, self._measuring_sec = time.process_time(), 0.0
        await self.do_round(store, lease, now)
        self.round_sec = time.process_time() - began - self._measuring_sec
        self._looked_at = time.monotonic()

    async def do_round(self, store: MedicStore, lease: Lease, now: Callable[[], float]) -> None:
        """Look, decide, store, and carry out at most one order. Raises BusError, or LeaseLost."""
        settings = self._get_settings()
        facts, looked_at = await self._observe(settings, now)
        context = self._make_context(lease.expires_at)
        facts = await add_evidence(facts, settings, context, time.time())
        self.facts = await add_people(facts, store.bus, self.rules.list_alerts(self.planner.repairs))
        repairs = tuple(self.planner.repairs.values())
        approvals = await store.read_approvals(repairs, time.time(), settings.proposal_sec)
        await self._follow_record(store)
        await self._mend(store, lease)
        await self._follow_commands(store, lease, now)
        rest_sec, running = self._find_rest_sec(), self._commands.runs.keys()
        ended = self._list_ended(running)
        plan = self.planner.tick(
            self.facts, approvals, lease.epoch, looked_at, rest_sec, running=running, ended=ended
        )
        observed = self.rules.take_observed(now())
        evidence = await self._take_evidence(plan)
        await self._save(store, replace(plan, observed=observed, evidence=evidence), lease)
        if plan.order is not None:
            await self._carry_out(plan.order, store, lease, now)
        if self.second_tier is not None:
            await self._diagnose(self.second_tier, store, lease, now)

    async def _carry_out(
        self, order: RemedyOrder, store: MedicStore, lease: Lease, now: Callable[[], float]
    ) -> None:
        """Carry out an order, and store its outcome; only begin it, once that is stored, if it runs apart."""
        kind, context = REMEDIES[order.remedy], self._make_context(lease.expires_at, order.svc)
        if kind.runs_apart and context.command and is_in_time(context.until):
            run = self._commands.register(order, lease.epoch)
            try:
                plan = self.planner.record_begin(order, context.command_sec, now())
                await self._save(store, plan, lease)
            except BaseException:
                run.refuse()  # the bus may have stored that it begins
                raise
            self._commands.begin(run, context)
            await run.started.wait()
            await self._note_process(run, store, lease)
            return
        await self._record(order, await kind.carry_out(order, context), store, lease, now)

    async def _record(
        self,
        order: RemedyOrder,
        outcome: tuple[OrderResult, str],
        store: MedicStore,
        lease: Lease,
        now: Callable[[], float],
    ) -> None:
        result, text = outcome
        await self._save(store, self.planner.record_result(order, result, text, now()), lease)
        self.orders[order.remedy, result] += 1

    async def _follow_commands(self, store: MedicStore, lease: Lease, now: Callable[[], float]) -> None:
        """Store what became of the commands that run apart, and how far they are.

        Kill one whose repair has ended, as that of a service which left the truth, or that another medic has
        given up meanwhile.
        """
        for run in await self._commands.end(lambda run: self.planner.is_running(run.order.svc, run.epoch)):
            self._commands.drop(run)
        for run in self._commands.list_ended():
            await self._record_run(run, store, lease, now)
        for run in tuple(self._commands.runs.values()):
            await self._note_process(run, store, lease)
        for order, text in self._commands.take_notes():
            await self._save(store, self.planner.record_progress(order, text, now()), lease)

    async def _note_process(self, run: RunningCommand, store: MedicStore, lease: Lease) -> None:
        """Store as which process group a command runs, unless that is stored: the next medic looks for it."""
        repair = self.planner.repairs.get(run.order.svc)
        if repair is not None and run.process not in ("", repair.runs_as) and not run.task.done():
            await self._save(store, self.planner.record_process(run.order.svc, run.process), lease)

    def _list_ended(self, running: Collection[str]) -> frozenset[str]:
        """Return the services for which an earlier medic began a command that has ended with it."""
        stored = ((svc, each.runs_as) for svc, each in self.planner.repairs.items() if each.runs_as)
        return frozenset(svc for svc, found in stored if svc not in running and has_group_ended(found))

    async def _record_run(
        self, run: RunningCommand, store: MedicStore, lease: Lease, now: Callable[[], float]
    ) -> None:
        """Store what became of a command; what could not be stored is stored in the next term."""
        await self._record(run.order, run.find_outcome(), store, lease, now)
        self._commands.drop(run)

    async def _break_off(self, store: MedicStore, lease: Lease, now: Callable[[], float]) -> None:
        """Kill the commands that run, and store that they were broken off, unless a newer medic has written.

        If that can't be stored, this medic does so once it leads again; another one waits until the deadline
        of each.
        """
        ended = await self._commands.end()
        with contextlib.suppress(BusError, LeaseLost, TimeoutError):
            async with asyncio.timeout(LAST_WRITE_SEC):
                for run in ended:
                    await self._record_run(run, store, lease, now)

    def give_way(self) -> None:
        """Begin to kill the commands that a term of this medic left, since another medic holds the lease.

        What became of them is stored if this medic leads again, and their repairs are still as it left them.
        """
        if not self.is_leading:  # a term that ends does so itself, and stores it
            self._commands.cancel()

    async def end_commands(self) -> None:
        """Kill the commands that run, also after a term."""
        await self._commands.end()

    def _note_ended(self, run: RunningCommand) -> None:
        """Have the outcome of a command stored soon; log one that was killed."""
        self.wake()
        if run.task.cancelled():
            self._me.log.warning("medic.command_ended", svc=run.order.svc, text=run.find_outcome()[1])

    async def _observe(self, settings: HealingSettings, now: Callable[[], float]) -> tuple[FleetFacts, float]:
        """Return the facts of this round, with what the rules say of them, and of when they are at least.

        An observation after that time verifies a remedy before it. To measure for the rules may take seconds,
        where something does not answer; then the fleet is observed again, so that no remedy is for what was.
        """
        looked_at, rest_sec = now(), self._find_rest_sec()
        facts = await self.observer.observe(settings, looked_at, rest_sec)
        if self.observer.seen is not None:
            began_at, began = now(), time.process_time()
            await self.rules.measure(self.observer.seen, began_at)
            self._measuring_sec = time.process_time() - began
            if now() - began_at > OLD_FACTS_SEC:
                looked_at = now()
                facts = await self.observer.observe(settings, looked_at, rest_sec)
        return self.rules.add_facts(facts, now(), rest_sec), looked_at

    async def _take_evidence(self, plan: RepairPlan) -> tuple[OutageEvidence, ...]:
        """Return the evidence that a plan is to be stored with; none, logged, after an error of ours."""
        try:
            return await self._evidence.collect(plan, self.facts, self.rules.list_resources)
        except Exception as error:  # noqa: BLE001 - the remedy matters more than what is known before it
            self._me.log.warning("medic.evidence_failed", error=type(error).__name__)
            return ()

    async def _follow_record(self, store: MedicStore) -> None:
        """Load the record once a term, and when a person had it forgotten, if something follows from it.

        What this medic adds to the record itself, the planner knows. Raises BusError.
        """
        experience = self.planner.experience
        if not self._get_settings().uses_record or (experience.is_loaded and not self.planner.repairs):
            return
        since = await read_forgotten_at(store.bus)
        if experience.is_loaded:
            experience.forget(since)
        else:
            experience.load(await store.load_record(), since)

    async def _diagnose(
        self, tier: "SecondTier", store: MedicStore, lease: Lease, now: Callable[[], float]
    ) -> None:
        """Store a diagnosis that was made, and ask for the next one, once the question itself is stored."""
        record = tier.take()
        if record is not None:
            remedies = tuple(map(Remedy, record.remedies))
            plan = self.planner.record_diagnosis(record.svc, record.incident, remedies, record.text, now())
            if not plan.is_empty():
                await self._save(store, replace(plan, diagnosis=record), lease)
        if self._get_settings().paused:
            return  # a question sends what is known of an outage to others: it is one of the medic's acts
        suspect = self.rules.find_suspect(self.planner.repairs)
        chosen = tier.choose(self.planner.repairs.values(), suspect, now())
        if chosen is not None:
            repair, reason = chosen
            plan = replace(self.planner.record_question(repair.svc, now()), questions=tier.questions)
            await self._save(store, plan, lease)
            seen, readings = self.observer.seen, self.rules.list_resources(repair.svc)
            beat = None if seen is None else seen.state.beats.get(repair.svc)
            notes = [f"the service says: {beat.detail}"] if beat is not None and beat.detail else []
            notes += [f"rule {name} holds: {why}" for name, why in self.rules.list_holding(repair.svc)]
            tier.begin(repair, reason, self.facts, DiagnosisEvidence(notes=notes, readings=readings))

    def report_work(self, now: float) -> None:
        """Have the rules evaluated that are about the medic's own work, if it is time."""
        settings, repairs = self._get_settings(), self.planner.repairs
        stopped = self.facts.find_refusal(settings.fuse.down_share) if settings.may_do_anything else None
        is_cut_off = any(each.is_cut_off for each in self.facts.targets.values())
        if stopped is None and is_cut_off and settings.may_do_anything:
            stopped = Refusal.CUT_OFF  # for a part of the fleet, which people are to know as well
        if stopped is Refusal.HEALER_ABSENT:
            stopped = None  # people hear it from the sentinel; this word would reach them after its return
        proposed = ((svc, find_proposal(each)) for svc, each in repairs.items())
        work = MedicWork(
            frozenset(svc for svc, each in repairs.items() if each.is_escalated),
            {svc: each for svc, each in proposed if each is not None},
            is_fuse_blown=self.planner.fuse.blown_at is not None,
            stopped=stopped,
        )
        self.rules.report_work(work, self._me.truth, now)

    async def _mend(self, store: MedicStore, lease: Lease) -> None:
        """Write again what the store has otherwise than this medic wrote it, and say so.

        Raises BusError, or LeaseLost if it was a newer medic that wrote it.
        """
        plan = await store.find_changed(lease.epoch)
        if plan is not None:
            await self._write(store, plan, lease)
            services = sorted(plan.repairs)[:5]
            if self._disagree(f"the record of {', '.join(services) or 'the medic'} was changed by others"):
                self._me.log.error("medic.record_changed", services=services, fuse=plan.fuse is not None)

    def _disagree(self, why: str) -> bool:
        """Have the beats say for a while that two copies did not agree; return True if that is news."""
        now = time.monotonic()
        is_news = why != self._disagreement or now >= self._told_until
        self._disagreement, self._told_until = why, now + TOLD_SEC
        return is_news

    async def _write(self, store: MedicStore, plan: RepairPlan, lease: Lease) -> None:
        if not await store.save(plan, lease.epoch):
            self._log_superseded(lease)
            raise LeaseLost(SUPERSEDED)

    async def _save(self, store: MedicStore, plan: RepairPlan, lease: Lease) -> None:
        for svc, reason in plan.contradictions.items():
            if self._disagree(f"nothing is done about {svc}: {reason}"):
                self._me.log.error("medic.decision_dropped", svc=svc, reason=reason)
        if plan.is_empty():
            return
        await self._write(store, plan, lease)
        if self.second_tier is not None:
            self.second_tier.note(plan.entries)
        for entry in plan.entries:
            self.entries[entry.what] += 1
            is_bad = entry.what in (EntryKind.ESCALATED, EntryKind.FAILED, EntryKind.ABANDONED)
            write = self._me.log.warning if is_bad else self._me.log.info
            facts = {"remedy": entry.remedy, "reason": entry.reason, "text": entry.text, "sec": entry.sec}
            told = {name: value for name, value in facts.items() if value not in ("", None)}
            write("medic.entry", svc=entry.svc, incident=entry.incident, what=entry.what, **told)
        if plan.fuse is not None and plan.fuse.blown_at is not None:
            self._me.log.error("medic.fuse_blown", remedies=len(plan.fuse.acted))

    def _log_superseded(self, lease: Lease) -> None:
        """Log once, until a term begins, that the store refuses our lease."""
        if not self._is_superseded:
            self._is_superseded = True
            self._me.log.error("medic.superseded", epoch=lease.epoch)

    def _make_context(self, until: float, svc: str = "") -> RemedyContext:
        """Return what a remedy may use and must keep to for a service.

        `until` is the end of our lease, by its clock.
        """
        me, settings = self._me, self._get_settings()
        command = tuple(shlex.split(me.settings.medic_command or ""))
        return RemedyContext(
            me.truth,
            me.bus,
            self.owners,
            settings,
            command,
            settings.find_command_sec(svc) or me.settings.medic_command_sec,
            me.settings.truth_redis_key,
            {svc: each.down_since for svc, each in self.planner.repairs.items()},
            until,
        )

    # --- for the beats ---

    def find_problem(self) -> str | None:
        """Return why the medic can't work; None if it works, or another one leads."""
        if not self.is_leading:
            return None
        if time.monotonic() - self._looked_at > STUCK_SEC:
            return f"no look at the fleet for {time.monotonic() - self._looked_at:.0f} s"
        return self._disagreement if time.monotonic() < self._told_until else self.observer.problem

    def summarize(self) -> str | None:
        """Return what a person should know, such as `escalated: rss_agg; proposed: mesh`."""
        notes = ["dry run"] if self._me.settings.medic_dry_run else []
        notes += ["a dry run is running beside it"] if self.has_dry_run else []
        if not self.is_leading:
            notes += ["waits for its lease"]
        elif self.planner.fuse.blown_at is not None:
            notes += ["fuse blown: marketswarm medic approve fuse"]
        by_state: dict[str, list[str]] = {}
        for repair in self.planner.repairs.values() if self.is_leading else ():
            by_state.setdefault(repair.state, []).append(repair.svc)
        notes += [
            f"{state}: {', '.join(sorted(by_state[state])[:5])}" for state in RepairState if state in by_state
        ]
        notes += [f"runs: {each}" for each in self._commands.describe()]  # last: what is too long is cut
        return "; ".join(notes) or None
