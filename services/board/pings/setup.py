"""Put together what answers pings, from the agent and the settings in force."""

import os
from collections.abc import Callable

from marketswarm.agent import Agent
from marketswarm.truth import SYSTEM, Truth
from services.board.board import Board, Controls
from services.board.pings.creation import ServiceCreator
from services.board.pings.desk import PingDesk
from services.board.pings.directory import PingDirectory
from services.board.pings.key_ring import KeyRing
from services.board.pings.management import ManagementApi
from services.board.pings.pauses import ServicePauses
from services.board.pings.writer import PingWriter
from services.board.settings import BoardEnvironment, BoardSettings


def create_ping_desk(me: Agent[BoardEnvironment], settings_now: Callable[[], BoardSettings]) -> PingDesk:
    """Return what takes pings; it follows each truth that comes into force."""
    keys = KeyRing(lambda: me.bus(SYSTEM), os.environ)
    made: tuple[Truth, PingDirectory] | None = None

    def find_directory() -> PingDirectory:
        """Return the services of the truth in force."""
        nonlocal made
        if made is None or made[0] is not me.truth:
            made = me.truth, PingDirectory(me.truth, me.settings.default_timeout_sec)
        return made[1]

    def follow() -> None:
        """Take over the keys and the services of the truth in force."""
        keys.follow(settings_now().settings.pings, frozenset(me.truth.services).union(find_directory().names))

    follow()
    me.on_reseed(lambda _truth: follow())
    writer = PingWriter(me.bus, me.boot, lambda work, name: me.task(work, name=name))
    return PingDesk(find_directory, keys, writer)


def create_creator(controls: Controls) -> ServiceCreator:
    """Return what adds services to the truth for pings."""
    return ServiceCreator(controls.editor.add_service)


def create_pauses(board: Board, controls: Controls) -> ServicePauses:
    """Return what pauses services, and ends that."""
    return ServicePauses(lambda: board.buses, controls.steering, lambda: board.reader.snapshot)


def create_management(
    board: Board, controls: Controls, keys: KeyRing, pauses: ServicePauses
) -> ManagementApi:
    """Return the management API of a board."""
    return ManagementApi(board, controls.verifier, keys, pauses, board.me.settings.board_public_url)
