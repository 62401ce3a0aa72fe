"""Implement `marketswarm incidents`, `incident`, `medic status`, `medic report` and `medic approve`."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from marketswarm.agent.outage_state import OutageState, parse_state
from marketswarm.beat import Beat, parse_beat
from marketswarm.bus.stored_values import read_strings
from marketswarm.cli import output, tables
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.fleet_view import FleetView, ask_fleet
from marketswarm.cli.health import select_services
from marketswarm.cli.local_time import format_date, format_moment, format_time
from marketswarm.cli.options import By, Data, Json, argument, author_name, option
from marketswarm.exit import Mistake
from marketswarm.keys import (
    ALERTS,
    MEDIC_EVIDENCE,
    MEDIC_INCIDENTS,
    MEDIC_OUTAGES,
    dry_run_key,
    last_beat_key,
)
from marketswarm.operator.healing import (
    ENTRIES_KEPT,
    FUSE,
    LEARNING,
    DiagnosisRecord,
    HealingApproval,
    HealingIncident,
    OutageEvidence,
    TimelineEntry,
    find_diagnosis,
    fold_incidents,
    read_diagnosis,
    read_evidence,
    read_forgotten_at,
    read_timeline,
    write_approval,
)
from marketswarm.operator.healing_stats import ApprovalStats
from marketswarm.operator.healing_text import (
    describe_reason,
    describe_refusal,
    describe_remedy,
    describe_resolution,
)
from marketswarm.packed_log import unpack_log
from marketswarm.text import escape_text, format_duration, format_names
from marketswarm.truth import ESCALATED_RULE, MEDIC, PROPOSED_RULE, SYSTEM, Truth, suggest_name
from services.medic.experience import Experience
from services.medic.guards import Fuse, find_mode
from services.medic.learning import ENOUGH, Lesson, Treatment
from services.medic.remedies import REMEDIES, Remedy
from services.medic.repair import Repair, RepairState, find_proposal
from services.medic.report import HealingReport, OutagePattern, make_report
from services.medic.settings import HealingSettings, MedicSettings, Mode
from services.medic.store import read_state

T = TypeVar("T")

_MOST: Final = 1000
DAY_SEC: Final = 86_400.0
PATTERNS_SHOWN: Final = 20
"""How many services and symptoms `medic report` shows; `--json` has all."""
LESSONS_SHOWN: Final = 20
"""How many treatments, and how many remedies that were approved, `medic status` shows; `--json` has all."""
# a backslash of the text would take away that of the next sign
_MARKS: Final = re.compile(r"[\\|<\[\]`]|!(?=\[)")
_LINKS: Final = re.compile(
    r"(?<=:)(?=//)|(?i:(?<=\bwww)(?=\.)|(?<=\bmailto)(?=:)|(?<=\bxmpp)(?=:)|(?<=\bgh-)(?=\d))|(?<=[@#!&])(?=\w)"
)
"""Where a forge sees a link, a mention or a number of an issue, of which Markdown knows no escape."""
_JOINER: Final = "<!-- -->"
"""A comment: it is not shown, and what is before and after it are two texts."""

Ident = Annotated[str, argument("ID", "Which, as `marketswarm incidents` shows it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="What a medic in a dry run would have done.")]


@dataclass(frozen=True, slots=True)
class _Status:
    """What `medic status` shows.

    `holding` are the rules that hold, by `<rule>/<subject>`. `said` is what the last beat of the medic says,
    such as that a dry run is running; None if it says nothing. `lessons` are what the record teaches, the
    treatments that were tried most first, `decisions` what follows from it, and `approvals` the outcome of
    what people approved, each with the present mode.
    """

    truth: Truth
    settings: HealingSettings
    repairs: Sequence[Repair]
    fuse: Fuse
    holding: Mapping[str, OutageState]
    said: str | None
    lessons: Sequence[Lesson]
    decisions: Mapping[Treatment, str]
    approvals: Sequence[tuple[ApprovalStats, str | None]]


def incidents(
    svc: Annotated[str | None, option("--svc", "SVC", "Of this service only.")] = None,
    count: Annotated[int, option("--count", "20", "How many, from the newest.", min=1, max=_MOST)] = 20,
    is_dry_run: DryRun = False,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """List the outages that the medic has on record, the one that changed last first."""
    found = [each for each in _read_incidents(data, svc, is_dry_run=is_dry_run) if svc in (None, each.svc)]
    found = found[:count]
    now = time.time()
    columns: dict[str, Callable[[HealingIncident], str]] = {
        "id": lambda each: each.id,
        "service": lambda each: each.svc,
        "opened": lambda each: format_moment(each.opened_at, now),
        "state": lambda each: describe_resolution(each.resolution),
        "took": lambda each: _format_sec(None if each.end is None else each.end.sec),
        "remedies": lambda each: ", ".join(each.remedies()),
    }
    tables.show(
        found,
        columns,
        whole=columns.keys() - {"remedies"},
        as_json=as_json,
        encode=_to_json,
        empty="no incident is on record" if svc is None else f"no incident of {svc} is on record",
        hint=f"{suggest_command('incident ID', data)} shows one",
    )


def incident(ident: Ident, is_dry_run: DryRun = False, as_json: Json = False, data: Data = DATA) -> None:
    """Show one outage as a post-mortem in Markdown: what happened, what was done, how it ended."""
    known = _read_incidents(data, is_dry_run=is_dry_run)
    found = next((each for each in known if each.id == ident), None)
    if found is None:
        hint = suggest_name(ident, [each.id for each in known], "`marketswarm incidents` lists them:")
        raise Mistake(f"no incident {ident} is on record; {hint}")
    evidence, diagnosis = ask_fleet(data, lambda fleet: _read_records(fleet, found, is_dry_run))
    if as_json:
        records = {
            "evidence": evidence
            and {
                **{name: value for name, value in asdict(evidence).items() if name != "packed_log"},
                "log": unpack_log(evidence.packed_log),
            },
            "diagnosis": diagnosis and asdict(diagnosis),
        }
        output.print_json({**_to_json(found), **records})
        return
    lines = [*format_post_mortem(found), *format_evidence(evidence), *format_diagnosis(diagnosis)]
    output.print_lines(lines)


def status(as_json: Json = False, data: Data = DATA) -> None:
    """Show what waits for a person, what the medic works on and may do, and the rules that hold."""
    found, now = ask_fleet(data, _read_status), time.time()
    summary = write_summary(found.settings, found.repairs, found.fuse, list(found.holding))
    if as_json:
        output.print_json(_status_to_json(found, summary))
        return
    output.print_line(escape_text(summary))
    for each in found.repairs:
        if (proposal := find_proposal(each)) is not None:
            approve = suggest_command(f"{MEDIC} approve {proposal.ident}", data)
            output.print_line(f"{approve} approves for {each.svc}: {escape_text(proposal.remedy)}")
    if found.fuse.blown_at is not None:
        why = f"{len(found.fuse.acted)} remedies in a short time"
        approve = suggest_command(f"{MEDIC} approve {FUSE}", data)
        moment = format_moment(found.fuse.blown_at, now)
        output.print_line(f"stopped at {moment} after {why}; {approve} lets it continue")
    targets = found.settings.targets.items()
    own = ", ".join(f"{svc} {target.mode}" for svc, target in targets if target.mode is not None)
    paused = "; paused" * found.settings.paused
    output.print_line(f"mode {found.settings.mode}" + (f"; {own}" if own else "") + paused)
    if found.said is not None:
        output.print_line(f"its last beat says: {escape_text(found.said)}")
    repairs: dict[str, Callable[[Repair], str]] = {
        "service": lambda each: each.svc,
        "down since": lambda each: format_moment(each.down_since, now),
        "attempts": lambda each: str(each.count_remedies()),
        "incident": lambda each: each.incident,
        "what the medic does": describe_state,
    }
    _show_any(found.repairs, repairs, folded="what the medic does")
    holding: dict[str, Callable[[tuple[str, OutageState]], str]] = {
        "rule": lambda held: held[0],
        "holds since": lambda held: "" if held[1].since is None else format_moment(held[1].since, now),
        "why": lambda held: held[1].error or "",
    }
    _show_any(list(found.holding.items()), holding, folded="why")
    _print_experience(found)


def write_summary(
    settings: HealingSettings, repairs: Sequence[Repair], fuse: Fuse, rules: Sequence[str]
) -> str:
    """Return the one line that matters: what waits for a person, what the medic does, or that all is well.

    `rules` are those that hold, as `<rule>/<subject>`.
    """
    asks = [each.svc for each in repairs if find_proposal(each) is not None]
    lost = [each.svc for each in repairs if each.state is RepairState.ESCALATED and each.svc not in asks]
    left = [
        f"{each.svc} ({describe_refusal(each.refusal)})"
        for each in repairs
        if each.refusal is not None and each.svc not in (*asks, *lost)
    ]
    named = {*asks, *lost}
    works = [each.svc for each in repairs if each.refusal is None and each.svc not in named]
    others = [name for name in rules if name.partition("/")[0] not in (PROPOSED_RULE, ESCALATED_RULE)]
    parts = [
        "the medic has stopped, and waits for you" if fuse.blown_at is not None else "",
        "the medic is paused" if settings.paused and not repairs else "",
        f"waits for your approval: {format_names(asks)}" if asks else "",
        f"needs you: {format_names(lost)}" if lost else "",
        f"nothing is done about {format_names(left)}" if left else "",
        f"the medic works on {format_names(works)}" if works else "",
        f"{'rule holds' if len(others) == 1 else 'rules hold'}: {format_names(others)}" if others else "",
    ]
    return "; ".join(filter(None, parts)) or "all is well: no outage is open, and no rule holds"


def describe_state(repair: Repair) -> str:
    """Return what the medic does about an outage now, or why it does nothing, in words."""
    if repair.refusal is not None:
        return f"nothing: {describe_refusal(repair.refusal)}"
    last = describe_remedy(repair.attempts[-1].remedy) if repair.attempts else ""
    words: Mapping[RepairState, str] = {
        RepairState.PROPOSED: f"proposes: {describe_remedy(repair.proposed or '')}",
        RepairState.WAITING: "waits whether it heals by itself",
        RepairState.INTENDED: f"is about to: {last}",
        RepairState.SETTLING: f"did: {last}; whether that helps shows soon",
        RepairState.STABILIZING: "it is up again; watches whether it stays so",
        RepairState.ESCALATED: "nothing more: a person is needed",
    }
    return words.get(repair.state, "decides what to do")


def _print_experience(found: _Status) -> None:
    """Print what the record teaches of the services of the truth, and of all together."""
    services = found.truth.services
    lessons = [each for each in found.lessons if each.treatment.svc in ("", *services)]
    if lessons:
        _print_lessons(lessons[:LESSONS_SHOWN], found.decisions)
    if found.decisions and not found.settings.learning:
        output.print_line("learning is off: every remedy is tried, in the order of its cost")
    columns: dict[str, Callable[[tuple[ApprovalStats, str | None]], str]] = {
        "approved": lambda row: row[0].remedy,
        "service": lambda row: row[0].svc,
        "helped": lambda row: str(row[0].helped),
        "failed": lambda row: str(row[0].failed),
        "in a row": lambda row: str(row[0].in_a_row),
        "mode": lambda row: row[1] or "",
    }
    _show_any([row for row in found.approvals if row[0].svc in services][:LESSONS_SHOWN], columns)


def _status_to_json(found: _Status, summary: str) -> dict[str, Any]:
    return {
        **output.pick(found.settings, "mode", "paused"),
        "fuse_blown_at": found.fuse.blown_at,
        "said": found.said,
        "summary": summary,
        "repairs": [_repair_to_json(each) for each in found.repairs],
        "rules": [
            {"rule": name, "since": each.since, "why": each.error} for name, each in found.holding.items()
        ],
        "learning": found.settings.learning,
        "lessons": [_lesson_to_json(each, found.decisions) for each in found.lessons],
        "approvals": [{**asdict(each), "mode": mode} for each, mode in found.approvals],
    }


def report(
    days: Annotated[int, option("--days", "7", "The days until now that are summed up.", min=1, max=366)] = 7,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Sum up the outages of a week: how many were healed, how long they took, and what helped."""
    now = time.time()
    entries, unusable = ask_fleet(data, _read_entries)
    # a record with fewer entries than it may have was never trimmed
    oldest = entries[0].ts if entries and len(entries) + unusable >= ENTRIES_KEPT else None
    found = make_report(fold_incidents(entries), now - days * DAY_SEC, oldest)
    if as_json:
        lessons = [_lesson_to_json(each) for each in found.remedies]
        output.print_json({**asdict(found), "remedies": lessons})
        return
    _warn_of_unusable(unusable)
    output.print_lines(format_report(found, days, now))
    columns: dict[str, Callable[[OutagePattern], str]] = {
        "service": lambda each: each.svc,
        "symptom": lambda each: each.symptom,
        "outages": lambda each: str(each.outages),
        "healed": lambda each: str(each.healed),
        "escalated": lambda each: str(each.escalated),
        "median": lambda each: _format_sec(each.resolution_time_median_seconds),
    }
    _show_any(found.patterns[:PATTERNS_SHOWN], columns)
    if found.remedies:
        _print_lessons(found.remedies)


