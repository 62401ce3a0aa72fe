"""Hold what the answers of the board are made from: the fleet as it was read, and what every page shows."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from starlette.requests import Request

from marketswarm.agent import Agent
from marketswarm.bus import Bus
from marketswarm.history.fleet_history import FleetHistory
from marketswarm.keys import ALERTS
from marketswarm.status.topology import read_topology
from marketswarm.status.topology_view import TopologyView
from marketswarm.truth import Truth
from marketswarm.web.event_stream import StreamHub
from marketswarm.web.responses import Templates
from marketswarm.web.sessions import BrowserSession, SessionGate
from services.board.fleet.frame import Frame, Section
from services.board.fleet.incident_record import HeldRules, IncidentRecord, read_held_rules
from services.board.fleet.reader import STALE_SEC, FleetReader
from services.board.fleet.snapshot import FleetSnapshot
from services.board.settings import BoardEnvironment, BoardSettings, PublicSettings

REFRESH_SEC: Final = 1.5  # how long the answer to a form waits until the board has read what the form changed


class NotReady(Exception):  # noqa: N818 - becomes an answer
    """The board has not read the fleet yet, so there is nothing to show."""


@dataclass(frozen=True, slots=True)
class FleetBoard:
    """What the answers of every part of the board are made from: the fleet, and who is signed in.

    `list_sections` returns the menu for a person who is signed in, or for None.
    """

    me: Agent[BoardEnvironment]
    settings_now: Callable[[], BoardSettings]
    reader: FleetReader
    hub: StreamHub
    history_now: Callable[[], FleetHistory | None]
    gate: SessionGate
    record: IncidentRecord
    templates: Templates
    list_sections: Callable[[BrowserSession | None], Sequence[Section]]

    @property
    def truth(self) -> Truth:
        return self.me.truth

    @property
    def snapshot(self) -> FleetSnapshot:
        """The latest snapshot. Raises NotReady before the first one."""
        if self.reader.snapshot is None:
            raise NotReady("the fleet was not read yet")
        return self.reader.snapshot

    @property
    def public(self) -> PublicSettings:
        return self.settings_now().settings.public

    def is_current(self) -> bool:
        return self.reader.age_sec(time.monotonic()) <= STALE_SEC + self.reader.interval_sec()

    def find_problem(self) -> str | None:
        """Return why the board shows old or incomplete data; None if it doesn't."""
        if not self.is_current():
            return "the fleet was not read"
        return None if self.reader.problem is None else f"away: {self.reader.problem}"

    @property
    def buses(self) -> Sequence[Bus]:
        return self.reader.buses()

    def make_frame(self, title: str, path: str) -> Frame:
        return Frame(title, path, self.snapshot, self.hub.position, self.list_sections(None))

    async def make_session_frame(self, request: Request, title: str, path: str) -> Frame:
        """Return the frame of a page that knows who is signed in. Raises NotReady."""
        session = await self.gate.find_session(request)
        said = request.query_params.get("said", "")
        notice = None if session is None else session.find_notice(said)
        frame = self.make_frame(title, path)
        return replace(frame, session=session, notice=notice, sections=self.list_sections(session))

    async def refresh(self) -> None:
        """Return once the snapshot has what a form changed, or after REFRESH_SEC."""
        await self.reader.read_soon(REFRESH_SEC)

    async def read_held_rules(self) -> HeldRules:
        """Return the rules of the medic that hold, and what massive and sources have down.

        They are on the bus of the alerts.
        """
        name, _ = self.truth.alert_target(ALERTS)
        return await read_held_rules(lambda: self.me.bus(name), self.truth.services)

    async def read_topology(self) -> TopologyView:
        return await read_topology(self.truth, self.me.revision, self.me.bus)
