"""Define what every page has around its own content: the fleet as it is, and who is signed in. Pure."""

from dataclasses import dataclass, field

from marketswarm.operator.token import Scope
from services.board.sessions import PageNotice
from services.board.snapshot import FleetSnapshot


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
