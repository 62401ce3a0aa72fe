"""Every page of the board about an example snapshot, with events, flows and a past that are made up."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from marketswarm.history.rollup import PastOutage, Seconds
from marketswarm.operator.announcements import (
    Announcement,
    AnnouncementEntry,
    AnnouncementState,
    fold_announcements,
)
from marketswarm.operator.dead_messages import UndeliveredMessage
from marketswarm.operator.healing import fold_incidents
from marketswarm.operator.healing_stats import ApprovalStats, RemedyStats, ResolutionStats
from marketswarm.operator.tokens import Scope
from marketswarm.status.notifications import OpenIncident
from marketswarm.status.service_rows import ServiceState
from marketswarm.status.topology_view import FlowView, InstanceView, ReaderView, ServiceView, TopologyView
from marketswarm.truth import Schedule
from marketswarm.truth.document_edit import EntryFields
from marketswarm.truth.flows import FlowFault
from marketswarm.web.responses import ErrorPage, PageModel
from marketswarm.web.sessions import BrowserSession
from services.board.fleet.alerts import (
    AlertAnswer,
    AlertPage,
    AlertQuery,
    AlertsAnswer,
    AlertsPage,
    AlertView,
)
from services.board.fleet.beats import BeatInterval, BeatTimes
from services.board.fleet.frame import Frame
from services.board.fleet.history import Past
from services.board.fleet.incident_pages import (
    HealingStatus,
    IncidentDetails,
    IncidentsPage,
    RecordedIncidentPage,
    RecordPage,
)
from services.board.fleet.incident_record import (
    DiagnosisView,
    DownTarget,
    HeldRule,
    HeldRules,
    IncidentSummary,
    ProposalView,
    RecordedIncidents,
    StepView,
)
from services.board.fleet.job_runs import JobView, RunView, make_job_view
from services.board.fleet.notifications import NotificationsPage
from services.board.fleet.open_incidents import make_cards
from services.board.fleet.pages import parse_fleet_query, select_services
from services.board.fleet.service_page import BadgeLink, ServicePage
from services.board.fleet.snapshot import BarSpan, FleetSnapshot, LastRunView, ServiceSnapshot
from services.board.fleet.topology import TopologyPage
from services.board.public.pages import AnnouncementsPage, PublicPage, PublicService
from services.board.truth.editor import CheckAnswer, ProblemView
from services.board.truth.entry_change import EntryChange, Verb
from services.board.truth.pages import TruthEditPage, TruthPage, TruthReviewPage
from services.board.truth_documents import DiffLine, RevisionView
from support.board_examples import AT, make_service
from support.board_forms import show_add, show_added, show_entry, show_keys, show_removal
from support.board_probes import make_probe_views, show_probe
from support.healing_record import make_outage


def make_events(snapshot: FleetSnapshot) -> tuple[AlertView, ...]:
    """Return events on the alert log, some for each service that is down."""
    down = [one for one in snapshot.services if one.state is ServiceState.DOWN]
    return tuple(
        event
        for number, one in enumerate(down)
        for event in (
            AlertView(
                f"{one.boot or 'x'}-{number}-2",
                "heartbeat_miss",
                one.svc,
                AT - 574 - number,
                f"{one.svc} is down",
                f"no beat for 31.2 s (timeout 30 s) {one.detail or ''}",
                is_bad=True,
                severity=one.severity,
                by="healer",
                host=one.boot,
            ),
            AlertView(
                f"{number}-1",
                "heartbeat_ok",
                one.svc,
                AT - 90_000,
                f"{one.svc} is up again",
                "was down for 4 min 10 s",
                is_bad=False,
                by="healer",
                down_sec=250.0,
            ),
            AlertView(
                f"{number}-0", "heartbeat_gap", one.svc, AT - 99_000, f"{one.svc} had a gap", "of 40 s", None
            ),
        )
    )


PROBLEM = FlowFault(
    "falls_behind",
    "market-redis",
    "rss:items",
    "vexy_ai",
    "vexy_ai is 412 entries behind, and reads 1.2 a second",
)
"""What is wrong with the flows of the shipped fleet."""


def make_flows(snapshot: FleetSnapshot) -> tuple[FlowView, ...]:
    """Return the flows of the shipped fleet, one of them slow; of others, one key for each service."""
    names = [one.svc for one in snapshot.services]
    if "massive" not in names:
        return tuple(FlowView(one, one, (one,), (ReaderView(two),), kind=one) for one, two in pairwise(names))

    def read(lag: int) -> tuple[ReaderView, ...]:
        """Return vexy_ai as a reader that is `lag` entries behind."""
        return (ReaderView("vexy_ai", "vexy_ai", lag, pending=3, rate=1.2),)

    return (
        FlowView("market-redis", "rss:items", ("rss_agg",), read(412), "stream", 18_204, 0.0, 640.0),
        FlowView("market-redis", "massive:probes", ("massive",), read(0), "stream", 9_120, 0.6, 1.4),
        FlowView("market-redis", "market:bars", ("massive",), read(0), "stream", 120, 0.1, 31.0),
        FlowView("market-redis", "vexy:notes", ("vexy_ai",), (), "stream", 812, 0.2, 12.0),
        FlowView(
            "system-redis",
            "healer:alerts",
            ("healer", "sentinel"),
            (ReaderView("notifier"),),
            "stream",
            44,
            0.0,
            590.0,
        ),
        FlowView("system-redis", "mesh:topology", ("mesh",), (), "string"),
    )


def make_topology(snapshot: FleetSnapshot, hostile: str = "") -> TopologyView:
    """Return the topology with these flows; `hostile` is a problem, a note, and a key besides."""
    flows, problems = make_flows(snapshot), (PROBLEM,)
    if hostile:
        flows = (*flows, FlowView(hostile, hostile, (snapshot.services[0].svc,)))
        problems = (PROBLEM, FlowFault("odd", hostile, hostile, None, hostile))
    services = [ServiceView(one.svc) for one in snapshot.services]
    return TopologyView(1, True, services, flows, problems, (hostile,) * bool(hostile))


def make_past(one: ServiceSnapshot) -> Past:
    """Return an outage that lasts, if it does, and two that are over."""
    over = (PastOutage(AT - 50_000, AT - 49_000), PastOutage(AT - 900_000, AT - 870_000))
    now = (PastOutage(AT - 604, None),) if one.state is ServiceState.DOWN else ()
    day = (
        BarSpan("unknown", AT - 86_400, AT - 60_000),
        BarSpan("up", AT - 60_000, AT - 50_000),
        BarSpan("down", AT - 50_000, AT - 49_000),
        BarSpan("up", AT - 49_000),
    )
    month = (
        BarSpan("up", AT - 2e6, AT - 900_000),
        BarSpan("down", AT - 900_000, AT - 870_000),
        BarSpan("up", AT - 870_000),
    )
    return Past(now + over, day, month)


def make_announcements(text: str = "") -> tuple[Announcement, ...]:
    """Return an incident, planned maintenance, and an incident that is over; `text` is added to all words."""
    usual = {"text": f"We look into it.\nThe next update is at noon. {text}", "author": f"kim {text}"}
    state = AnnouncementState
    incident = {"id": "incident", "title": f"The shop is slow {text}", "tags": ("market",)}
    entries = (
        AnnouncementEntry(**usual, **incident, ts=AT - 900, state=state.INVESTIGATING),
        AnnouncementEntry(**usual, **incident, ts=AT - 300, state=state.IDENTIFIED),
        AnnouncementEntry(
            **usual,
            id="maintenance",
            ts=AT - 9000,
            title="New disks",
            state=state.SCHEDULED,
            begins_at=AT + 3600,
            ends_at=AT + 7200,
        ),
        AnnouncementEntry(**usual, id="over", ts=AT - 90_000, title="No mail", state=state.RESOLVED),
    )
    found = {one.latest.id: one for one in fold_announcements(entries)}
    return tuple(found[ident] for ident in ("incident", "maintenance", "over"))


def make_public_page(snapshot: FleetSnapshot) -> PublicPage:
    """Return the page for the public, about the first services, with ninety days of two of them."""
    hostile = (snapshot.services[0].detail or "") if snapshot.services else ""
    seconds = [Seconds(unknown=86_400)] * 30 + [Seconds(86_400)] * 40 + [Seconds(80_000, 6_400)]
    days = (*seconds, *[Seconds(86_400)] * 18, Seconds(20_000, 600))
    announcements = make_announcements(hostile)
    return PublicPage(
        snapshot.fleet,
        snapshot.at,
        tuple(
            PublicService(one.svc, one.svc, one.state, days if number < 2 else ())
            for number, one in enumerate(snapshot.services[:5])
        ),
        tags=("market", *((hostile,) if hostile else ())),
        current=announcements[:2],
        past=announcements[2:],
        is_lacking=bool(hostile),
    )


def make_service_parts(
    one: ServiceSnapshot,
) -> tuple[tuple[InstanceView, ...], bool, JobView, BeatTimes, BadgeLink]:
    """Return what the page of a service has besides: instances, runs, beats (one of them late), a badge.

    One with a schedule is a job.
    """
    text = one.detail or ""
    return (
        (
            InstanceView(
                one.boot,
                f"web-1 {text}",
                "1.4.2",
                12,
                86_000.0,
                0,
                0.01,
                "ok",
                text or None,
                last_beat_sec=4.0,
            ),
            InstanceView(
                f"{one.boot}2", "web-2", "1.4.2", 11, 60.0, 7, 0.01, "degraded", text, crash_loop=True
            ),
        ),
        one.schedule is not None,
        make_job_view(
            (
                RunView(AT - 30.0, None, None, None, None, text),
                RunView(AT - 9000.0, AT - 8990.0, 10.0, False, 3, f"disk full\n{text}"),
                RunView(AT - 20_000.0, AT - 19_996.0, 4.0, True, 0),
                RunView(None, AT - 90_000.0, None, True, 0),
            ),
            None if one.schedule is None else Schedule("0 3 * * *", "Europe/Berlin"),
            AT,
        ),
        BeatTimes(
            10.0,
            tuple(
                BeatInterval(AT - 600 + 10 * number, 10.0 + number % 3 / 10 + 12 * (number == 40))
                for number in range(60)
            ),
        ),
        BadgeLink("/badge/shop.svg", f"![{one.svc}](http://board/badge/shop.svg)", is_open=False),
    )


def make_job(one: ServiceSnapshot, text: str) -> ServiceSnapshot:
    """Return a service as a job that runs now; `text` is added to what its last run said."""
    return replace(
        one,
        schedule="0 3 * * *",
        time_zone="Europe/Berlin",
        running_since=AT - 30,
        next_due_at=AT + 3600,
        last_run=LastRunView(ok=False, text=f"exit 3 {text}", ended_at=AT - 60, took_sec=4.0, exit_code=3),
    )


def make_outages(snapshot: FleetSnapshot, text: str = "") -> tuple[IncidentSummary, ...]:
    """Return outages on record, one for each way to end; `text` is added to all words."""
    ends = ("open", "escalated", "healed", "recovered", "restarted")
    names = [one.svc for one in snapshot.services] or ["rss_agg"]
    return tuple(
        IncidentSummary(
            f"{svc}.{number}" + text,
            AT - 9000 * number - 60,
            svc,
            "silent" + text,
            "warning" + text,
            number % 3,
            ("restart" + text,) if number % 3 else (),
            escalated=end in ("escalated", "healed"),
            resolution_status=end,
            resolution_details=f"verified restart{text}",
            resolved_at=None if number < 2 else AT - 9000 * number,
            resolution_time_seconds=None if number < 2 else 42.5 * number,
            proposal="3f9a1c04" if not number else None,
        )
        for number, (svc, end) in enumerate(zip(names * len(ends), ends, strict=False))
    )


def make_record_page(snapshot: FleetSnapshot, frame: Frame, text: str = "") -> RecordPage:
    """Return the page of what is on record, with a proposal, the fuse, and a record that is away."""
    outages = make_outages(snapshot, text)
    first = outages[0].container_name
    status = HealingStatus(
        mode="propose" + text,
        paused=bool(text),
        modes={first: "act" + text},
        state="up",
        detail=text or None,
        open=outages[:2],
        proposals=(
            ProposalView("fuse", first, "", AT - 30, outages[0].id),
            ProposalView("3f9a1c04" + text, first, "restart" + text, AT - 60, outages[0].id),
        ),
        away=f"bus system-redis: refused{text}",
    )
    remedies = (
        RemedyStats("wait", 40, 12, success=0.3),
        RemedyStats("restart" + text, 20, 17, 2, 1, 1, 0.8),
        RemedyStats("cache"),
    )
    approvals = (ApprovalStats(first, "restart" + text, 7, 1, 3), ApprovalStats("mesh", "quotes_cache", 0, 2))
    stats = ResolutionStats(60, {"healed": 16}, 4, 42.5, 900.0)
    return RecordPage(frame, text, status, outages, 90, stats, remedies, approvals)


def make_session(name: str, author: str, *scopes: Scope) -> BrowserSession:
    token: Any = SimpleNamespace(name=name, scopes=scopes)  # no real token has a hostile name
    return BrowserSession(token, "", AT, author, "x")


def make_notified(snapshot: FleetSnapshot, text: str = "") -> dict[str, OpenIncident]:
    """Return what the notifier has of the outages, and of the rules of `make_rules`, by its keys."""
    rules = {f"medic/{each.name}" for each in make_rules(snapshot, text)}
    told = dict.fromkeys((*(one.svc for one in snapshot.incidents if not one.held), *rules), AT - 570)
    of = {one.svc: one for one in snapshot.incidents}
    return {
        key: OpenIncident(
            key,
            down=True,
            acked_by=(of[key].acked_by or "") if key in of else "",
            held=of[key].held if key in of else None,
            told_at=told.get(key),
            channels=("slack" + text, "email"),
            reminded=1,
        )
        for key in {*told, *of}
    }


def make_rules(snapshot: FleetSnapshot, text: str = "") -> tuple[HeldRule, ...]:
    """Return a rule that holds for the first service that is degraded, and one for the machine."""
    degraded = [one.svc for one in snapshot.services if one.status not in (None, "ok")]
    if not degraded:
        return ()
    return (
        HeldRule("database_errors", degraded[0], AT - 500, f"log_matches 4, above 3 within 300 s{text}"),
        HeldRule("disk" + text, "host", None, f"host_disk_free 6.2, below 10 for 60 s{text}"),
    )


def make_targets(text: str = "") -> tuple[DownTarget, ...]:
    """Return a page and a source that are down."""
    return (
        DownTarget("massive", "massive/shop" + text, AT - 400, "HTTP 503" + text),
        DownTarget("sources", "source:kraken" + text, None, "refused" + text, is_alert=False),
    )


def make_open_record(snapshot: FleetSnapshot, text: str = "") -> RecordedIncidents:
    """Return the medic's record: a remedy is proposed for the first outage, what is degraded is observed."""
    steps: dict[str, tuple[str, str, str]] = {
        one.svc: ("refused", "restart", "observed" + text[:20])
        for one in snapshot.services
        if one.status not in (None, "ok")
    }
    steps |= {one.svc: ("proposed", "restart", "3f9a1c04") for one in snapshot.incidents[:1]}
    entries = [
        replace(entry, svc=svc)  # which may be no name from which an id can be made
        for number, (svc, step) in enumerate(steps.items())
        for entry in make_outage(f"outage{number}", AT - 600, ("waiting", "wait"), step)
    ]
    return RecordedIncidents(tuple(fold_incidents(entries)))


