"""The main loop of the board: read the fleet, pass on what changed, and answer browsers beside that."""

from typing import Final

from marketswarm.agent import agent
from services.board.app import create_app
from services.board.board import Board
from services.board.fleet_reader import FleetReader
from services.board.server import open_socket, serve
from services.board.settings import BoardEnvironment, BoardSettings
from services.board.stream import StreamHub

BUS_SEC: Final = 15.0  # longer than a reading may take: waiting for a bus must not count as hanging


async def main() -> int:
    """Run the board until it is asked to stop; return its exit code."""
    async with agent("board", BoardEnvironment) as me:
        settings_now = me.config(BoardSettings)
        max_streams = settings_now().settings.max_streams
        hub = StreamHub(me.boot, max_streams)
        reader = FleetReader(me, settings_now, hub)
        listening = open_socket(me.settings.board_host, me.settings.board_port)
        app = create_app(Board(me, settings_now, reader, hub))
        me.task(serve(app, listening, max_streams, hub.close), name="http")
        for bus in me.truth.bus_names():
            me.task(reader.follow_alerts(bus), name=f"alerts of {bus}")
        me.log.info("board.listening", host=me.settings.board_host, port=me.settings.board_port)
        while True:
            async with me.waiting(BUS_SEC):
                await reader.read()
            me.set_degraded(reader.problem)
            me.set_detail(f"{len(hub)} browsers follow" if len(hub) else None)
            await reader.pause()
    return me.exit_code
