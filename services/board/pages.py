"""Define what each page shows, one dataclass per template, and render it.

A template has its dataclass as `page`, and nothing else: it reads values and makes no decisions about the
fleet. Autoescape is on, an unknown name in a template is an error, and no text in a page is ever markup.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from marketswarm.keys import MESH_EVENTS, MESH_FLOW, MESH_TOPOLOGY, RESERVED_PREFIXES
from marketswarm.operator.announcement import Announcement
from marketswarm.operator.token import Scope
from marketswarm.status.topology_view import FlowView, InstanceView
from services.board.beat_log import BeatTimes
from services.board.job_runs import RunView
from services.board.past import NO_PAST, Past, PastDay
from services.board.sessions import PageNotice
from services.board.snapshot import URGENCY, FleetSnapshot, ServiceSnapshot, ServiceState, Window
from services.board.topology_picture import Picture, draw_picture
from services.board.view import FILTERS

_MESH_KEYS: Final = (MESH_TOPOLOGY, MESH_EVENTS, MESH_FLOW)
Sort = Literal["state", "name", "silence", "uptime", "restarts"]
SORTS: Final[tuple[Sort, ...]] = ("state", "name", "silence", "uptime", "restarts")
Group = Literal["", "tag", "bus", "state"]
GROUPS: Final[tuple[Group, ...]] = ("", "tag", "bus", "state")
ROWS: Final = 200
"""The rows of a page of the fleet unless the request asks for another number."""
MAX_ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class SessionView:
    """Who is signed in: the token's name, the name that forms propose, and the secret of the forms.

    `notice` says what became of the form that led to this page, if one did. `scopes` are what the token
    allows.
    """

    token: str
    author: str
    csrf: str = field(repr=False)
    notice: PageNotice | None = None
    scopes: frozenset[Scope] = frozenset()

    @property
    def may_write(self) -> bool:
        """Whether the token allows to silence, acknowledge, test and resend."""
        return Scope.WRITE in self.scopes

    @property
    def may_seed(self) -> bool:
        """Whether the token allows to change the truth."""
        return Scope.SEED in self.scopes


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page has around its own content.

    `position` is the id of the last event of the stream that `snapshot` includes: the page's script follows
    the stream from there on. `assets` is the path of the static files, with a mark that changes with their
    content. `version` is the program's. `session` is there on pages with forms if somebody is signed in.
    """

    title: str
    path: str
    snapshot: FleetSnapshot
    position: str
    assets: str = "/static/0"
    version: str = ""
    session: SessionView | None = None


@dataclass(frozen=True, slots=True)
class FleetQuery:
    """What a request wants to see of the fleet: all services that match every part that is not empty.

    `text` is a part of the name, the description or a tag; `group` makes groups of rows; `start` is the
    number of rows to leave out. `wall` is the mode for a screen on a wall.
    """

    text: str = ""
    states: tuple[ServiceState, ...] = ()
    tag: str = ""
    bus: str = ""
    sort: Sort = "state"
    group: Group = ""
    window: Window = "24h"
    start: int = 0
    rows: int = ROWS
    wall: bool = False

    def url(self, **changes: Any) -> str:
        """Return the path of the page with this query, in which `changes` replace values."""
        values = {each.name: changes.get(each.name, getattr(self, each.name)) for each in fields(self)}
        wanted = {name: value for name, value in values.items() if value != getattr(_NO_QUERY, name)}
        if "states" in wanted:
            wanted["states"] = ",".join(wanted["states"])
        if "wall" in wanted:
            wanted["wall"] = "1"
        return "/?" + urlencode(wanted) if wanted else "/"


_NO_QUERY: Final = FleetQuery()


@dataclass(frozen=True, slots=True)
class ServiceGroup:
    """Some services under a heading; the heading is empty if the services are not in groups."""

    name: str
    services: tuple[ServiceSnapshot, ...]


