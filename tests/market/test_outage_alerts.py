"""What a service knows of its targets and what it alerts of them, on a real bus that fails at any moment."""

import asyncio
import contextlib
import time
from types import SimpleNamespace

import orjson
import pytest

from healer.service_alert import parse_service_alert
from marketswarm.agent import outage_alerts as module
from marketswarm.agent.outage_alerts import OutageAlerts
from marketswarm.agent.outage_state import PROBES, Thresholds
from marketswarm.bus import Bus, BusError, stream_length
from marketswarm.bus.scripts import load_all_scripts
from marketswarm.closed_outages import ClosedOutages, closed_field
from marketswarm.keys import HEALER_RELAYED, MASSIVE_ALERTS, MASSIVE_ROSTER
from marketswarm.seeding.functions import load_functions
from support.fixtures import opened
from support.rig import Server
from support.waiting import auntil

THRESHOLDS = Thresholds(down_after=2, up_after=2)

server = opened(lambda tmp_path: Server(tmp_path / "system"))


class Instance:
    """The alerts of one instance, and what its targets look like to it."""

    def __init__(self, server, boot, **more):
        self.bus, self.is_named = Bus("system-redis", server.url), True
        settings = SimpleNamespace(alert_channel=None)
        me = SimpleNamespace(
            name="massive", boot=boot, bus=lambda _name: self.bus, truth=self, settings=settings
        )
        self.alerts = OutageAlerts(me, PROBES, **more)

    @property
    def services(self):
        """Those of the truth in force."""
        return {"massive": None} if self.is_named else {}

    def alert_target(self, channel):
        return self.bus.name, channel

    def see(self, name, *errors):
        for error in errors:
            self.alerts.add_outcome(name, time.time(), error)

    async def settled(self):
        await auntil(lambda: not self.alerts.pending_count() and self.alerts.is_idle, what="all to be kept")


@contextlib.asynccontextmanager
async def running(server, *boots, watched=("shop",), thresholds=THRESHOLDS, **more):
    instances = [Instance(server, boot, **more) for boot in boots]
    tasks = []
    try:
        for each in instances:
            each.alerts.follow(dict.fromkeys(watched, thresholds))
            tasks.append(asyncio.create_task(each.alerts.run()))
        yield instances
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for each in instances:
            await each.bus.aclose()


def log_of(server):
    return [orjson.loads(fields["event"]) for _, fields in server.cmd("XRANGE", MASSIVE_ALERTS, "-", "+")]


def told(server):
    return [(event["type"], event["svc"]) for event in log_of(server)]


def known(server, name="shop"):
    raw = server.cmd("HGET", MASSIVE_ROSTER, name)
    return orjson.loads(raw) if raw else None


MISS, OK = ("probe_miss", "massive/shop"), ("probe_ok", "massive/shop")


async def test_a_loss_is_told_to_the_healer_and_known(server):
    async with running(server, "a") as [one]:
        one.see("shop", None, "refused", "refused", "refused")
        await one.settled()
    assert told(server) == [MISS]
    assert parse_service_alert(PROBES, orjson.dumps(log_of(server)[0])).svc == "massive/shop"
    assert (known(server)["verdict"], known(server)["told"]) == ("down", log_of(server)[0]["id"])


async def test_a_restart_goes_on_counting_where_the_last_one_was(server):
    async with running(server, "a") as [one]:
        one.see("shop", None, "refused")
        await one.settled()
    async with running(server, "b") as [two]:
        two.see("shop", "refused")
        await two.settled()
    assert told(server) == [MISS]


async def test_two_instances_do_not_tell_twice(server):
    async with running(server, "a", "b") as both:
        for errors in (["refused"] * 6, [None] * 6, ["refused"] * 6, [None] * 6):
            for error in errors:
                for each in both:
                    each.see("shop", error)
            for each in both:
                await each.settled()
    assert told(server) == [MISS, OK, MISS, OK]


async def test_an_answer_that_is_lost_repeats_nothing(server):
    async with running(server, "a") as [one]:
        script, lost = one.bus.script, []

        async def lose_the_answer(*args, **more):
            lost.append(await script(*args, **more))
            raise BusError("system-redis", "timeout")

        one.bus.script = lose_the_answer
        one.see("shop", None, "refused", "refused")
        await one.settled()
        one.see("shop", None, None, "refused", "refused", None, None)
        await one.settled()
        assert lost == [[1], [1]]
    assert told(server) == [MISS, OK, MISS, OK]
    assert len({event["id"] for event in log_of(server)}) == 4


async def test_who_was_here_meanwhile_is_not_overwritten(server):
    async with running(server, "a", "b") as [one, two]:
        script, first = one.bus.script, True

        async def after_the_other(*args, **more):
            nonlocal first
            if first:
                first = False
                two.see("shop", "refused")
                await two.settled()
            return await script(*args, **more)

        one.bus.script = after_the_other
        one.see("shop", "refused")
        await one.settled()
        assert not first
    assert told(server) == [MISS]


