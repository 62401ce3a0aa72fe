"""Define what each page shows, one dataclass per template, and render it.

A template has its dataclass as `page`, and nothing else: it reads values and makes no decisions about the
fleet. Autoescape is on, an unknown name in a template is an error, and no text in a page is ever markup.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import ClassVar, Final, Literal
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from marketswarm.keys import MESH_EVENTS, MESH_FLOW, MESH_TOPOLOGY, RESERVED_PREFIXES
from marketswarm.operator.announcement import Announcement
from marketswarm.status.topology_view import FlowView, InstanceView
from services.board.beat_log import BeatTimes
from services.board.fleet_page import FleetPage
from services.board.frame import Frame, SessionView
from services.board.job_runs import RunView
from services.board.past import NO_PAST, Past, PastDay
from services.board.snapshot import ServiceSnapshot, ServiceState
from services.board.topology_picture import Picture, draw_picture
from services.board.view import FILTERS

_MESH_KEYS: Final = (MESH_TOPOLOGY, MESH_EVENTS, MESH_FLOW)


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