def show_incidents(snapshot: FleetSnapshot, text: str, frame: Frame, params: dict[str, str]) -> IncidentsPage:
    """Return the page of what is not as it should be; `session` signs a person in.

    With `stopped`, the medic has stopped after too many remedies.
    """
    rules, notified = make_rules(snapshot, text), make_notified(snapshot, text)
    record = make_open_record(snapshot, text)
    watched = replace(snapshot, services=(*snapshot.services, make_service("medic")))
    if "stopped" in params:
        record = replace(record, blown_at=AT - 40)
    session = make_session("deploy" + text, "kim" + text, *Scope) if "session" in params else None
    away = ("bus system-redis: refused" + text,) if text else ()
    return IncidentsPage(
        replace(frame, title="Incidents", path="/incidents", session=session),
        make_cards(watched, record, HeldRules(rules, make_targets(text)), notified),
        away,
    )


def make_two(text: str) -> tuple[DiagnosisView, ...]:
    """Return two diagnoses: one whose patch is altered, and one without a patch."""
    told = {"reason": f"escalated{text}", "text": f"Full.{text}"}
    newest = DiagnosisView(
        ts=AT - 20,
        remedies=("restart",),
        patch=f"-\told{text}\n+\tnew",
        model=f"small{text}",
        altered=True,
        command="marketswarm medic patch feed.1",
        **told,
    )
    return newest, DiagnosisView(ts=AT - 60, remedies=(), patch="", **told)


