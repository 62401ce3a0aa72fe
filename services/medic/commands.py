"""Implement `marketswarm incidents`, `incident`, `medic status`, `medic report` and `medic approve`."""

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from marketswarm.agent.outage_state import OutageState, parse_state
from marketswarm.beat import Beat, parse_beat
from marketswarm.bus.stored_values import read_strings
from marketswarm.cli import event_loop, output, tables
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.fleet_view import open_fleet
from marketswarm.cli.health import select_services
from marketswarm.cli.local_time import format_date, format_moment, format_time
from marketswarm.cli.options import By, Data, Json, author_name
from marketswarm.exit import Code, Exit
from marketswarm.keys import (
    ALERTS,
    MEDIC_EVIDENCE,
    MEDIC_INCIDENTS,
    MEDIC_OUTAGES,
    dry_run_key,
    last_beat_key,
)
from marketswarm.operator.diagnosis import DiagnosisRecord, read_diagnosis
from marketswarm.operator.evidence import OutageEvidence, read_evidence
from marketswarm.operator.healing import (
    ENTRIES_KEPT,
    FUSE,
    LEARNING,
    EntryKind,
    HealingApproval,
    HealingIncident,
    TimelineEntry,
    fold_incidents,
    read_forgotten_at,
    read_timeline,
    write_approval,
)
from marketswarm.operator.healing_attempts import ApprovalStats
from marketswarm.operator.healing_text import describe_reason, describe_resolution
from marketswarm.packed_log import unpack_log
from marketswarm.text import escape_text, format_duration
from marketswarm.truth import MEDIC, SYSTEM, Truth, suggest_name
from services.medic.experience import Experience
from services.medic.guards import Fuse, find_mode
from services.medic.learning import ENOUGH, Lesson, Treatment
from services.medic.proposal import find_proposal
from services.medic.remedies import REMEDIES, Remedy
from services.medic.repair import Repair
from services.medic.report import HealingReport, make_report
from services.medic.settings import HealingSettings, MedicSettings, Mode
from services.medic.store import read_state
from services.medic.summary import describe_state, write_summary

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
_NO_SECTION: Final = f"the truth has no section for {MEDIC}: no outage is on record"

