"""Gather what is not as it should be, a card each: what happened, what the medic does, who was told. Pure.

An outage, a service that is degraded, and a rule of the medic that holds are known to three programs. What is
about the same service is one card.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from marketswarm.agent.outage_state import MONITOR, PROBES, SIGNALS, SOURCES
from marketswarm.operator.healing import FUSE, HealingIncident
from marketswarm.operator.healing_text import HealingStand, describe_measurement, describe_stand
from marketswarm.status.notifications import OpenIncident, describe_hold
from marketswarm.status.service_rows import PAUSED, ServiceState
from marketswarm.text import escape_text
from marketswarm.truth import ESCALATED_RULE, MEDIC, PROPOSED_RULE
from services.board.fleet.incident_record import (
    DownTarget,
    HeldRule,
    HeldRules,
    ProposalView,
    RecordedIncidents,
)
from services.board.fleet.snapshot import FleetSnapshot, IncidentView, ServiceSnapshot
from services.board.fleet.words import Phrase

Sentence = tuple[Phrase, ...]
Notified = Mapping[str, OpenIncident]
"""The outages that the notifier has, by its key for each."""
NOTIFIER: Final = "notifier"
DEGRADED: Final = "degraded"
_OF_STEPS: Final[Mapping[str, str]] = {
    PROPOSED_RULE: "that a remedy is proposed",
    ESCALATED_RULE: "that a person is needed",
}
"""By rule about the medic's own steps, which the card of the outage shows, what its messages say."""
_STATES: Final[Mapping[ServiceState, str]] = {
    ServiceState.FAILED: "its last run failed",
    ServiceState.SILENT: "it is silent for longer than its timeout, and the healer does not evaluate it",
    ServiceState.UNWATCHABLE: "the healer can't watch it",
}
"""What happened to a service that is neither up nor down, by its state."""
_TARGETS: Final[Mapping[str, tuple[str, str, str]]] = {
    PROBES.by: (
        "probing",
        "its probes fail",
        "open its address, and see to what serves it; `marketswarm logs massive` shows the probes",
    ),
    SOURCES.by: (
        "asking",
        "it serves nothing",
        "nothing while another source serves: `marketswarm source status` shows that, and why this one fails",
    ),
    SIGNALS.by: (
        "checking",
        "it fails",
        "read what the operator's page of signals says of it; `marketswarm health signals` shows their state",
    ),
}
"""By the service that asks: in which word, what happened to what it asks, and what a person can do."""


@dataclass(frozen=True, slots=True)
class IncidentCard:
    """One thing that is not as it should be.

    `subject` is a service, or what a rule is about; `state` is the class of its mark, `word` is beside it.
    `what` happened, what the `medic` does, and who was `told` are sentences, of phrases each; `then` is what
    a person can do next. `outage` is there while the service is down and no other one is the cause.
    `incident` is the id of its record, empty without one. `target` is there for what massive, sources
    or signals have down.
    """

    subject: str
    state: str
    word: str
    what: tuple[Sentence, ...]
    medic: Sentence
    then: str
    told: tuple[Sentence, ...]
    service: ServiceSnapshot | None = None
    outage: IncidentView | None = None
    rules: tuple[HeldRule, ...] = ()
    proposal: ProposalView | None = None
    incident: str = ""
    target: DownTarget | None = None

    @property
    def has_failed_run(self) -> bool:
        return self.service is not None and _has_failed_run(self.service)


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is known of one subject: as a service, of its outage, by the medic's record, and by its rules."""

    name: str
    service: ServiceSnapshot | None
    outage: IncidentView | None
    recorded: HealingIncident | None
    proposal: ProposalView | None
    rules: tuple[HeldRule, ...]

    @property
    def is_degraded(self) -> bool:
        return self.service is not None and self.service.status == DEGRADED

    @property
    def is_down(self) -> bool:
        return self.service is not None and self.service.state is ServiceState.DOWN


def make_cards(
    snapshot: FleetSnapshot, record: RecordedIncidents, known: HeldRules, notified: Notified
) -> tuple[IncidentCard, ...]:
    """Return a card for each subject: first the medic that has stopped, then what is down, then the others.

    `known` has the rules that hold, and the pages and sources that are down. What is down because of another
    service is named on the card of that one, unless something waits for a person.
    """
    held: dict[str, list[HeldRule]] = {}
    for rule in known.rules:
        if rule.rule != FUSE:  # the card of the medic says it
            held.setdefault(rule.subject, []).append(rule)
    recorded = {escape_text(each.svc): each for each in reversed(record.incidents) if each.end is None}
    proposals = {each.svc: each for each in record.list_proposals()}
    outages = {each.svc: each for each in snapshot.incidents}
    caused = {svc for each in snapshot.incidents for svc in each.dependants}
    unwell = [
        one.svc
        for one in snapshot.services
        if (one.state in _STATES and one.word != PAUSED) or one.status == DEGRADED
    ]
    cards = [
        _make_card(
            _Subject(
                name,
                snapshot.find(name),
                outages.get(name),
                recorded.get(name),
                proposals.get(name),
                tuple(held.get(name, ())),
            ),
            snapshot,
            notified,
        )
        for name in dict.fromkeys((*outages, *unwell, *recorded, *held))
        if name not in caused or name in proposals
    ]
    shown = [each for each in cards if each.what]
    shown += [_make_target_card(target, snapshot, notified) for target in known.targets]
    fuse = [_make_fuse_card(proposals[""], snapshot, notified)] if "" in proposals else []
    return (*fuse, *sorted(shown, key=lambda each: each.state != "down"))


