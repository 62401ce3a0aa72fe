"""Hold what the answers of the board are made from, and what changes the fleet for clients.

The pages, the API and the pings share one of each. So a token's writes and an address's wrong tokens count
once, whichever way they come, and one of them at a time edits the truth.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from starlette.requests import Request

from marketswarm.agent import Agent
from marketswarm.bus import Bus, BusError
from marketswarm.history.fleet_history import FleetHistory
from marketswarm.keys import ALERTS
from marketswarm.status.topology import read_topology
from marketswarm.status.topology_view import TopologyView
from marketswarm.truth import MEDIC, SYSTEM, Truth
from marketswarm.web.audit import AuditLog
from marketswarm.web.responses import Templates
from marketswarm.web.sessions import SessionGate
from marketswarm.web.tokens import TokenVerifier
from services.board.actions.announcements import AnnouncementBoard
from services.board.actions.ping_keys import KeySteering
from services.board.actions.steering import HealingSteering, Steering
from services.board.fleet.frame import Frame
from services.board.fleet.incident_record import (
    HeldRules,
    IncidentRecord,
    read_down_targets,
    read_held_rules,
)
from services.board.fleet.reader import STALE_SEC, FleetReader
from services.board.fleet.snapshot import FleetSnapshot
from services.board.fleet.stream import StreamHub
from services.board.menu import KEYS, Section, list_sections
from services.board.pings.key_ring import KeyRing
from services.board.settings import BoardEnvironment, BoardSettings, PublicSettings
from services.board.truth.editor import TruthEditor

REFRESH_SEC: Final = 1.5  # how long the answer to a form waits until the board has read what the form changed

_PROBING: Final = frozenset({"massive", "sources"})
"""The services that keep the state of what they ask, such as pages and sources of the market."""


class NotReady(Exception):  # noqa: N818 - becomes an answer
    """The board has not read the fleet yet, so there is nothing to show."""

    def __init__(self) -> None:
        super().__init__("the fleet was not read yet")


class Board:
    """The parts that answer requests: what they read, and what steers the fleet and edits the truth."""

    def __init__(
        self,
        me: Agent[BoardEnvironment],
        settings_now: Callable[[], BoardSettings],
        reader: FleetReader,
        hub: StreamHub,
        history_now: Callable[[], FleetHistory | None],
        *,
        templates: Templates,
    ) -> None:
        self.me, self.settings_now, self.reader, self.hub = me, settings_now, reader, hub
        self.history_now, self.templates = history_now, templates
        self.audit = AuditLog(self._find_system, "board")
        self.verifier = TokenVerifier(self._find_system, "board")
        self.gate = SessionGate(self.verifier, f"board_{me.settings.board_port}")
        self.steering = Steering(lambda: self.buses, self.audit, lambda: self.truth)
        self.editor = TruthEditor(
            lambda: self.buses,
            self.audit,
            lambda: self.truth,
            lambda: settings_now().settings.seed,
            me.settings.truth_redis_key,
        )
        self.keys = KeyRing(self._find_system, os.environ)
        self.ping_keys = KeySteering(
            self._find_system, self.audit, lambda: self.truth, lambda: settings_now().settings.seed
        )
        self._menu: tuple[Truth | None, PublicSettings | None, tuple[Section, ...]] = None, None, ()
        self.record = IncidentRecord(self._find_system)
        self.healing = HealingSteering(self._find_system, self.audit, self.record)
        self.announcements = AnnouncementBoard(self._find_system, self.audit, lambda: self.public)

    def _find_system(self) -> Bus:
        return self.me.bus(SYSTEM)

    @property
    def truth(self) -> Truth:
        return self.me.truth

    @property
    def snapshot(self) -> FleetSnapshot:
        """The latest snapshot. Raises NotReady before the first one."""
        if self.reader.snapshot is None:
            raise NotReady
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
        truth, public, menu = self._menu
        if truth is not self.truth or public is not self.public:
            menu = list_sections(self.truth, self.public, may_seed=self.editor.may_seed())
            self._menu = self.truth, self.public, menu
        return Frame(title, path, self.snapshot, self.hub.position, menu)

    async def make_session_frame(self, request: Request, title: str, path: str) -> Frame:
        """Return the frame of a page that knows who is signed in. Raises NotReady."""
        session = await self.gate.find_session(request)
        said = request.query_params.get("said", "")
        notice = None if session is None else session.find_notice(said)
        frame = self.make_frame(title, path)
        own = (KEYS,) if session is not None and session.may_write else ()
        return replace(frame, session=session, notice=notice, sections=(*frame.sections, *own))

    async def refresh(self) -> None:
        """Return once the snapshot has what a form changed, or after REFRESH_SEC."""
        await self.reader.read_soon(REFRESH_SEC)

    async def read_held_rules(self) -> HeldRules:
        """Return the rules of the medic that hold, and what massive and sources have down.

        They are on the bus of the alerts.
        """
        name, _ = self.truth.alert_target(ALERTS)
        rules, targets = HeldRules(), HeldRules()
        try:
            bus = self.me.bus(name)
        except BusError as error:
            return HeldRules(away=f"bus {error.bus}: {error.reason}")
        if MEDIC in self.truth.services:  # a medic that was taken out leaves its record
            rules = await read_held_rules(bus)
        if not _PROBING.isdisjoint(self.truth.services):
            targets = await read_down_targets(bus)
        return replace(rules, targets=targets.targets, away=rules.away or targets.away)

    async def read_topology(self) -> TopologyView:
        return await read_topology(self.truth, self.me.revision, self.me.bus)