Ident = Annotated[str, typer.Argument(metavar="ID", help="Which, as `marketswarm incidents` shows it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="What a medic in a dry run would have done.")]


def incidents(
    svc: Annotated[str | None, typer.Option("--svc", metavar="SVC", help="Of this service only.")] = None,
    count: Annotated[
        int, typer.Option("--count", metavar="20", min=1, max=_MOST, help="How many, from the newest.")
    ] = 20,
    is_dry_run: DryRun = False,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """List the outages that the medic has on record, the one that changed last first."""
    found = [each for each in _read_incidents(data, svc, is_dry_run=is_dry_run) if svc in (None, each.svc)]
    found = found[:count]
    if as_json:
        output.print_json([_to_json(each) for each in found])
        return
    if not found:
        output.print_line("no incident is on record" if svc is None else f"no incident of {svc} is on record")
        return
    now = time.time()
    rows = (
        (
            each.id,
            each.svc,
            format_moment(each.opened_at, now),
            describe_resolution(each.resolution),
            "" if each.end is None or each.end.sec is None else format_duration(each.end.sec),
            ", ".join(each.remedies()),
        )
        for each in found
    )
    _print_table(("id", "service", "opened", "state", "took"), rows, folded=("remedies",))
    output.print_line(f"{suggest_command('incident ID', data)} shows one")


def incident(ident: Ident, is_dry_run: DryRun = False, as_json: Json = False, data: Data = DATA) -> None:
    """Show one outage as a post-mortem in Markdown: what happened, what was done, how it ended."""
    known = _read_incidents(data, is_dry_run=is_dry_run)
    found = next((each for each in known if each.id == ident), None)
    if found is None:
        hint = suggest_name(ident, [each.id for each in known], "`marketswarm incidents` lists them:")
        raise Exit(Code.CONFIGURATION, f"no incident {ident} is on record; {hint}")
    evidence, diagnosis = event_loop.run(_read_records(data, found, is_dry_run))
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
    (settings, repairs, fuse, holding, experience), said, services = event_loop.run(_read_status(data))
    now = time.time()
    if as_json:
        rows = [_repair_to_json(each) for each in repairs]
        head = {"mode": settings.mode, "paused": settings.paused, "fuse_blown_at": fuse.blown_at}
        head["said"] = said
        rules = [{"rule": name, "since": each.since, "why": each.error} for name, each in holding.items()]
        head["summary"] = write_summary(settings, repairs, fuse, list(holding))
        output.print_json(
            {**head, "repairs": rows, "rules": rules, **_experience_to_json(experience, settings)}
        )
        return
    output.print_line(escape_text(write_summary(settings, repairs, fuse, list(holding))))
    for each in repairs:
        if (found := find_proposal(each)) is not None:
            approve = suggest_command(f"{MEDIC} approve {found.ident}", data)
            output.print_line(f"{approve} approves for {each.svc}: {escape_text(found.remedy)}")
    if fuse.blown_at is not None:
        why = f"{len(fuse.acted)} remedies in a short time"
        approve = suggest_command(f"{MEDIC} approve {FUSE}", data)
        output.print_line(
            f"stopped at {format_moment(fuse.blown_at, now)} after {why}; {approve} lets it continue"
        )
    own = [f"{svc} {target.mode}" for svc, target in settings.targets.items() if target.mode is not None]
    output.print_line(
        f"mode {settings.mode}" + (f"; {', '.join(own)}" if own else "") + ("; paused" * settings.paused)
    )
    if said is not None:
        output.print_line(f"its last beat says: {escape_text(said)}")
    if repairs:
        _print_repairs(repairs, now)
    if holding:
        held = (
            (name, "" if each.since is None else format_moment(each.since, now), each.error or "")
            for name, each in holding.items()
        )
        _print_table(("rule", "holds since"), held, folded=("why",))
    _print_experience(experience, settings, services)


def _print_repairs(repairs: Iterable[Repair], now: float) -> None:
    rows = (
        (
            each.svc,
            format_moment(each.down_since, now),
            str(each.count_remedies()),
            each.incident,
            describe_state(each),
        )
        for each in repairs
    )
    _print_table(("service", "down since", "attempts", "incident"), rows, folded=("what the medic does",))


def _print_experience(experience: Experience, settings: HealingSettings, services: Collection[str]) -> None:
    """Print what the record teaches of these services, and of all together."""
    decisions = experience.list_decisions(settings.ladder_of)
    lessons = [each for each in _sort_lessons(experience) if each.treatment.svc in ("", *services)]
    approvals = [each for each in experience.list_approvals() if each.svc in services]
    if lessons:
        _print_lessons(lessons[:LESSONS_SHOWN], decisions)
    if decisions and not settings.learning:
        output.print_line("learning is off: every remedy is tried, in the order of its cost")
    if approvals:
        rows = (
            (
                each.remedy,
                each.svc,
                *map(str, (each.helped, each.failed, each.in_a_row)),
                find_present_mode(settings, experience, each) or "",
            )
            for each in approvals[:LESSONS_SHOWN]
        )
        _print_table(("approved", "service", "helped", "failed", "in a row", "mode"), rows)


def _sort_lessons(experience: Experience) -> list[Lesson]:
    """Return what the record teaches, the treatments that were tried most first."""
    return sorted(experience.list_lessons(), key=lambda each: -each.posterior.attempts)


def _experience_to_json(experience: Experience, settings: HealingSettings) -> dict[str, Any]:
    decisions = experience.list_decisions(settings.ladder_of)
    return {
        "learning": settings.learning,
        "lessons": [_lesson_to_json(each, decisions) for each in _sort_lessons(experience)],
        "approvals": [
            {**asdict(each), "mode": find_present_mode(settings, experience, each)}
            for each in experience.list_approvals()
        ],
    }


def report(
    days: Annotated[
        int,
        typer.Option("--days", metavar="7", min=1, max=366, help="The days until now that are summed up."),
    ] = 7,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Sum up the outages of a week: how many were healed, how long they took, and what helped."""
    now = time.time()
    entries, unusable = event_loop.run(_read_entries(data, None, is_dry_run=False))
    # a record with fewer entries than it may have was never trimmed
    oldest = entries[0].ts if entries and len(entries) + unusable >= ENTRIES_KEPT else None
    found = make_report(fold_incidents(entries), now - days * DAY_SEC, oldest)
    if as_json:
        output.print_json(_report_to_json(found))
        return
    _warn_of_unusable(unusable)
    output.print_lines(format_report(found, days, now))
    if found.patterns:
        rows = (
            (
                each.svc,
                each.symptom,
                *map(str, (each.stats.count, each.healed, each.stats.escalated)),
                "" if each.stats.median_sec is None else format_duration(each.stats.median_sec),
            )
            for each in found.patterns[:PATTERNS_SHOWN]
        )
        _print_table(("service", "symptom", "outages", "healed", "escalated", "median"), rows)
    if found.lessons:
        _print_lessons(found.lessons)


def format_report(found: HealingReport, days: int, now: float) -> list[str]:
    """Return the lines of a report that stand above its tables."""
    stats = found.stats
    outages = "1 outage" if stats.count == 1 else f"{stats.count} outages"
    lines = [f"{outages} in {days} days, {found.ended} of them over"]
    if found.ended:
        ways = (f"{escape_text(how)} {count / found.ended:.0%}" for how, count in found.resolutions)
        lines.append(f"of the ended outages: {', '.join(ways)}")
    if found.share_escalated is not None:
        lines.append(f"escalated: {found.share_escalated:.0%} of all")
    if stats.median_sec is not None and stats.p95_sec is not None:
        median, p95 = format_duration(stats.median_sec), format_duration(stats.p95_sec)
        lines.append(f"time until up: {median} (median), {p95} (95 % took no longer)")
    if found.unknown:
        lines.append(f"{found.unknown} more are on record without their beginning")
    if found.complete_since is not None:
        lines.append(
            f"the record begins at {format_moment(found.complete_since, now)}: what was before is lost"
        )
    return lines


def approve(
    ident: Annotated[
        str, typer.Argument(metavar="ID", help="The proposal, as `marketswarm medic status` shows it.")
    ],
    by: By = None,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Have a proposal carried out, once; `fuse` lets the medic continue after too many remedies.

    JSON has the `id`, the `svc` that it is about (null for `fuse`), and `by` whom it was approved.
    """
    author = author_name(by)
    svc = event_loop.run(_approve(data, ident, author))
    if as_json:
        output.print_json({"id": ident, "svc": svc or None, "by": author})
        return
    output.print_line(f"approved: {svc}" if svc else "approved: the medic continues")


def forget(by: By = None, data: Data = DATA) -> None:
    """Delete what the medic has learned. Earlier incidents no longer count."""
    event_loop.run(_forget(data, author_name(by)))
    output.print_line("forgotten: earlier incidents no longer count")


async def _forget(data: Path, author: str) -> None:
    async with open_fleet(data) as fleet:
        _find_settings(fleet.truth)
        approval = HealingApproval(id=LEARNING, by=author, ts=time.time())
        await write_approval(fleet.bus(SYSTEM), approval)


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
    entries, unusable = event_loop.run(_read_entries(data, svc, is_dry_run=is_dry_run))
    _warn_of_unusable(unusable)
    return fold_incidents(entries)


async def _read_entries(data: Path, svc: str | None, *, is_dry_run: bool) -> tuple[list[TimelineEntry], int]:
    """Return the whole record, and how many of its entries can't be used.

    Raises Exit, also if neither the record nor the truth has the service `svc`.
    """
    async with open_fleet(data) as fleet:
        stream = dry_run_key(MEDIC_INCIDENTS) if is_dry_run else MEDIC_INCIDENTS
        entries, unusable = await read_timeline(fleet.bus(SYSTEM), stream=stream)
        if svc is not None and fleet.found is not None and all(each.svc != svc for each in entries):
            select_services(svc, fleet)
        return entries, unusable


def _warn_of_unusable(count: int) -> None:
    if count:
        output.print_line(f"{count} entries could not be read", output.YELLOW)


async def _read_records(
    data: Path, incident: HealingIncident, is_dry_run: bool
) -> tuple[OutageEvidence | None, DiagnosisRecord | None]:
    """Return the evidence and the diagnosis of an incident; None for what there is not, or not any more.

    Raises Exit.
    """
    async with open_fleet(data) as fleet:
        bus = fleet.bus(SYSTEM)
        if is_dry_run:  # which asks for no diagnosis
            return await read_evidence(bus, incident.id, dry_run_key(MEDIC_EVIDENCE)), None
        return await read_evidence(bus, incident.id), await read_diagnosis(bus, incident.svc, incident.id)


async def _read_status(
    data: Path,
) -> tuple[
    tuple[HealingSettings, list[Repair], Fuse, dict[str, OutageState], Experience],
    str | None,
    Collection[str],
]:
    """Return also the rules that hold, by `<rule>/<subject>`, and what the record teaches.

    The second value is what the last beat of the medic says, such as that a dry run is running; None if it
    says nothing. The third one has the services of the truth. Raises Exit.
    """
    experience = Experience()
    async with open_fleet(data) as fleet:
        settings, system = _find_settings(fleet.truth), fleet.bus(SYSTEM)
        repairs, fuse, _ = await read_state(system, fleet.truth.services)
        bus = fleet.bus(fleet.truth.alert_target(ALERTS)[0])
        stored = await bus.ask(bus.client.hgetall(MEDIC_OUTAGES))
        entries, unusable = await read_timeline(system)
        experience.load(entries, await read_forgotten_at(system))
        (raw,) = await read_strings(fleet.bus(fleet.truth.bus_of(MEDIC)), [last_beat_key(MEDIC)])
    beat = None if raw is None else parse_beat(raw, MEDIC)
    said = beat.detail if isinstance(beat, Beat) else None
    _warn_of_unusable(unusable)
    states = {name.decode("utf-8", "replace"): parse_state(raw) for name, raw in sorted(stored.items())}
    holding = {name: state for name, state in states.items() if state.verdict == "down"}
    return (settings, repairs, fuse, holding, experience), said, fleet.truth.services


async def _approve(data: Path, ident: str, author: str) -> str:
    """Write an approval; return the service that it is about, empty for the fuse. Raises Exit."""
    async with open_fleet(data) as fleet:
        _find_settings(fleet.truth)
        bus = fleet.bus(SYSTEM)
        repairs, fuse, _ = await read_state(bus, fleet.truth.services)
        proposals = {found.ident: each.svc for each in repairs if (found := find_proposal(each)) is not None}
        is_known = fuse.blown_at is not None if ident == FUSE else ident in proposals
        if not is_known:
            waiting = [*proposals, *([FUSE] if fuse.blown_at is not None else [])]
            hint = suggest_name(ident, waiting, "those that wait, as `marketswarm medic status` shows them:")
            raise Exit(Code.CONFIGURATION, f"{ident} waits for no one; {hint}")
        await write_approval(bus, HealingApproval(id=ident, by=author, ts=time.time()))
    return proposals.get(ident, "")


def _find_settings(truth: Truth) -> HealingSettings:
    section = truth.services.get(MEDIC)
    if section is None:
        raise Exit(Code.CONFIGURATION, _NO_SECTION)
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
        lines += ["- a patch, which nothing applies:", ""]
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


def _print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, folded: Sequence[str] = ()) -> None:
    table = tables.make_table(*heads, folded=folded)
    for row in rows:
        table.add_row(*map(escape_text, row))
    tables.print_drawing(table)


def _print_lessons(lessons: Sequence[Lesson], decisions: Mapping[Treatment, str] | None = None) -> None:
    heads = ["against", "remedy", "service", "helped", "estimate", "beats waiting"]
    rows = [
        [
            each.treatment.symptom,
            each.treatment.remedy,
            each.treatment.svc or "all",
            f"{each.posterior.helped} of {each.posterior.attempts}",
            f"{each.posterior.mean:.0%}{'' if each.posterior.is_enough else ' (few)'}",
            "" if each.better is None else f"{each.better:.0%}",
        ]
        for each in lessons
    ]
    if decisions is not None:
        heads.append("decision")
        rows = [[*row, decisions.get(each.treatment, "")] for row, each in zip(rows, lessons, strict=True)]
    _print_table(heads, rows)
    if not all(each.posterior.is_enough for each in lessons):
        output.print_line(f"few: {ENOUGH} attempts are enough for an estimate to count")


def _to_json(found: HealingIncident) -> dict[str, Any]:
    end = found.end
    return {
        "id": found.id,
        "svc": found.svc,
        "symptom": found.symptom,
        "opened_at": found.opened_at,
        "resolution": found.resolution,
        "resolved_at": None if end is None else end.ts,
        "resolution_time_seconds": None if end is None else end.sec,
        "escalated": any(each.what is EntryKind.ESCALATED for each in found.timeline),
        "remedies": list(found.remedies()),
        "timeline": [
            {name: getattr(each, name) for name in ("ts", "what", "remedy", "reason", "text", "sec")}
            for each in found.timeline
        ],
    }


def _report_to_json(found: HealingReport) -> dict[str, Any]:
    return {
        "since": found.since,
        "complete_since": found.complete_since,
        "outages": found.stats.count,
        "ended": found.ended,
        "resolutions": dict(found.resolutions),
        "share_healed": found.share_healed,
        "share_escalated": found.share_escalated,
        "resolution_time_median_seconds": found.stats.median_sec,
        "resolution_time_p95_seconds": found.stats.p95_sec,
        "patterns": [
            {
                "svc": each.svc,
                "symptom": each.symptom,
                "outages": each.stats.count,
                "healed": each.healed,
                "escalated": each.stats.escalated,
                "resolution_time_median_seconds": each.stats.median_sec,
            }
            for each in found.patterns
        ],
        "remedies": [_lesson_to_json(each) for each in found.lessons],
        "without_beginning": found.unknown,
    }


def _lesson_to_json(lesson: Lesson, decisions: Mapping[Treatment, str] | None = None) -> dict[str, Any]:
    treatment, posterior = lesson.treatment, lesson.posterior
    return {
        "symptom": treatment.symptom,
        "remedy": treatment.remedy,
        "svc": treatment.svc or None,
        "helped": posterior.helped,
        "failed": posterior.failed,
        "estimate": posterior.mean,
        "better_than_wait": lesson.better,
        **({} if decisions is None else {"decision": decisions.get(treatment)}),
    }


def _repair_to_json(repair: Repair) -> dict[str, Any]:
    proposal = find_proposal(repair)
    return {
        "svc": repair.svc,
        "incident": repair.incident,
        "symptom": repair.symptom,
        "state": repair.state,
        "refusal": repair.refusal,
        "down_since": repair.down_since,
        "attempts": repair.count_remedies(),
        "owner_restarts": repair.owner_restarts,
        "proposal": None if proposal is None else proposal.ident,
    }
