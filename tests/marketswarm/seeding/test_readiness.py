"""What is said of a bus that did not answer in time."""

import asyncio

import pytest

from marketswarm.bus import Bus, BusError
from marketswarm.seeding.readiness import wait_for_healer_access, wait_until_all_answer
from marketswarm.seeding.transaction import SeedError
from support.rig import Server
from support.scenes.seeding import NEW, OLD, SYSTEM, GuardedServer
from support.waiting import auntil


class Locked:
    """A bus that asks for a password, where it has the time to say so."""

    name, where = "system-redis", "nowhere"

    def __init__(self, least_sec: float) -> None:
        self.least_sec, self.client = least_sec, self

    def ping(self) -> None:
        """What is asked."""

    async def ask(self, _request: None, within_sec: float) -> None:
        raise BusError(self.name, "auth" if within_sec >= self.least_sec else "timeout")


async def test_a_last_look_that_had_no_time_does_not_hide_why_it_was_silent():
    with pytest.raises(SeedError, match="auth"):
        await wait_until_all_answer([Locked(least_sec=0.15)], 0.5)


async def test_of_one_that_never_had_the_time_that_is_what_is_said():
    with pytest.raises(SeedError) as caught:
        await wait_until_all_answer([Locked(least_sec=9.0), Locked(least_sec=0.0)], 0.3)
    said = "system-redis: timeout (no answer within 0.3 s; system-redis: auth)"
    assert str(caught.value) == said


pytestmark = pytest.mark.live


@pytest.fixture
def guarded(tmp_path):
    return GuardedServer(tmp_path)


@pytest.mark.parametrize("user", ["bootstrap", "operator"])
async def test_users_that_are_not_loaded_yet_are_waited_for(guarded, user, capsys):
    async with guarded.entered(user) as (server, bus):
        assert await wait_for_healer_access([bus], OLD, 0.0) == {}
        waiting = asyncio.create_task(wait_for_healer_access([bus], NEW, 30.0))
        await auntil(lambda: "users.waiting" in "".join(capsys.readouterr()), what="it waits")
        guarded.write(NEW)
        guarded.load(server)
        assert await waiting == {}


async def test_a_server_that_restarts_with_new_users_is_waited_for(guarded, capsys):
    async with guarded.entered("bootstrap") as (server, bus):
        waiting = asyncio.create_task(wait_for_healer_access([bus], NEW, 30.0))
        await auntil(lambda: "users.waiting" in "".join(capsys.readouterr()), what="it waits")
        server.stop()
        await auntil(lambda: "users.bus_away" in "".join(capsys.readouterr()), what="it is seen to be away")
        guarded.write(NEW)
        server.start()
        assert await waiting == {}


async def test_users_that_never_come_are_named_at_the_end(guarded):
    async with guarded.entered("bootstrap") as (_, bus):
        assert await wait_for_healer_access([bus], NEW, 0.1) == {SYSTEM: ["b"]}


async def test_where_it_can_not_be_asked_nobody_waits(guarded, tmp_path):
    """An open server has no such user, and of our own users only those who seed may ask."""
    async with guarded.entered("a") as (_, bus):
        assert await wait_for_healer_access([bus], NEW, 30.0) == {}
    with Server(tmp_path / "open") as server:
        bus = Bus(SYSTEM, server.url)
        assert await wait_for_healer_access([bus], NEW, 30.0) == {}
        await bus.aclose()