async def test_what_happens_while_the_bus_is_away_is_told_later_in_order(server):
    async with running(server, "a", watched=("shop", "db")) as [one]:
        one.see("shop", None)
        one.see("db", None)
        await one.settled()
        server.stop()
        one.see("shop", "refused", "refused")
        one.see("db", "timeout", "timeout")
        one.see("shop", None, None)
        await auntil(lambda: one.alerts.outage.reason == "refused")
        assert one.alerts.pending_count() == 6
        server.start()
        await one.settled()
    assert told(server) == [MISS, ("probe_miss", "massive/db"), OK]
    times = [event["ts"] for event in log_of(server)]
    assert times == sorted(times)
    assert (known(server)["verdict"], known(server, "db")["verdict"]) == ("up", "down")


async def test_a_bus_that_hangs_and_does_later_what_it_was_asked_repeats_nothing(server):
    async with running(server, "a") as [one]:
        await load_functions(one.bus, load_all_scripts())  # else the first request only asks for the function
        one.see("shop", None)
        await one.settled()
        one.bus.within_sec = 0.2
        script, asked = one.bus.script, []

        async def freeze_under_the_first(*args, **more):
            if not asked:
                server.freeze()  # the request reaches its socket, and is done once it thaws
            asked.append(args)
            return await script(*args, **more)

        one.bus.script = freeze_under_the_first
        one.see("shop", "refused", "refused", None, None)
        await auntil(lambda: one.alerts.outage.reason == "timeout")
        server.thaw()
        await one.settled()
        one.see("shop", None, None)
        await one.settled()
    assert told(server) == [MISS, OK]


async def test_a_full_bus_has_all_of_it_or_nothing(server):
    async with running(server, "a") as [one]:
        one.see("shop", None)
        await one.settled()
        server.cmd("CONFIG", "SET", "maxmemory", "1", "maxmemory-policy", "noeviction")
        one.see("shop", "refused", "refused")
        await auntil(lambda: one.alerts.outage.reason == "oom")
        assert (told(server), known(server)["verdict"]) == ([], "up")
        server.cmd("CONFIG", "SET", "maxmemory", "0")
        await one.settled()
    assert (told(server), known(server)["verdict"]) == ([MISS], "down")


async def test_what_can_not_be_kept_is_not_told(server):
    server.cmd("ACL", "SETUSER", "default", "-hset")
    async with running(server, "a", watched=("shop", "db")) as [one]:
        one.see("shop", "refused", "refused")
        one.see("db", "refused", "refused")
        await auntil(lambda: one.alerts.outage.reason == "auth")
        assert told(server) == []
        server.cmd("ACL", "SETUSER", "default", "+hset")
        await one.settled()
    assert told(server) == [MISS, ("probe_miss", "massive/db")]


async def test_what_nobody_can_read_is_as_good_as_nothing(server):
    server.cmd("HSET", MASSIVE_ROSTER, "shop", b"\xff{", b"\xfe\xff", "x")
    async with running(server, "a") as [one]:
        one.see("shop", "refused", "refused")
        await one.settled()
    assert told(server) == [MISS]


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_target_that_goes_from_the_truth_is_closed(server, restarted):
    async with running(server, "a", watched=("shop", "db")) as [one]:
        one.see("shop", "refused", "refused")
        one.see("db", None)
        await one.settled()
        if not restarted:
            one.alerts.follow({"db": THRESHOLDS})
            await one.settled()
    if restarted:
        async with running(server, "b", watched=("db",)) as [two]:
            await two.settled()
    assert told(server) == [MISS, ("probe_unwatched", "massive/shop")]
    assert (known(server), known(server, "db")["verdict"]) == (None, "up")


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_outage_that_the_healer_closed_meanwhile_is_missed_anew_if_it_goes_on(
    server, restarted, monkeypatch
):
    monkeypatch.setattr(module, "CHECK_EVERY_SEC", 0.05)
    async with running(server, "a", watched=("shop", "gone")) as [one]:
        one.see("shop", "refused", "refused")
        one.see("gone", "refused", "refused")
        await one.settled()
        newest = max(event["ts"] for event in log_of(server))
        closed = ClosedOutages(b"1-1", round(1000 * newest)).encode()
        server.cmd("HSET", HEALER_RELAYED, closed_field(MASSIVE_ALERTS), closed)
        if not restarted:
            one.is_named = False
            one.see("shop", "refused", None, "refused")  # an instance that was left running forgets nothing
            await one.settled()
            assert len(log_of(server)) == 2
            one.is_named = True
            await auntil(lambda: known(server)["told"] == "")
            one.alerts.follow({"shop": THRESHOLDS})
            one.see("shop", "refused")
            await one.settled()
    if restarted:
        async with running(server, "b") as [two]:
            two.see("shop", "refused")
            await two.settled()
    assert told(server) == [MISS, ("probe_miss", "massive/gone"), MISS]
    assert known(server)["told"] == log_of(server)[2]["id"]