def _make_card(of: _Subject, snapshot: FleetSnapshot, notified: Notified) -> IncidentCard:
    shown = tuple(each for each in of.rules if each.rule not in _OF_STEPS)
    stand = None if of.recorded is None else describe_stand(of.recorded)
    state, word = _find_mark(of)
    keys = {of.name: ""} | {f"{MONITOR.prefix}{each.name}": _say_rule(each) for each in of.rules}
    known = [notified[key] for key in keys if key in notified]
    acked_by = next((each.acked_by for each in (of.outage, *known) if each is not None and each.acked_by), "")
    return IncidentCard(
        of.name,
        state,
        word,
        (*_list_happened(of), *map(_describe_rule, shown)),
        _describe_medic(of, snapshot.find(MEDIC), stand),
        _find_next(of, stand, escape_text(acked_by or "")),
        _list_told(snapshot, keys, notified, is_down=of.is_down),
        of.service,
        of.outage,
        shown,
        of.proposal,
        "" if of.recorded is None else of.recorded.id,
    )


def _make_target_card(target: DownTarget, snapshot: FleetSnapshot, notified: Notified) -> IncidentCard:
    """Return the card of a page or a source: its program keeps asking, a person repairs the rest."""
    does, what, then = _TARGETS[target.by]
    known, service = notified.get(target.key), snapshot.find(target.by)
    why = f": {target.why}" if target.why else ""
    done = f"{target.by} keeps {does} it"
    if service is not None and service.state is not ServiceState.UP:
        done = f"{target.by} is {service.word}: nobody is {does} it"
    told = _list_told(snapshot, {target.key: ""}, notified, is_down=True)
    if not target.is_alert:
        told = ((Phrase("no one: the truth says that its loss is no alert"),),)
    return IncidentCard(
        target.key,
        "failed",
        "fails",
        (_say_since(f"{what}{why}", target.since),),
        (Phrase(done),),
        f"nothing: {escape_text(known.acked_by)} sees to it"
        if known is not None and known.acked_by
        else then,
        told,
        target=target,
    )


def _make_fuse_card(fuse: ProposalView, snapshot: FleetSnapshot, notified: Notified) -> IncidentCard:
    what = ((Phrase("it applied too many remedies in a short time, at", fuse.since),),)
    told = _list_told(snapshot, {f"{MONITOR.prefix}{FUSE}/fleet": ""}, notified, is_down=True)
    return IncidentCard(
        MEDIC,
        "down",
        "has stopped",
        what,
        (Phrase("The medic does nothing to any service until a person lets it continue"),),
        "find out why so much was needed, and let it continue",
        told,
        snapshot.find(MEDIC),
        proposal=fuse,
    )


def _find_mark(of: _Subject) -> tuple[str, str]:
    """Return the class of the mark of a card, and the word beside it."""
    state = None if of.service is None else of.service.state
    if state is not None and (state is ServiceState.DOWN or state in _STATES):
        return str(state), str(state)
    if of.is_degraded or of.rules:
        return "silent", DEGRADED if of.is_degraded else "a rule holds"
    return ("up", "up again") if state is ServiceState.UP else ("unknown", "on record")


def _list_happened(of: _Subject) -> list[Sentence]:
    """Return what happened to a service, without what its rules say."""
    one = of.service
    if one is not None and of.is_down:
        since = Phrase(one.outage or "down", one.outage_at)
        return [(since, Phrase(one.failure)) if one.failure else (since,)]
    found: list[Sentence] = []
    if one is not None and one.state in _STATES:
        run = one.last_run
        found.append((Phrase(f"{_STATES[one.state]}{f': {run.text}' if run and run.text else ''}"),))
    if one is not None and of.is_degraded:
        found.append((Phrase(f"it says: {one.detail}" if one.detail else "it says that it is degraded"),))
    if not found and of.recorded is not None:
        found.append((Phrase("its outage began at", of.recorded.opened_at),))
    return found


def _describe_rule(rule: HeldRule) -> Sentence:
    """Return `rule memory: the memory that it uses: 91 %, above 80 for 300 s, since 12:00`."""
    why = f": {describe_measurement(rule.why)}" if rule.why else ""
    return _say_since(f"rule {rule.rule}{why}", rule.since)