def show_record(
    snapshot: FleetSnapshot, text: str, session: BrowserSession, frame: Frame, params: dict[str, str]
) -> PageModel:
    """Return the page of what is on record, or that of one outage."""
    if params["rest"]:
        steps = tuple(
            StepView(AT - 90 + number, what, what + text, sec)
            for number, (what, sec) in enumerate((("opened", None), ("acted", 0.2), ("verified", 4.0)))
        )
        return RecordedIncidentPage(
            frame, IncidentDetails(make_outages(snapshot, text)[2], steps, make_two(text))
        )
    frame = replace(frame, title="Past incidents", path="/incidents", session=session)
    return make_record_page(snapshot, frame, text)


def show_service(
    events: tuple[AlertView, ...], section: str, frame: Frame, one: ServiceSnapshot
) -> ServicePage:
    """Return the page of a service with those of the events that are about it."""
    return ServicePage(
        replace(frame, title=one.svc),
        one,
        tuple(each for each in events if each.svc == one.svc),
        section,
        ("vexy_ai", "archive"),
        make_past(one),
        *make_service_parts(one),
        make_probe_views(one.detail or "") if one.svc == "massive" else (),
    )


def make_pages(snapshot: FleetSnapshot) -> dict[str, Callable[[Frame, dict[str, str]], PageModel]]:
    """Return what makes each page, by its path; the parameters have the rest of the path as `rest`."""
    events = make_events(snapshot)
    text = '{\n  "version": 1,\n  "fleet": "prod",\n  "services": {"rss_agg": {"tags": ["ingest"]}}\n}'
    hostile = snapshot.services[0].detail or "" if snapshot.services else ""

    def show_fleet(frame: Frame, params: dict[str, str]) -> PageModel:
        return select_services(snapshot, parse_fleet_query(params), frame)

    show_one = partial(show_service, events, text)

    def find_service(frame: Frame, params: dict[str, str]) -> PageModel:
        return show_one(frame, snapshot.find(params["rest"]) or snapshot.services[0])

    def show_alerts(frame: Frame, params: dict[str, str]) -> PageModel:
        if params["rest"]:
            found = AlertAnswer(events[0], ("system-redis",))
            return AlertPage(replace(frame, title=events[0].title), found, text + hostile)
        types = ("heartbeat_miss", "heartbeat_ok")
        chosen = AlertQuery(params.get("svc", ""), params.get("type", ""))
        some = tuple(each for each in events if chosen.svc in ("", each.svc))
        away = {"market-redis": hostile} if hostile else {}
        return AlertsPage(frame, chosen, AlertsAnswer(some, "1", away), types)

    def show_truth(frame: Frame, _params: dict[str, str]) -> PageModel:
        revisions = tuple(
            RevisionView(number, AT - 9e4 * (13 - number), "ana@desk" + hostile, "9f" * 32)
            for number in (12, 11, 10)
        )
        diff = (
            DiffLine("@", "services.rss_agg"),
            DiffLine(" ", '"heartbeat": {'),
            DiffLine("-", '  "interval_sec": 30'),
            DiffLine("+", '  "interval_sec": 10' + hostile),
        )
        return TruthPage(frame, text + hostile, revisions, 11, 12, diff, may_edit=True)

    session = make_session("deploy" + hostile, "kim" + hostile, *Scope)
    problems = (
        ProblemView("services.rss_agg.heartbeat.interval_sec", f'"x" is no number{hostile}', 13),
        ProblemView("truth", "not JSON"),
    )

    def edit_truth(frame: Frame, _params: dict[str, str]) -> PageModel:
        frame = replace(frame, title="Edit the truth", path="/truth", session=session)
        said = "2 problems: nothing was seeded."
        return TruthEditPage(frame, text + hostile, "0", problem=said, errors=problems)

    def review_truth(frame: Frame, _params: dict[str, str]) -> PageModel:
        frame = replace(frame, title="Edit the truth", path="/truth", session=session)
        diff = (DiffLine("-", "old" + hostile), DiffLine("+", "new" + hostile))
        changes = ("~ rss_agg: interval_sec 30 → 10" + hostile,)
        checked = CheckAnswer(valid=True, sha256="1", warnings=problems, changes=changes)
        return TruthReviewPage(
            frame,
            "0",
            checked,
            diff,
            text + hostile,
            may_edit=not hostile,
            change=EntryChange(Verb.EDIT, hostile, EntryFields(description=hostile)) if hostile else None,
        )

    def show_dead(frame: Frame, _params: dict[str, str]) -> PageModel:
        dead = tuple(
            UndeliveredMessage(
                f"m{at}" + hostile, "slack" + hostile, "404", ts, title + hostile, title, "warning"
            )
            for at, (ts, title) in enumerate(((AT - 900, "rss_agg is down"), (None, "mesh is up again")))
        )
        frame = replace(frame, title="Notifications", path="/notifications", session=session)
        return NotificationsPage(frame, dead, {"market-redis": "refused" + hostile})

    def show_seeded(frame: Frame, params: dict[str, str]) -> PageModel:
        return show_truth(replace(frame, title="Truth", path="/truth", session=session), params)

    return {
        "/": show_fleet,
        "/services": find_service,
        "/services/massive/target": partial(show_probe, events, hostile),
        "/job": lambda frame, _: show_one(frame, make_job(snapshot.services[0], hostile)),
        "/incidents": partial(show_incidents, snapshot, hostile),
        "/incidents/past": partial(show_record, snapshot, hostile, session),
        "/notifications": lambda frame, _: NotificationsPage(frame),
        "/notifications/dead": show_dead,
        "/alerts": show_alerts,
        "/topology": lambda frame, _: TopologyPage(frame, make_topology(snapshot, hostile)),
        "/truth": show_truth,
        "/truth/edit": edit_truth,
        "/truth/check": review_truth,
        "/truth/add": partial(show_add, session, problems, hostile),
        "/truth/added": partial(show_added, snapshot, session, hostile),
        "/truth/entry": partial(show_entry, session, problems, hostile),
        "/truth/remove": partial(show_removal, session, hostile),
        "/truth/signed-in": show_seeded,
        "/public": lambda _frame, _: make_public_page(snapshot),
        "/announcements": lambda frame, params: AnnouncementsPage(
            replace(
                frame,
                session=make_session("deploy", "kim", Scope.WRITE) if "session" in params else None,
            ),
            make_announcements(hostile)[:2],
            make_announcements(hostile)[2:],
            ("market",),
            hostile,
        ),
        "/keys": partial(show_keys, session, hostile),
        "/missing": lambda _frame, _: ErrorPage(404, "There is no such page", hostile or "nothing is here"),
    }
