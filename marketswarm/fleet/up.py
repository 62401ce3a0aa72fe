"""`marketswarm up` from claim to goodbye: one fleet in one data folder, until a signal ends it."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

from marketswarm.acl import OPERATOR
from marketswarm.exit import exit_in
from marketswarm.fleet import folder
from marketswarm.fleet.control import controlled
from marketswarm.fleet.screen import Screen
from marketswarm.fleet.speech import Speech
from marketswarm.fleet.swarm import Orders, Swarm
from marketswarm.fleet.voice import Voice

_STDERR = 2


async def run(orders: Orders, screen: Screen | None, summary: Callable[[list[str]], list[str]]) -> None:
    """Runs the fleet until SIGINT, SIGTERM or SIGHUP, a second of which ends it at once.

    The data folder must be claimed. `summary` gives what a person reads once these agents are up.

    Raises:
        Exit: it could not be brought up. By then no child is left.
    """
    leave, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    voice = Voice(_STDERR, lambda: loop.call_soon_threadsafe(leave.set))
    speech = Speech(voice, screen)
    _on_signals(leave, hurry)
    swarm = Swarm(orders, speech.tell, speech.hear, hurry)
    address = folder.control_address(orders.data)
    buses = {bus.name: bus.url for bus in orders.plan.buses}
    try:
        async with swarm.alive(), controlled(address, swarm.agents):
            folder.publish(orders.data, folder.Running(os.getpid(), address, buses, _keys(orders)))
            await _unless(leave, _life(swarm, orders, speech, summary))
            speech.tell("fleet.stopping", agents=list(swarm.agents), servers=list(swarm.servers))
        speech.tell("fleet.stopped")
    except BaseExceptionGroup as group:
        raise (exit_in(group) or group) from None
    finally:
        folder.withdraw(orders.data)
        voice.close()


async def _life(
    swarm: Swarm, orders: Orders, speech: Speech, summary: Callable[[list[str]], list[str]]
) -> None:
    """Brings all up and says so; then the children go on by themselves."""
    begun = time.monotonic()
    speech.tell("fleet.starting", agents=list(swarm.agents), data=str(orders.data))
    for bus in orders.plan.buses:
        if bus.port is None:
            speech.tell("bus.used", bus=bus.name, why="the environment or the truth says where it is")
    if orders.plan.elsewhere:
        speech.tell("fleet.elsewhere", services=orders.plan.elsewhere, why="no module here runs them")
    await swarm.bring_up()
    agents = await swarm.all_up()
    if speech.on_screen:
        speech.show(summary(agents))
    else:
        urls = {bus.name: bus.url for bus in orders.plan.buses if bus.port is not None}
        took_sec = round(time.monotonic() - begun, 3)
        metrics = {agent.name: agent.metrics_port for agent in orders.plan.agents if agent.metrics_port}
        facts: dict[str, Any] = {"metrics": metrics} if metrics else {}
        speech.tell("fleet.up", agents=agents, buses=urls, took_sec=took_sec, **facts)


def _keys(orders: Orders) -> dict[str, str]:
    """The files that let an operator in, by bus."""
    files = orders.guard.files[OPERATOR] if orders.guard else {}
    return {bus: str(path) for bus, path in files.items()}


async def _unless(leave: asyncio.Event, life: Coroutine[Any, Any, None]) -> None:
    """Returns when `leave` is set; `life` has ended or was given up by then. Raises what `life` raises."""
    work, gone = asyncio.ensure_future(life), asyncio.ensure_future(leave.wait())
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
            await gone
    finally:
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


def _on_signals(leave: asyncio.Event, hurry: asyncio.Event) -> None:
    def ended() -> None:
        (hurry if leave.is_set() else leave).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup means it
            loop.add_signal_handler(number, ended)
