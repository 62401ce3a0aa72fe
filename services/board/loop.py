"""The main loop of the board: read the fleet, pass on what changed, and answer browsers beside that."""

import asyncio
import gc
import time
from functools import partial
from typing import Final

from starlette.types import ASGIApp

from marketswarm.agent import agent
from marketswarm.web.clients import GATEWAY, ClientFinder, find_networks
from marketswarm.web.event_stream import StreamHub
from marketswarm.web.server import open_socket, open_tls_listener, serve
from services.board.answer_times import AnswerTimes
from services.board.app import create_app
from services.board.backtests.backtests import Backtests
from services.board.board import Board
from services.board.fleet.history import HistoryBuilder
from services.board.fleet.pages import write_turned
from services.board.fleet.reader import FleetReader
from services.board.fleet.recorder import create_recorder
from services.board.market.market import Market
from services.board.market.price_cells import run_price_cells
from services.board.metrics import collect_backtests, collect_board, collect_market
from services.board.pings.gate import PingGate
from services.board.pings.management import create_pings
from services.board.settings import BoardEnvironment, BoardSettings
from services.board.signals.signals import SignalBoard
from services.board.site_rules import make_rules
from services.board.templates import TEMPLATES

GC_OBJECTS: Final = 50_000
"""The new objects after which the garbage collector looks for cycles: a look at a large fleet makes more, and
most of them without any."""


async def main() -> int:
    gc.set_threshold(GC_OBJECTS)
    async with agent("board", BoardEnvironment) as me:
        settings_now = me.config(BoardSettings)
        hub = StreamHub(me.boot, lambda: settings_now().settings.max_streams)
        recorder, past = create_recorder(me), HistoryBuilder()
        reader = FleetReader(
            me,
            settings_now,
            hub,
            history_now=lambda: past.build(recorder.history, time.time()),
            write_rows=partial(write_turned, TEMPLATES),
        )
        port = me.settings.board_port
        listening = open_socket(me.settings.board_host, port, "BOARD")
        tls_port = me.settings.board_tls_port or port
        tls = open_tls_listener(me.settings.board_tls_host, tls_port, me.settings.board_tls_pem, "BOARD")
        board = Board(reader, lambda: recorder.history)
        market = Market(me, lambda: settings_now().settings.market)

        def close_streams() -> None:
            hub.close()
            market.hub.close()

        backtests = Backtests(me.settings, market, board.audit, lambda: me.truth)
        signals = SignalBoard(market, lambda: me.truth)
        rules = make_rules(me.settings)
        # in a thread: it takes a second of a processor, and a loop that stands still so long counts as hung
        app = await asyncio.to_thread(create_app, board, market, backtests, signals, rules)
        pings, management = create_pings(board.fleet, board.keys, board.steering, board.editor.add_service)
        gate = PingGate(app, rules, pings, app.responses, management)
        answers = AnswerTimes(gate)
        me.task(
            serve(
                add_clients(answers, me.settings),
                listening,
                lambda: hub.max_streams_now() + market.hub.max_followers_now(),
                close_streams,
                tls,
            ),
            name="http",
        )
        me.task(market.run(), name="market")
        me.task(run_price_cells(market), name="market prices")
        me.task(backtests.run(), name="backtests")
        me.task(recorder.run(), name="history")
        me.task(pings.keys.run(), name="ping keys")
        me.on_reseed(lambda _truth: board.brand.read())
        board.brand.read()
        me.on_reseed(reader.follow)
        reader.follow(me.truth)
        me.expose(partial(collect_board, reader, app, recorder, pings.writer, answers, tls=tls))
        me.expose(partial(collect_market, market))
        me.expose(partial(collect_backtests, backtests.queue))
        me.log.info("board.listening", host=me.settings.board_host, port=port)
        if tls is not None:
            me.log.info("board.listening", host=me.settings.board_tls_host, port=tls_port, tls=True)
        while True:
            await reader.read()
            unrecorded = f"history not recorded: {recorder.error}" if recorder.error else None
            me.set_degraded(reader.problem or unrecorded or market.problem)
            count = len(hub)
            me.set_detail(
                "1 browser follows" if count == 1 else f"{count} browsers follow" if count else None
            )
            await reader.pause()
    return me.exit_code


def add_clients(app: ASGIApp, settings: BoardEnvironment) -> ASGIApp:
    """Return the application with what finds out who the client of a request is, by the settings."""
    open_to, trusted = settings.board_open_to or "", settings.board_trusted_proxies or ""
    gateway = find_networks(GATEWAY) if GATEWAY in f"{open_to},{trusted}".split(",") else ()
    proxies = find_networks(trusted)
    return ClientFinder(app, proxies, gateway) if proxies or gateway else app
