"""Put together what answers pings, from the agent and the settings in force."""

import os

from marketswarm.truth import SYSTEM, Truth
from services.board.board import Board, Controls
from services.board.pings.creation import ServiceCreator
from services.board.pings.desk import PingDesk
from services.board.pings.directory import PingDirectory
from services.board.pings.key_ring import KeyRing
from services.board.pings.management import ManagementApi
from services.board.pings.pauses import ServicePauses
from services.board.pings.writer import PingWriter


def create_pings(board: Board, controls: Controls) -> tuple[PingDesk, ManagementApi]:
    """Return what takes pings, and the management API; they follow each truth that comes into force."""
    me = board.me
    keys = KeyRing(lambda: me.bus(SYSTEM), os.environ)
    made: tuple[Truth, PingDirectory] | None = None

    def find_directory() -> PingDirectory:
        nonlocal made
        if made is None or made[0] is not me.truth:
            made = me.truth, PingDirectory(me.truth, me.settings.default_timeout_sec)
        return made[1]

    def follow() -> None:
        services = frozenset(me.truth.services).union(find_directory().names)
        keys.follow(board.settings_now().settings.pings, services)

    follow()
    me.on_reseed(lambda _truth: follow())
    writer = PingWriter(me.bus, me.boot, lambda work, name: me.task(work, name=name))
    desk = PingDesk(find_directory, keys, writer)
    desk.creator = ServiceCreator(controls.editor.add_service)
    desk.pauses = ServicePauses(lambda: board.buses, controls.steering, lambda: board.reader.snapshot)
    url = me.settings.board_public_url
    return desk, ManagementApi(board, controls.verifier, keys, desk.pauses, url)