@dataclass(frozen=True, slots=True)
class FleetPage:
    """The fleet: the rows that a query found, in groups.

    `found` counts all services that match the query, `tags` and `buses` are all that services have.
    """

    template: ClassVar = "fleet.html"
    frame: Frame
    query: FleetQuery
    groups: tuple[ServiceGroup, ...]
    found: int
    tags: tuple[str, ...] = ()

    @property
    def previous(self) -> str | None:
        """The path of the rows before these; None on the first page."""
        start = max(0, self.query.start - self.query.rows)
        return self.query.url(start=start) if self.query.start else None

    @property
    def following(self) -> str | None:
        """The path of the rows after these; None on the last page."""
        start = self.query.start + self.query.rows
        return self.query.url(start=start) if start < self.found else None


@dataclass(frozen=True, slots=True)
class AlertView:
    """One event of the alert log. `title` and `text` are words for people, `position` its place on the log.

    `is_bad` is True for the begin of a problem, False for its end, None for a note. Times are epoch seconds.
    """

    id: str
    type: str
    svc: str
    ts: float
    title: str
    text: str
    is_bad: bool | None
    severity: str = "info"
    by: str = ""
    host: str | None = None
    down_sec: float | None = None
    position: str = ""


@dataclass(frozen=True, slots=True)
class AlertQuery:
    """What a request wants to see of the alert log; `before` is the place of the first event not to show."""

    svc: str = ""
    type: str = ""
    before: str = ""

    def url(self, **changes: str) -> str:
        """Return the path of the page with this query, in which `changes` replace values."""
        values = {each.name: changes.get(each.name, getattr(self, each.name)) for each in fields(self)}
        wanted = {name: value for name, value in values.items() if value}
        return "/alerts?" + urlencode(wanted) if wanted else "/alerts"


@dataclass(frozen=True, slots=True)
class BadgeLink:
    """A badge: its path, and it as Markdown; `is_open` means that everyone may ask for it."""

    path: str
    markdown: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class ServicePage:
    """One service: its view, its latest events, and its section of the truth as indented JSON.

    `dependants` are services that need this one. `instances` are None if mesh does not know who runs; `beats`
    are None if its interval is not known, or if it is a job, which has `runs`, the latest first.
    """

    template: ClassVar = "service.html"
    frame: Frame
    service: ServiceSnapshot
    events: tuple[AlertView, ...] = ()
    section: str = ""
    dependants: tuple[str, ...] = ()
    past: Past = NO_PAST
    instances: tuple[InstanceView, ...] | None = None
    runs: tuple[RunView, ...] = ()
    beats: BeatTimes | None = None
    badge: BadgeLink | None = None


@dataclass(frozen=True, slots=True)
class AlertsPage:
    """The alert log, the newest event first. `older` is the path of the events before these, or None.

    `away` has the reason for each bus whose log could not be read.
    """

    template: ClassVar = "alerts.html"
    frame: Frame
    query: AlertQuery
    events: tuple[AlertView, ...] = ()
    older: str | None = None
    types: tuple[str, ...] = ()
    away: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertPage:
    """One event by its id, with its indented JSON; `buses` are those whose log has it."""

    template: ClassVar = "alert.html"
    frame: Frame
    event: AlertView
    raw: str = ""
    buses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IncidentsPage:
    """What is down and since when, silences, pending and dead messages: all of it is in the snapshot."""

    template: ClassVar = "incidents.html"
    frame: Frame


@dataclass(frozen=True, slots=True)
class DeadMessageView:
    """A message that a channel refused for good, and why; `ts` is when, in epoch seconds, if it is known."""

    id: str
    channel: str
    reason: str
    ts: float | None
    title: str
    text: str
    severity: str


@dataclass(frozen=True, slots=True)
class NotificationsPage:
    """What the notifier has still to send, which is in the snapshot, and the messages that it gave up.

    `dead` are the newest of these, the newest first; `away` has the reason for each bus that was not read.
    """

    template: ClassVar = "notifications.html"
    frame: Frame
    dead: tuple[DeadMessageView, ...] = ()
    away: Mapping[str, str] = field(default_factory=dict)


Place = tuple[str, str]
"""A bus and a key on it."""


def is_monitoring(flow: FlowView) -> bool:
    """Return True if a key serves to monitor the fleet, and carries none of its work."""
    return flow.key.startswith(RESERVED_PREFIXES) or flow.key in _MESH_KEYS