def format_report(found: HealingReport, days: int, now: float) -> list[str]:
    """Return the lines of a report that stand above its tables."""
    outages = "1 outage" if found.outages == 1 else f"{found.outages} outages"
    lines = [f"{outages} in {days} days, {found.ended} of them over"]
    if found.ended:
        ways = (f"{escape_text(how)} {count / found.ended:.0%}" for how, count in found.resolutions.items())
        lines.append(f"of the ended outages: {', '.join(ways)}")
    if found.share_escalated is not None:
        lines.append(f"escalated: {found.share_escalated:.0%} of all")
    times = found.resolution_time_median_seconds, found.resolution_time_p95_seconds
    if None not in times:
        median, p95 = map(_format_sec, times)
        lines.append(f"time until up: {median} (median), {p95} (95 % took no longer)")
    if found.without_beginning:
        lines.append(f"{found.without_beginning} more are on record without their beginning")
    if found.complete_since is not None:
        begins = format_moment(found.complete_since, now)
        lines.append(f"the record begins at {begins}: what was before is lost")
    return lines


def approve(
    ident: Annotated[str, argument("ID", "The proposal, as `marketswarm medic status` shows it.")],
    by: By = None,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Have a proposal carried out, once; `fuse` lets the medic continue after too many remedies.

    JSON has the `id`, the `svc` that it is about (null for `fuse`), and `by` whom it was approved.
    """
    author = author_name(by)
    svc = ask_fleet(data, lambda fleet: _approve(fleet, ident, author))
    if as_json:
        output.print_json({"id": ident, "svc": svc or None, "by": author})
        return
    output.print_line(f"approved: {svc}" if svc else "approved: the medic continues")


def forget(by: By = None, data: Data = DATA) -> None:
    """Delete what the medic has learned. Earlier incidents no longer count."""
    author = author_name(by)
    ask_fleet(data, lambda fleet: _forget(fleet, author))
    output.print_line("forgotten: earlier incidents no longer count")


async def _forget(fleet: FleetView, author: str) -> None:
    _find_settings(fleet)
    await write_approval(fleet.bus(SYSTEM), HealingApproval(id=LEARNING, by=author, ts=time.time()))


def find_present_mode(
    settings: HealingSettings, experience: Experience, approved: ApprovalStats
) -> str | None:
    """Return `act`, or `earned: propose, 3 of 5` for a mode that is to be earned; None if it is not known."""
    if approved.remedy not in REMEDIES:
        return None
    of = approved.svc, Remedy(approved.remedy)
    mode, present = settings.mode_of(*of), find_mode(settings, experience, *of)
    if mode is not Mode.EARNED:
        return mode
    missing = "" if present is Mode.ACT else f", {approved.in_a_row} of {settings.earn_after}"
    return f"{mode}: {present}{missing}"


def _read_incidents(data: Path, svc: str | None = None, *, is_dry_run: bool) -> list[HealingIncident]:
    entries, unusable = ask_fleet(data, lambda fleet: _read_entries(fleet, svc, is_dry_run=is_dry_run))
    _warn_of_unusable(unusable)
    return fold_incidents(entries)


async def _read_entries(
    fleet: FleetView, svc: str | None = None, *, is_dry_run: bool = False
) -> tuple[list[TimelineEntry], int]:
    """Return the whole record, and how many of its entries can't be used.

    Raises Exit, also if neither the record nor the truth has the service `svc`.
    """
    stream = dry_run_key(MEDIC_INCIDENTS) if is_dry_run else MEDIC_INCIDENTS
    entries, unusable = await read_timeline(fleet.bus(SYSTEM), stream=stream)
    if svc is not None and fleet.found is not None and all(each.svc != svc for each in entries):
        select_services(svc, fleet)
    return entries, unusable


def _warn_of_unusable(count: int) -> None:
    if count:
        output.print_line(f"{count} entries could not be read", output.YELLOW)


async def _read_records(
    fleet: FleetView, incident: HealingIncident, is_dry_run: bool
) -> tuple[OutageEvidence | None, DiagnosisRecord | None]:
    """Return the evidence and the diagnosis of an incident; None for what there is not, or not any more.

    Raises Exit.
    """
    bus = fleet.bus(SYSTEM)
    if is_dry_run:  # which asks for no diagnosis
        return await read_evidence(bus, incident.id, dry_run_key(MEDIC_EVIDENCE)), None
    diagnosis = await read_diagnosis(bus, incident.svc, incident.id) or await find_diagnosis(bus, incident.id)
    return await read_evidence(bus, incident.id), diagnosis


async def _read_status(fleet: FleetView) -> _Status:
    """Read the state of the medic, the rules that hold, and the record. Raises Exit."""
    truth, system, experience = fleet.truth, fleet.bus(SYSTEM), Experience()
    settings = _find_settings(fleet)
    repairs, fuse, _ = await read_state(system, truth.services)
    bus = fleet.bus(truth.alert_target(ALERTS)[0])
    stored = await bus.ask(bus.client.hgetall(MEDIC_OUTAGES))
    entries, unusable = await read_timeline(system)
    experience.load(entries, await read_forgotten_at(system))
    (raw,) = await read_strings(fleet.bus(truth.bus_of(MEDIC)), [last_beat_key(MEDIC)])
    beat = None if raw is None else parse_beat(raw, MEDIC)
    said = beat.detail if isinstance(beat, Beat) else None
    _warn_of_unusable(unusable)
    states = {name.decode("utf-8", "replace"): parse_state(raw) for name, raw in sorted(stored.items())}
    return _Status(
        truth,
        settings,
        repairs,
        fuse,
        {name: state for name, state in states.items() if state.verdict == "down"},
        said,
        sorted(experience.list_lessons(), key=lambda each: -each.posterior.attempts),
        experience.list_decisions(settings.ladder_of),
        [(each, find_present_mode(settings, experience, each)) for each in experience.list_approvals()],
    )


async def _approve(fleet: FleetView, ident: str, author: str) -> str:
    """Write an approval; return the service that it is about, empty for the fuse. Raises Exit."""
    _find_settings(fleet)
    bus = fleet.bus(SYSTEM)
    repairs, fuse, _ = await read_state(bus, fleet.truth.services)
    waiting = {found.ident: each.svc for each in repairs if (found := find_proposal(each)) is not None}
    waiting |= {FUSE: ""} if fuse.blown_at is not None else {}
    if ident not in waiting:
        hint = suggest_name(ident, waiting, "those that wait, as `marketswarm medic status` shows them:")
        raise Mistake(f"{ident} waits for no one; {hint}")
    await write_approval(bus, HealingApproval(id=ident, by=author, ts=time.time()))
    return waiting[ident]


def _find_settings(fleet: FleetView) -> HealingSettings:
    section = fleet.require_section(MEDIC, ": no outage is on record")
    return MedicSettings.model_validate({"settings": section.settings}).settings


def format_post_mortem(found: HealingIncident) -> list[str]:
    """Return the lines of a post-mortem in Markdown; foreign text in it is escaped."""
    end, first = found.end, found.timeline[0]
    took = format_duration(end.sec) if end is not None and end.sec is not None else "not known"
    tried = ", ".join(found.remedies()) or "none by the medic"
    return [
        f"# {_escape_cell(found.svc)}: {_escape_cell(found.symptom or 'outage')}",
        "",
        f"- id: `{_escape_cell(found.id)}`",
        f"- opened: {format_date(first.ts, 0.0)}{format_time(first.ts)}",
        f"- resolution: {_escape_cell(describe_resolution(found.resolution))}",
        f"- time to resolve: {took}",
        f"- remedies: {_escape_cell(tried)}",
        "",
        "| time | what | why | took |",
        "| --- | --- | --- | --- |",
        *map(_format_row, found.timeline),
    ]


def format_evidence(evidence: OutageEvidence | None) -> list[str]:
    """Return the lines of evidence in Markdown; foreign text in it is escaped, a log is a block of code."""
    if evidence is None:
        return []
    found = [(name, value) for name, value in evidence.facts.items() if value not in (None, "")]
    told = [(name, f"{value:.4g}" if type(value) is float else str(value)) for name, value in found]
    told += [(name, f"{value:.3g} %") for name, value in evidence.readings.items()]
    lines = ["", f"## Evidence of `{_escape_cell(evidence.step)}`, at {format_time(evidence.ts)}", ""]
    lines += [f"- {_escape_cell(name)}: {_escape_cell(value)}" for name, value in told]
    log_lines = unpack_log(evidence.packed_log)
    if log_lines:
        lines += [f"- the last {len(log_lines)} lines of its log:", ""]
        lines += [f"      {escape_text(line)}" for line in log_lines]
    return lines


def format_diagnosis(record: DiagnosisRecord | None) -> list[str]:
    """Return the lines of a diagnosis in Markdown; its text and patch are not trusted, and blocks of code."""
    if record is None:
        return []
    advised = ", ".join(record.remedies) or "none"
    lines = [
        "",
        f"## Diagnosis ({_escape_cell(record.reason)})",
        "",
        *(f"    {escape_text(line)}" for line in record.text.splitlines()),
        "",
        f"- advised: {_escape_cell(advised)}",
    ]
    if record.patch:
        altered = ", and from which something was removed" if record.altered else ""
        lines += [f"- a patch, which nothing applies{altered}:", ""]
        lines += [f"      {escape_text(line)}" for line in record.patch.splitlines()]
    return lines


def _format_row(entry: TimelineEntry) -> str:
    what = " ".join(filter(None, (entry.what, entry.remedy)))
    why = ": ".join(filter(None, (describe_reason(entry), entry.text)))
    took = "" if entry.sec is None else f"{entry.sec:.1f} s"
    return f"| {format_time(entry.ts)} | {_escape_cell(what)} | {_escape_cell(why)} | {took} |"


def _escape_cell(text: str) -> str:
    """Return a foreign text that ends no cell of a Markdown table, and is no image, link, mention or code."""
    return _LINKS.sub(_JOINER, escape_text(_MARKS.sub(r"\\\g<0>", text)))


def _format_sec(sec: float | None) -> str:
    return "" if sec is None else format_duration(sec)


def _show_any(rows: Sequence[T], columns: Mapping[str, Callable[[T], str]], *, folded: str = "") -> None:
    """Show rows as a table, in which one column may be folded; nothing without rows."""
    if rows:
        tables.show(rows, columns, whole=columns.keys() - {folded})


def _print_lessons(lessons: Sequence[Lesson], decisions: Mapping[Treatment, str] | None = None) -> None:
    columns: dict[str, Callable[[Lesson], str]] = {
        "against": lambda each: each.treatment.symptom,
        "remedy": lambda each: each.treatment.remedy,
        "service": lambda each: each.treatment.svc or "all",
        "helped": lambda each: f"{each.posterior.helped} of {each.posterior.attempts}",
        "estimate": lambda each: f"{each.posterior.mean:.0%}{'' if each.posterior.is_enough else ' (few)'}",
        "beats waiting": lambda each: "" if each.better is None else f"{each.better:.0%}",
    }
    if decisions is not None:
        columns["decision"] = lambda each: decisions.get(each.treatment, "")
    _show_any(lessons, columns)
    if not all(each.posterior.is_enough for each in lessons):
        output.print_line(f"few: {ENOUGH} attempts are enough for an estimate to count")


def _to_json(found: HealingIncident) -> dict[str, Any]:
    end = found.end
    return {
        **output.pick(found, "id", "svc", "symptom", "opened_at", "resolution"),
        "resolved_at": None if end is None else end.ts,
        "resolution_time_seconds": None if end is None else end.sec,
        "escalated": found.is_escalated,
        "remedies": list(found.remedies()),
        "timeline": [
            output.pick(each, "ts", "what", "remedy", "reason", "text", "sec") for each in found.timeline
        ],
    }


def _lesson_to_json(lesson: Lesson, decisions: Mapping[Treatment, str] | None = None) -> dict[str, Any]:
    treatment, posterior = lesson.treatment, lesson.posterior
    return {
        **output.pick(treatment, "symptom", "remedy"),
        "svc": treatment.svc or None,
        **output.pick(posterior, "helped", "failed"),
        "estimate": posterior.mean,
        "better_than_wait": lesson.better,
        **({} if decisions is None else {"decision": decisions.get(treatment)}),
    }


def _repair_to_json(repair: Repair) -> dict[str, Any]:
    proposal = find_proposal(repair)
    return {
        **output.pick(repair, "svc", "incident", "symptom", "state", "refusal", "down_since"),
        "attempts": repair.count_remedies(),
        "owner_restarts": repair.owner_restarts,
        "proposal": None if proposal is None else proposal.ident,
    }