async def test_an_outage_after_the_clock_was_set_back_is_told_once(server, monkeypatch):
    """What the healer closed before is later by the clock of then, and so covers the miss of now as well."""
    monkeypatch.setattr(module, "CHECK_EVERY_SEC", 0.05)
    checks, read_closed = 0, module.read_closed

    async def count_check(*args):
        nonlocal checks
        checks += 1
        return await read_closed(*args)

    monkeypatch.setattr(module, "read_closed", count_check)
    closed = ClosedOutages(b"1-1", round(1000 * (time.time() + 3600))).encode()
    server.cmd("HSET", HEALER_RELAYED, closed_field(MASSIVE_ALERTS), closed)
    async with running(server, "a") as [one]:
        one.see("shop", "refused", "refused")
        await one.settled()
        for _ in range(2):
            before = checks
            await auntil(lambda before=before: checks >= before + 2, what="a check that is done")
            one.see("shop", "refused")
            await one.settled()
    assert told(server) == [MISS]


async def test_a_bus_that_forgets_what_a_check_wrote_has_the_outage_missed_anew_all_the_same(
    server, monkeypatch
):
    monkeypatch.setattr(module, "CHECK_EVERY_SEC", 0.05)
    async with running(server, "a") as [one]:
        one.see("shop", "refused", "refused")
        await one.settled()
        stored = server.cmd("HGET", MASSIVE_ROSTER, "shop")
        closed = ClosedOutages(b"1-1", round(1000 * log_of(server)[0]["ts"])).encode()
        server.cmd("HSET", HEALER_RELAYED, closed_field(MASSIVE_ALERTS), closed)
        await auntil(lambda: known(server)["told"] == "", what="a check")
        server.cmd("HSET", MASSIVE_ROSTER, "shop", stored)
        server.freeze()
        await auntil(lambda: one.alerts.outage.error, what="a failure of the bus")
        server.thaw()
        await auntil(lambda: known(server)["told"] == "", what="a check after it")
        one.see("shop", "refused")
        await one.settled()
    assert told(server) == [MISS, MISS]


async def test_an_outage_that_the_healer_closed_meanwhile_ends_without_an_ok(server):
    async with running(server, "a") as [one]:
        one.see("shop", "refused", "refused")
        await one.settled()
    closed = ClosedOutages(b"1-1", round(1000 * log_of(server)[0]["ts"])).encode()
    server.cmd("HSET", HEALER_RELAYED, closed_field(MASSIVE_ALERTS), closed)
    async with running(server, "b") as [two]:
        two.see("shop", None, None, "refused", "refused")
        await two.settled()
    assert told(server) == [MISS, MISS]


async def test_what_nobody_wants_to_hear_of_any_more_is_closed_and_stays_known(server):
    async with running(server, "a") as [one]:
        one.see("shop", "refused", "refused")
        await one.settled()
        one.alerts.follow({"shop": Thresholds(2, 2, alerts=False)})
        await one.settled()
        one.see("shop", "refused", None, None)
        await one.settled()
    assert told(server) == [MISS, ("probe_unwatched", "massive/shop")]
    assert known(server)["verdict"] == "up"


async def test_states_that_their_reader_did_not_take_are_passed_on_again(server):
    passed, refusals = [], [BusError("market-redis", "timeout")]

    async def take(states):
        if refusals:
            raise refusals.pop()
        passed.append({name: state.verdict for name, state in states.items()})

    async with running(server, "a", on_states=take) as [one]:
        one.see("shop", "refused", "refused")
        await auntil(lambda: passed, what="the second try")
        await one.settled()
    assert (passed, told(server)) == ([{"shop": "down"}], [MISS])


async def test_an_alert_that_the_healer_has_not_copied_is_kept_up_to_twice_as_long(server, monkeypatch):
    monkeypatch.setattr(module, "ALERTS_LENGTH", 100)
    monkeypatch.setattr(stream_length, "READ_EVERY_SEC", 0.0)
    once = Thresholds(down_after=1, up_after=1)
    first = server.cmd("XADD", MASSIVE_ALERTS, "*", "event", "first")
    server.cmd("HSET", HEALER_RELAYED, MASSIVE_ALERTS, first)
    async with running(server, "a", thresholds=once) as [one]:
        for _ in range(70):
            one.see("shop", "refused", None)
            await one.settled()
        assert server.cmd("XLEN", MASSIVE_ALERTS) == 141, "none of these is copied"
        newest = server.cmd("XREVRANGE", MASSIVE_ALERTS, "+", "-", "COUNT", 1)[0][0]
        server.cmd("HSET", HEALER_RELAYED, MASSIVE_ALERTS, newest)
        for _ in range(70):
            one.see("shop", "refused", None)
            await one.settled()
    assert server.cmd("XLEN", MASSIVE_ALERTS) < 281, "what is copied goes"