def _say_since(text: str, at: float | None) -> Sentence:
    return (Phrase(text if at is None else f"{text}, since", at),)


def _say_rule(rule: HeldRule) -> str:
    return _OF_STEPS.get(rule.rule, f"rule {rule.rule}")


def _describe_medic(of: _Subject, medic: ServiceSnapshot | None, stand: HealingStand | None) -> Sentence:
    if medic is None:
        return (Phrase("This fleet has no medic: nothing is done about it by itself"),)
    said = "" if stand is None else escape_text(stand.text)
    if medic.state is not ServiceState.UP:
        last = () if stand is None else (Phrase(f"the last that it wrote: {said}, at", stand.at),)
        return (Phrase(f"The medic is {medic.state}: nothing is done about it by itself"), *last)
    if stand is not None:
        return (Phrase(f"{said}, since", stand.at),)
    if of.is_down or of.is_degraded:
        return (Phrase("The medic has not taken it up yet: it waits whether that passes"),)
    if of.rules:
        return (Phrase("The medic has people told of it, and does nothing else"),)
    return (Phrase("Nothing: the medic acts on what is down, is degraded, or has a critical rule"),)


def _find_next(of: _Subject, stand: HealingStand | None, acked_by: str) -> str:
    """Return what a person can do; commands stand in backticks."""
    if acked_by and not (stand is not None and stand.needs_person):
        return f"nothing: {acked_by} sees to it"
    if of.service is not None and _has_failed_run(of.service):
        number = 1 if of.service.running_since is None else 2  # the first one runs now
        look = f"read what its last run wrote: `marketswarm runs {of.name} --output {number}`"
        return f"{look}; then {escape_text(stand.next if stand else '') or 'let it run again'}"
    if stand is not None:
        return escape_text(stand.next) or "nothing yet: the medic is at it"
    if of.service is None:
        return "see to what the rule names"
    look = f"`marketswarm logs {of.name}` shows what it logged"
    return f"{look}; then start it again" if of.is_down else look


def _has_failed_run(one: ServiceSnapshot) -> bool:
    """Return True if a run of a command has failed, and that is what is wrong."""
    is_wrong = one.state is ServiceState.FAILED or one.failure is not None
    return is_wrong and one.last_run is not None and not one.last_run.ok


def _list_told(
    snapshot: FleetSnapshot, keys: Mapping[str, str], notified: Notified, *, is_down: bool
) -> tuple[Sentence, ...]:
    """Return who was told, a sentence for each key of the notifier's: `keys` has what its messages say."""
    found = tuple(
        _describe_told(notified[key], about, snapshot) for key, about in keys.items() if key in notified
    )
    if found:
        return found
    if snapshot.find(NOTIFIER) is None:
        return ((Phrase("no one: this fleet has no notifier"),),)
    if snapshot.channels is not None and not snapshot.channels:
        return ((Phrase("no one: no channel is open"),),)
    return ((Phrase("no one yet" if is_down else "no one: only an outage or a rule sends a message"),),)


def _describe_told(known: OpenIncident, about: str, snapshot: FleetSnapshot) -> Sentence:
    head = f"{about}: " if about else ""
    acked = (Phrase(f"acknowledged by {escape_text(known.acked_by)}"),) if known.acked_by else ()
    if known.told_at is not None:
        channels = escape_text(", ".join(known.channels)) or "a channel"
        more = [
            f"{count} {word}{'' if count == 1 else 's'}"
            for count, word in ((known.reminded, "reminder"), (known.escalated, "escalation"))
            if count
        ]
        again = (Phrase(f"then {', '.join(more)}"),) if more else ()
        return (Phrase(f"{head}{channels}, at", known.told_at), *again, *acked)
    if known.held:
        until = "" if known.held_until is None else " until"
        return (Phrase(f"{head}{escape_text(describe_hold(known.held))}{until}", known.held_until), *acked)
    if snapshot.channels is not None and not snapshot.channels:
        return (Phrase(f"{head}no one: no channel is open"), *acked)
    return (Phrase(f"{head}no one yet: the message is on its way"), *acked)


def write_summary(cards: Iterable[IncidentCard], snapshot: FleetSnapshot) -> str:
    """Return `1 of 9 down, 2 not as they should be, 1 waits for your approval`."""
    cards = tuple(cards)
    down, total = snapshot.counts()[ServiceState.DOWN], len(snapshot.services)
    others = sum(each.state != "down" for each in cards)
    waits = sum(each.proposal is not None for each in cards)
    parts = [
        f"{down} of {total} down" if down else f"none of {total} down",
        f"{others} not as {'it' if others == 1 else 'they'} should be" if others else "",
        f"{waits} {'waits' if waits == 1 else 'wait'} for your approval" if waits else "",
    ]
    return ", ".join(filter(None, parts))
