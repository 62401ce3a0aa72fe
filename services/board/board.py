"""Put together what the answers of the board are made from, and what changes the fleet for clients.

The pages, the API and the pings share one of each. So a token's writes and an address's wrong tokens count
once, whichever way they come, and one of them at a time edits the truth. The packages below take of this what
they need, and none of them imports this module.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial

from marketswarm.history.fleet_history import FleetHistory
from marketswarm.truth import SYSTEM, Truth
from marketswarm.web.audit import AuditLog
from marketswarm.web.sessions import BrowserSession, SessionGate
from marketswarm.web.tokens import TokenVerifier
from services.board.actions.announcements import AnnouncementBoard
from services.board.actions.steering import HealingSteering, Steering
from services.board.brand.brand import BrandFiles
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.frame import Section
from services.board.fleet.incident_record import IncidentRecord
from services.board.fleet.reader import FleetReader
from services.board.fleet.topology import is_monitoring_key
from services.board.market.feed import list_market_buses
from services.board.pings.key_pages import KEYS
from services.board.pings.key_ring import KeyRing
from services.board.pings.key_steering import KeySteering
from services.board.settings import PublicSettings
from services.board.templates import TEMPLATES
from services.board.truth.editor import TruthEditor
from services.board.truth.pages import TruthBoard


class Board:
    """The parts that answer requests: what they read, and what steers the fleet and edits the truth."""

    def __init__(self, reader: FleetReader, history_now: Callable[[], FleetHistory | None]) -> None:
        me, hub, settings_now = reader.me, reader.hub, reader.settings_now
        find_system = partial(me.bus, SYSTEM)

        def get_truth() -> Truth:
            return me.truth

        def may_seed() -> bool:
            return settings_now().settings.seed

        audit, record = AuditLog(find_system, "board"), IncidentRecord(find_system)
        self.audit = audit
        self.verifier = TokenVerifier(find_system, "board")
        self.gate = SessionGate(self.verifier, f"board_{me.settings.board_port}")
        self.steering = Steering(reader.buses, audit, get_truth)
        self.healing = HealingSteering(find_system, audit, record)
        self.announcements = AnnouncementBoard(find_system, audit, lambda: self.fleet.public)
        self.editor = TruthEditor(reader.buses, audit, get_truth, may_seed, me.settings.truth_redis_key)
        self.keys = KeyRing(find_system, os.environ)
        self.ping_keys = KeySteering(find_system, audit, get_truth, may_seed)
        self.brand = BrandFiles(lambda: settings_now().settings.brand, me.settings.board_brand_folder, me.log)
        templates = TEMPLATES.replace_functions({"find_brand": self.brand.get})
        self._menu: tuple[Truth | None, PublicSettings | None, Sequence[Section]] = None, None, ()
        self.fleet = FleetBoard(
            me, settings_now, reader, hub, history_now, self.gate, record, templates, self._list_sections
        )
        self.truth = TruthBoard(self.fleet, self.editor, self.keys)

    def _list_sections(self, session: BrowserSession | None) -> Sequence[Section]:
        truth, public, menu = self._menu
        if truth is not self.fleet.truth or public is not self.fleet.public:
            truth, public = self.fleet.truth, self.fleet.public
            menu = list_sections(truth, public, may_seed=self.editor.may_seed())
            self._menu = truth, public, menu
        own = (KEYS,) if session is not None and session.may_write else ()
        return (*menu, *own)


def list_sections(truth: Truth, public: PublicSettings, *, may_seed: bool = False) -> tuple[Section, ...]:
    """Return the menu in its order.

    The topology needs a service that passes something on to others, the market one that publishes prices, and
    the public page one that it shows. `may_seed` says that the truth lets the board change it, which is to be
    so for "Add". The pages answer all the same, and say what is missing.
    """
    beats = {watch.channel for watch in truth.watched()}
    keys = (
        point.key
        for section in truth.services.values()
        for point in (*section.access_points.publish_to, *section.access_points.subscribe_to)
    )
    has_work = any(not is_monitoring_key(key) and key not in beats for key in keys)
    sections = (
        (("/", "Fleet"), True),
        (("/incidents", "Incidents"), True),
        (("/alerts", "Alerts"), True),
        (("/topology", "Topology"), has_work),
        (("/truth", "Truth"), True),
        (("/notifications", "Notifications"), True),
        (("/truth/add", "Add"), may_seed),
        (("/market", "Market"), list_market_buses(truth)),
        (("/public", "Public"), public.services or public.tags),
    )
    return tuple(section for section, is_shown in sections if is_shown)
