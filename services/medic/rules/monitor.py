"""Measure, evaluate the rules, and publish those that hold by the one mechanism of outages.

Every medic follows the same targets, so that a standby closes nothing that the leader holds; the one that
leads adds outcomes. An outcome is added while a rule holds and that is not published yet, and once it
provably does not hold any more.

Nothing here knows how the medic decides: `measure` comes before that, and `report_work` after it, with what
the medic says of its own work.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from marketswarm.agent import Agent
from marketswarm.agent.outage_alerts import OutageAlerts
from marketswarm.agent.outage_state import Thresholds
from marketswarm.operator.approval_request import describe_request
from marketswarm.operator.remedies import ARCHIVE, Remedy
from marketswarm.text import escape_text, format_names
from marketswarm.truth import HEALER, MEDIC, Truth
from services.medic.facts import FleetFacts, TargetFacts
from services.medic.metric import (
    CORRUPTION_METRICS,
    FLEET,
    HOST,
    HOST_METRICS,
    PROCESS_METRICS,
    REPAIR_METRICS,
    WORK_METRICS,
    Metric,
    Readings,
)
from services.medic.observer import FleetObservation
from services.medic.owners.log_source import LogSource
from services.medic.owners.owner import ProcessOwner
from services.medic.refusal import Refusal
from services.medic.rule import (
    STOPPED_RULE,
    MonitorRule,
    RuleSeverity,
    list_pairs,
    list_probes_by_service,
)
from services.medic.rules.buses import read_buses
from services.medic.rules.evaluation import RuleEvaluator, RuleFinding
from services.medic.rules.fleet import MedicWork, list_pids, read_fleet, read_work
from services.medic.rules.freshness import forget_ages_on_full_buses, read_ages
from services.medic.rules.host import HostObserver
from services.medic.rules.logs import LogObserver, make_orders
from services.medic.rules.market import read_market
from services.medic.rules.observed_time import ObservedSpans, ObservedTime, Span
from services.medic.rules.probes import ProbeObserver
from services.medic.settings import HealingSettings, MedicEnvironment

DOWN_AFTER: Final = 2
"""The first outcome of an outage says since when the rule is met, the second that it holds."""
QUOTING: Final = frozenset({HEALER, "sentinel", "notifier", MEDIC, "board"})
"""The services whose own logs may quote events of rules: no rule about logs is about them."""
MAX_NOTE_CHARS: Final = 200
LONGEST_GAP_SEC: Final = 60.0
"""If no measurement was made for this long, discard all partial results."""

Pairs = dict[str, tuple[str, MonitorRule]]
"""By the name `<rule>/<subject>`, a subject and a rule."""


class RuleScope:
    """What follows from a truth and the settings alone, and lasts as long as both do.

    Attributes:
        urgent: the rules by which a service is left to people, each with the service.
        probes: by service, the names of massive's targets that depend on it.
        unnoticed_sec: how long all may stand still unnoticed: the longest timeout of a service or bus.
    """

    def __init__(self, truth: Truth, settings: HealingSettings) -> None:
        self.truth, self.settings = truth, settings
        self.pairs: Pairs = list_pairs(settings.rules_in_force(), truth)
        self.urgent = [
            (name, svc)
            for name, (svc, rule) in self.pairs.items()
            if rule.severity is RuleSeverity.EMERGENCY and rule.metric not in REPAIR_METRICS
        ]
        self.probes = list_probes_by_service(truth)
        timeouts = (truth.timeout_of(svc) for svc in truth.services if truth.job_of(svc) is None)
        self.unnoticed_sec = max([truth.bus_timeout_sec(), *timeouts])


class RuleMonitor:
    """Evaluate the rules of the truth.

    Attributes:
        findings: what is known of each rule and subject, by `<rule>/<subject>`.
        holding: those that held when that was last known.
        names: the rules in force.
        alerts: their outages.
    """

    def __init__(
        self,
        me: Agent[MedicEnvironment],
        get_settings: Callable[[], HealingSettings],
        alerts: OutageAlerts,
        owners: Sequence[ProcessOwner] = (),
        log_sources: Sequence[LogSource] = (),
    ) -> None:
        self._me, self._get_settings, self.alerts = me, get_settings, alerts
        self._owners = owners
        self._host, self._probes = HostObserver(), ProbeObserver()
        self._logs = LogObserver(log_sources)
        self._readings: Readings = {}
        self._scope: RuleScope | None = None
        self._evaluator, self._work_evaluator = RuleEvaluator(), RuleEvaluator()
        self._looked_at = self._reported_at = float("-inf")
        self._ahead_sec = 0.0
        self._observed, self._stored_at = ObservedTime(), float("-inf")
        self._work, self._work_readings = MedicWork(), Readings()
        self.findings: dict[str, RuleFinding] = {}
        self._symptoms: dict[str, list[RuleFinding]] = {}
        self.holding: set[str] = set()
        self.names: tuple[str, ...] = ()

    def begin_term(self, observed: Iterable[Span]) -> None:
        """Note that this medic begins to lead, after others that observed the fleet in these times.

        What it found in an earlier term is dropped, since it may have changed, and the stored states of the
        rules are read again. What was measured is kept.
        """
        self.findings, self._symptoms, self.holding = {}, {}, set()
        self.alerts.read_again()
        self._observed.resume(observed, self._find_scope(self._me.truth).unnoticed_sec)
        self._stored_at = float("-inf")

    def take_observed(self, now: float) -> ObservedSpans | None:
        """Return the times that were observed, if it is time to store them."""
        if 0 <= now - self._stored_at < self._get_settings().rules_every_sec:
            return None
        self._stored_at = now
        return ObservedSpans(now, tuple(self._observed.spans))

    def follow(self, truth: Truth) -> None:
        """Follow the subjects of this truth from now on."""
        pairs = self._find_scope(truth).pairs
        self.names = tuple(self._get_settings().rules_in_force())
        thresholds = {
            name: Thresholds(
                DOWN_AFTER,
                1,
                alerts=rule.severity is not RuleSeverity.INFO,
                severity=rule.severity.for_event(),
            )
            for name, (_, rule) in pairs.items()
        }
        self.alerts.follow(thresholds)

    def _find_scope(self, truth: Truth) -> RuleScope:
        settings, known = self._get_settings(), self._scope
        if known is None or known.truth is not truth or known.settings is not settings:
            known = self._scope = RuleScope(truth, settings)
        return known

    async def measure(self, seen: FleetObservation, now: float) -> None:
        """Measure the fleet, and evaluate the rules about it into `findings`, if it is time.

        `now` is in epoch seconds of the medic that leads.
        """
        # a term that began after the clock was set back begins before the last look of the one before
        if 0 <= now - self._looked_at < self._get_settings().rules_every_sec:
            return
        self._looked_at = now
        pairs = self._find_scope(seen.truth).pairs
        # the logs of these have what rules found in logs: it would be found again
        logged = [(svc, rule) for svc, rule in pairs.values() if svc not in QUOTING]
        # at once, for what does not answer takes its time
        host, logs, buses, market, probes, ages, owned = await asyncio.gather(
            self._host.read(list_pids(seen)),
            self._logs.read(make_orders(logged), time.monotonic()),
            read_buses(seen.truth.bus_names(), self._me.bus),
            read_market(seen, self._me.bus),
            self._probes.read(seen, self._me.bus),
            read_ages(pairs.values(), seen, self._me.bus),
            self._measure_owned(seen),
        )
        readings: Readings = {**read_fleet(seen), **host, **logs, **buses, **market, **probes, **ages}
        for metric, values in owned.items():
            readings[metric] = {**readings.get(metric, {}), **values}
        forget_ages_on_full_buses(readings, pairs.values(), seen.truth)
        self._readings = readings
        self._evaluate(self._evaluator, pairs, readings, now)
        frees_connections = Remedy.RECONNECT in self._get_settings().ladder_of(ARCHIVE)
        self._symptoms = find_symptoms(self.findings.values(), frees_connections=frees_connections)

    def report_work(self, work: MedicWork, truth: Truth, now: float) -> None:
        """Evaluate the rules about the medic's own work, if it is time, or its proposals have changed.

        The event of a proposal that another one of the same service replaces ends with this look, and the
        other one begins with the next. `now` is in epoch seconds of the medic that leads.
        """
        before = self._work.proposals
        is_recent = 0 <= now - self._reported_at < self._get_settings().rules_every_sec
        if is_recent and work.proposals == before:
            return
        self._reported_at, self._ahead_sec = now, time.time() - now
        kept = {svc: each for svc, each in work.proposals.items() if before.get(svc, each) == each}
        self._work = replace(work, proposals=kept)
        self._work_readings = read_work(self._work, truth.services)
        self._evaluate(self._work_evaluator, self._find_scope(truth).pairs, self._work_readings, now)

    def _evaluate(self, evaluator: RuleEvaluator, pairs: Pairs, readings: Readings, now: float) -> None:
        """Evaluate the rules about the fleet, or about the medic's own work; log and publish what follows.

        Findings keep the order of all pairs, whichever of the two was evaluated last.
        """
        is_work = evaluator is self._work_evaluator
        own = {name: pair for name, pair in pairs.items() if (pair[1].metric in WORK_METRICS) is is_work}
        found = evaluator.evaluate(own, readings, now, self._find_longest_gap())
        known = self.findings | found
        self.findings = {name: known[name] for name in pairs if name in known}
        self.holding &= self.findings.keys()
        for name, finding in found.items():
            if finding.holds is not None and finding.holds is not (name in self.holding):
                self._log_change(name, finding)
            self._add_outcomes(name, finding, now)

    async def _measure_owned(self, seen: FleetObservation) -> Readings:
        """Measure what owners alone can, of the services that a rule is about; not of one that is silent."""
        in_force = self._get_settings().rules_in_force().values()
        rules = [rule for rule in in_force if rule.metric in PROCESS_METRICS]
        services = {svc for svc in seen.truth.services if any(rule.includes(svc) for rule in rules)}
        readings = Readings()
        answering = [owner for owner in self._owners if owner not in seen.silent_owners]
        for owner in answering if services else ():
            for metric, values in (await owner.measure(services)).items():
                readings.setdefault(metric, {}).update(values)
        return readings

    def _add_outcomes(self, name: str, finding: RuleFinding, now: float) -> None:
        state, ts = self.alerts.states.get(name), time.time()
        is_down = state is not None and state.verdict == "down"
        if finding.holds and not (is_down and state is not None and state.told):
            reason = self._describe(finding)
            for at in (ts - max(0.0, now - finding.since) if finding.since is not None else ts, ts):
                self.alerts.add_outcome(name, max(0.0, at), reason)
        elif finding.holds is False and state is not None and (is_down or state.fails):
            self.alerts.add_outcome(name, ts, None)

    def report_leaderless(self, why: str) -> None:
        """Have people told that no medic leads, by the rule that says that the medic may act on nothing.

        The rules are evaluated by the medic that leads alone, so one that waits says this much, and the next
        one that leads ends it.
        """
        name = f"{STOPPED_RULE}/{FLEET}"
        state = self.alerts.states.get(name)
        if state is None or state.verdict != "down" or not state.told:
            self.alerts.add_outcome(name, time.time(), why)

    def _log_change(self, name: str, finding: RuleFinding) -> None:
        """Log a rule that begins or ends to hold."""
        self.holding ^= {name}
        event = "medic.rule_holds" if finding.holds else "medic.rule_ended"
        self._me.log.info(event, rule=name, severity=finding.rule.severity, why=self._describe(finding))

    def _describe(self, finding: RuleFinding) -> str:
        """Return why a rule holds, with the line of a log, the sources, or what else made it so."""
        rule, words = finding.rule, describe(finding)
        if rule.share_above is not None:
            found = (self._readings | self._work_readings).get(rule.metric, {})
            over = (name for name, value in found.items() if value is not None and rule.is_met_by(value))
            note = escape_text(format_names(sorted(name for name in over if rule.includes(name))))
        elif rule.metric is Metric.STOPPED:
            note = str(self._work.stopped or "")
        elif rule.metric is Metric.PROPOSED:
            proposal = self._work.proposals.get(finding.subject)
            if proposal is None:
                return words
            # its end is by the clock of this term, and people, board and notifier go by the one that is set
            until = proposal.until + self._ahead_sec
            return describe_request(replace(proposal, until=until))
        else:
            note = self._logs.find_note(finding.subject, rule.metric, rule.detail)
        return f"{words}: {note[:MAX_NOTE_CHARS]}" if finding.holds and note else words

    def add_facts(self, facts: FleetFacts, now: float, rest_sec: float = 0.0) -> FleetFacts:
        """Return the facts with what the rules say of each service, after a rest of `rest_sec` was planned.

        What stopped the medic as a whole may have stopped what is measured. So a rule is a symptom if all
        that it goes by was observed (`_is_proven`).
        """
        age_sec, settings = now - self._looked_at, self._get_settings()
        self._observed.note(
            now,
            is_clear=facts.find_refusal(settings.fuse.down_share) is None,
            longest_gap_sec=settings.find_longest_gap(rest_sec),
            unnoticed_sec=self._find_scope(self._me.truth).unnoticed_sec,
        )
        if not 0 <= age_sec <= self._find_longest_gap():
            unknown = {svc: replace(each, is_alerted=None) for svc, each in facts.targets.items()}
            return replace(facts, targets=self._leave_to_people(unknown))
        changed = {
            svc: replace(facts.targets[svc], is_alerted=self._is_alerted(found), alert_age_sec=age_sec)
            for svc, found in self._symptoms.items()
            if svc in facts.targets
        }
        targets = self._leave_to_people({**facts.targets, **changed})
        return replace(facts, targets=targets | self._add_probes(targets))

    def _is_alerted(self, findings: Iterable[RuleFinding]) -> bool | None:
        """Return what rules say of a target; None if that is not known.

        A rule that only holds because the time to clear has not passed is not a symptom, and does not prove
        that there is none.
        """
        if any(each.holds and each.is_met and self._is_proven(each) for each in findings):
            return True
        return None if any(each.holds or each.is_met is not False for each in findings) else False

    def _is_proven(self, finding: RuleFinding) -> bool:
        """Return True if all that makes a rule hold was observed up to the last measurement.

        An age shows by itself since when nothing was written, so as much of that time has to have been
        observed, also by earlier medics, as the rule is about; but not its end, in which all may have stood
        still unnoticed. Any other value is one of its moment: each one was measured since nothing stopped
        this medic.
        """
        begin, end = self._observed.since, self._looked_at
        if begin is None or end < begin:
            return False
        if finding.rule.is_about_age and finding.value is not None:
            begin, end = end - finding.value, end - self._find_scope(self._me.truth).unnoticed_sec
        return self._observed.measure(begin, end) >= finding.rule.proof_sec

    def _leave_to_people(self, targets: Mapping[str, TargetFacts]) -> dict[str, TargetFacts]:
        """Return the targets. Block each one that has an emergency alert which may still be active.

        The alert may be known only from the state that the medics share: this medic has not measured yet, or
        the measurement is missing.
        """
        left = dict[str, TargetFacts]()
        for name, svc in self._find_scope(self._me.truth).urgent:
            target = targets.get(svc)
            if target is not None and self._may_hold(name):
                left[svc] = replace(target, blocked=target.blocked or Refusal.EMERGENCY)
        return {**targets, **left}

    def _may_hold(self, name: str) -> bool:
        """Return False for a rule that provably does not hold, or is not known ever to have held."""
        finding = self.findings.get(name)
        if finding is not None and finding.holds is not None:
            return finding.holds
        state = self.alerts.states.get(name)
        is_told = state is not None and state.verdict == "down"
        return name in self.holding or is_told or not self.alerts.has_read

    def _add_probes(self, targets: Mapping[str, TargetFacts]) -> dict[str, TargetFacts]:
        """Return those targets about which probes say something, with how long ago these began."""
        wall = time.time()
        begun = {
            svc: tuple(wall - ts for name in names for ts in self._probes.list_begun(name))
            for svc, names in self._find_scope(self._me.truth).probes.items()
            if svc in targets
        }
        return {svc: replace(targets[svc], probe_ages=ages) for svc, ages in begun.items() if ages}

    def list_alerts(self, services: Iterable[str]) -> dict[str, list[str]]:
        """Return by service the rules that hold for it, as `<rule>/<subject>`, in order.

        Those about connections to PostgreSQL are archive's. A service without one has an empty list.
        """
        found: dict[str, list[str]] = {svc: [] for svc in services}
        for name in sorted(self.holding & self.findings.keys()):
            finding = self.findings[name]
            svc = ARCHIVE if finding.rule.frees_connections else finding.subject
            if svc in found:
                found[svc].append(name)
        return found

    def find_suspect(self, services: Iterable[str]) -> dict[str, str]:
        """Return those services for which a rule holds that asks for a diagnosis, each with the word why."""
        found: dict[str, str] = {}
        for finding in self.findings.values():
            if finding.holds:
                about = CORRUPTION_METRICS.get(finding.rule.metric, frozenset())
                found |= dict.fromkeys(about, "corruption")
                if finding.rule.metric is Metric.LOG_NEW_ERRORS:
                    found.setdefault(finding.subject, "unknown_errors")
        return {svc: found[svc] for svc in services if svc in found}

    def list_holding(self, svc: str) -> list[tuple[str, str]]:
        """Return the rules that hold for a service, or for other subjects, each with the reason."""
        services = self._me.truth.services
        return [
            (name, describe(finding))
            for name, finding in self.findings.items()
            if finding.holds and (finding.subject == svc or finding.subject not in services)
        ]

    def list_resources(self, svc: str) -> dict[str, float]:
        """Return what was measured last of the processes of a service and of this machine, in percent."""
        subjects = dict.fromkeys(PROCESS_METRICS, svc) | dict.fromkeys(HOST_METRICS, HOST)
        found = {metric: self._readings.get(metric, {}).get(subject) for metric, subject in subjects.items()}
        return {str(metric): value for metric, value in sorted(found.items()) if value is not None}

    def _find_longest_gap(self) -> float:
        return max(LONGEST_GAP_SEC, 3 * self._get_settings().rules_every_sec)


def find_symptoms(
    findings: Iterable[RuleFinding], *, frees_connections: bool
) -> dict[str, list[RuleFinding]]:
    """Return by service the rules by which its target may need a remedy.

    With `frees_connections`, those about connections of the database are archive's, which can free some.
    """
    found: dict[str, list[RuleFinding]] = {}
    for each in findings:
        if each.rule.can_heal:
            found.setdefault(each.subject, []).append(each)
        elif each.rule.frees_connections and frees_connections:
            found.setdefault(ARCHIVE, []).append(each)
    return found


def describe(finding: RuleFinding) -> str:
    """Return why a rule holds: `process_memory 92.5, above 90 for 60 s`."""
    value = "" if finding.value is None else f" {finding.value:.4g}"
    return f"{finding.rule.metric}{value}, {finding.rule.describe()}"