@dataclass(frozen=True, slots=True)
class TopologyPage:
    """The flow of data between services.

    `faults` has what is wrong with a key, in words, by its bus and name; `notes` say what limits the page,
    such as a mesh that is away.
    """

    template: ClassVar = "topology.html"
    frame: Frame
    flows: tuple[FlowView, ...] = ()
    faults: Mapping[Place, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def work(self) -> tuple[FlowView, ...]:
        """The keys that carry the fleet's work."""
        return tuple(one for one in self.flows if not is_monitoring(one))

    @property
    def monitoring(self) -> tuple[FlowView, ...]:
        """The keys by which the fleet is monitored."""
        return tuple(one for one in self.flows if is_monitoring(one))

    @property
    def states(self) -> Mapping[str, ServiceState]:
        """The state of each service that is known."""
        return {one.svc: one.state for one in self.frame.snapshot.services}

    @property
    def picture(self) -> Picture | None:
        """The picture of the fleet's work; None if there is nothing, or too much, to draw."""
        return draw_picture(self.work, self.faults, self.states)


@dataclass(frozen=True, slots=True)
class RevisionView:
    """A revision of the truth; `seeded_at` is in epoch seconds, None if it is unknown."""

    revision: int
    seeded_at: float | None
    seeded_by: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ProblemView:
    """An error or a warning of a document: its path, its words, and its line in the text if that is known."""

    path: str
    message: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class DiffLine:
    """A line of the difference of two documents: ` ` is in both, `-` in the older, `+` in the newer one."""

    mark: Literal[" ", "-", "+", "@"]
    text: str


@dataclass(frozen=True, slots=True)
class TruthPage:
    """The truth in force as text, and the revisions, the newest first; `diff` compares `older` with `newer`.

    Passwords in URLs are left out. `may_edit` says that the truth lets the board change it. Which service
    applies which revision is in the snapshot.
    """

    template: ClassVar = "truth.html"
    frame: Frame
    text: str = ""
    revisions: tuple[RevisionView, ...] = ()
    older: int | None = None
    newer: int | None = None
    diff: tuple[DiffLine, ...] = ()
    may_edit: bool = False

    @property
    def behind(self) -> tuple[ServiceSnapshot, ...]:
        """The services that say that they apply another revision than the one in force."""
        revision = self.frame.snapshot.revision
        return tuple(one for one in self.frame.snapshot.services if one.rev not in (None, revision))

    @property
    def current(self) -> int:
        """How many services say that they apply the revision in force."""
        revision = self.frame.snapshot.revision
        return sum(one.rev == revision for one in self.frame.snapshot.services if one.rev is not None)

    @property
    def silent(self) -> tuple[str, ...]:
        """The services that don't say which revision they apply."""
        return tuple(one.svc for one in self.frame.snapshot.services if one.rev is None)


@dataclass(frozen=True, slots=True)
class TruthEditPage:
    """A document in a field, with its errors; `base` is the SHA-256 of the one that its author has seen."""

    template: ClassVar = "truth_edit.html"
    frame: Frame
    text: str = ""
    base: str = ""
    errors: tuple[ProblemView, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class TruthReviewPage:
    """What seeding a document, or a revision again, would change in the truth in force.

    `base` is the SHA-256 of the truth in force, to which it is compared. `text` is the document; it is empty
    if `revision` says which one it is. `same` is True if the document is in force already.
    """

    template: ClassVar = "truth_review.html"
    frame: Frame
    base: str
    changes: tuple[str, ...] = ()
    warnings: tuple[ProblemView, ...] = ()
    diff: tuple[DiffLine, ...] = ()
    text: str = ""
    revision: int | None = None
    same: bool = False
    may_edit: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PublicService:
    """A service on the public page: its name in words, its state (up, down or unknown), and its last days."""

    svc: str
    name: str
    state: ServiceState
    days: tuple[PastDay, ...] = ()


@dataclass(frozen=True, slots=True)
class PublicPage:
    """The status for the public: only services that the truth marks so. `at` is in epoch seconds.

    `tag` is the tag of a page that shows a part; `tags` are all that have such a page. `current` and `past`
    are announcements; `is_lacking` means that newer ones could not be read.
    """

    template: ClassVar = "public.html"
    title: str
    at: float
    services: tuple[PublicService, ...] = ()
    assets: str = "/static/0"
    tag: str = ""
    tags: tuple[str, ...] = ()
    current: tuple[Announcement, ...] = ()
    past: tuple[Announcement, ...] = ()
    is_lacking: bool = False

    @property
    def has_days(self) -> bool:
        """Whether the days of any service are shown."""
        return any(one.days for one in self.services)


@dataclass(frozen=True, slots=True)
class AnnouncementsPage:
    """The page on which people write announcements; `tags` are those that one may concern.

    `problem` says why newer ones could not be read.
    """

    template: ClassVar = "announcements.html"
    frame: Frame
    current: tuple[Announcement, ...] = ()
    past: tuple[Announcement, ...] = ()
    tags: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """Why a request has no page: the HTTP status, a title and a text."""

    template: ClassVar = "error.html"
    status: int
    title: str
    text: str
    assets: str = "/static/0"


@dataclass(frozen=True, slots=True)
class SignInPage:
    """The field for a token, and why it is asked for again; `session` is who is signed in already.

    `back` and `svc` name the page to go on with.
    """

    template: ClassVar = "sign_in.html"
    back: str = ""
    svc: str = ""
    problem: str = ""
    session: SessionView | None = None
    assets: str = "/static/0"
    title: str = "Sign in"


Page = (
    FleetPage
    | ServicePage
    | AlertsPage
    | AlertPage
    | IncidentsPage
    | NotificationsPage
    | TopologyPage
    | TruthPage
    | TruthEditPage
    | TruthReviewPage
    | PublicPage
    | AnnouncementsPage
    | SignInPage
    | ErrorPage
)


def render(page: Page) -> str:
    """Return the HTML of a page."""
    return load_environment().get_template(page.template).render(page=page)


@lru_cache(maxsize=1)
def load_environment() -> Environment:
    """Return the environment of the templates; the functions of `view.py` are their filters."""
    environment = Environment(
        loader=PackageLoader("services.board"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


def select_services(snapshot: FleetSnapshot, query: FleetQuery, frame: Frame) -> FleetPage:
    """Return the page of the services that match a query."""
    found = sort_services([one for one in snapshot.services if _matches(one, query)], query)
    shown = found[query.start : query.start + query.rows]
    tags = sorted({tag for one in snapshot.services for tag in one.tags})
    return FleetPage(frame, query, group_services(shown, query.group), len(found), tuple(tags))


def _matches(service: ServiceSnapshot, query: FleetQuery) -> bool:
    """Return True if a service matches every part of the query."""
    words = (service.svc, service.description, *service.tags)
    return (
        (not query.text or any(query.text.casefold() in word.casefold() for word in words))
        and (not query.states or service.state in query.states)
        and (not query.tag or query.tag in service.tags)
        and (not query.bus or query.bus == service.bus)
    )


def sort_services(services: Sequence[ServiceSnapshot], query: FleetQuery) -> list[ServiceSnapshot]:
    """Return the services in the order that the query asks for; equal ones stay in the order of the truth."""
    match query.sort:
        case "name":
            return sorted(services, key=lambda one: one.svc)
        case "silence":
            return sorted(services, key=lambda one: one.last_beat_at or 0.0)
        case "restarts":
            return sorted(services, key=lambda one: -(one.restarts or 0))
        case "uptime":
            return sorted(services, key=lambda one: _uptime_key(one, query.window))
        case _:
            return sorted(services, key=lambda one: URGENCY[one.state])


def _uptime_key(service: ServiceSnapshot, window: Window) -> float:
    """Return the share of a window in which a service was up; an unknown one comes last."""
    uptime = service.uptime.get(window)
    return 2.0 if uptime is None or uptime.share is None else uptime.share


def group_services(services: Sequence[ServiceSnapshot], group: Group) -> tuple[ServiceGroup, ...]:
    """Return the services in groups, each group at the place of its first service.

    By tag, a service is in the group of its first tag.
    """
    if not group:
        return (ServiceGroup("", tuple(services)),)
    found: dict[str, list[ServiceSnapshot]] = {}
    for one in services:
        names = {"tag": one.tags[0] if one.tags else "", "bus": one.bus, "state": str(one.state)}
        found.setdefault(names[group] or "without a tag", []).append(one)
    return tuple(ServiceGroup(name, tuple(some)) for name, some in found.items())
