"""Hold what every page has around its own content."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from marketswarm.web.sessions import BrowserSession, PageNotice
from services.board.fleet.snapshot import FleetSnapshot
from services.board.fleet.words import AGES

Section = tuple[str, str]
"""The path and the name of a page in the menu."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page has around its own content.

    `position` is the id of the last event of the stream that `snapshot` includes; the page's script follows
    the stream from there on, and counts ages in the units of `ages`. `sections` are the paths and names of
    the menu. `session` is there on pages with forms if a person is signed in, and `notice` says what became
    of the form that led there, if one did.
    """

    ages: ClassVar = AGES
    title: str
    path: str
    snapshot: FleetSnapshot
    position: str
    sections: Sequence[Section] = ()
    session: BrowserSession | None = None
    notice: PageNotice | None = None
