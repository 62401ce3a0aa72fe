"""FAILURES row 39: a stranger without a password tries to fill both buses."""

import pytest

from support.rig.flood import MIB, Flood, limits_of_containers, memory
from support.rig.receiver import Receiver
from support.scenes.faults import BUSES, Scene, service

SERVICES = {f"s{n}": service() for n in range(4)} | {f"m{n}": service("market-redis") for n in range(4)}
SERVICES["notifier"] = {**service(), "settings": {"group_wait_sec": 0.1, "channels": {}}}
AGENTS = ("healer", "notifier")
TIMEOUT_SEC = 5.0
"""Well beyond what it costs two processors to send and to take a gigabyte: that silences beats, too."""
TOLD_SEC = 30.0


def queries(flood: Flood) -> None:
    flood.unfinished_queries()


def arguments(flood: Flood) -> None:
    flood.unfinished_arguments(24)


def replies(flood: Flood) -> None:
    flood.unread_replies("truth:doc")


def subscriptions(flood: Flood) -> None:
    """What is published is other services' beats; here one that says much stands for all of them."""
    flood.unread_subscriptions("*:heartbeat")
    for _ in range(140):  # the kernel keeps some megabytes of each connection, too
        flood.server.cmd("PUBLISH", "chatter:heartbeat", "x" * (MIB // 16))


def queries_and_replies(flood: Flood) -> None:
    queries(flood)
    replies(flood)


nightly = pytest.mark.nightly("[queries_and_replies]")


@pytest.mark.parametrize(
    "attack",
    [
        queries_and_replies,
        *(pytest.param(each, marks=nightly) for each in (queries, arguments, replies, subscriptions)),
    ],
)
def test_row_39_who_has_no_password_fills_no_bus_and_everyone_is_told_of_on_time(tmp_path, attack):
    with (
        Receiver() as receiver,
        Scene(
            tmp_path,
            SERVICES,
            AGENTS,
            timeout_sec=TIMEOUT_SEC,
            bus_timeout_sec=TIMEOUT_SEC,
            env={"WEBHOOK_URL": receiver.url},
            server_config=limits_of_containers(),
        ) as scene,
        Flood(scene.system) as one,
        Flood(scene.market) as other,
    ):
        for flood in (one, other):
            attack(flood)
        for bus in BUSES:
            server = scene.server(bus)
            server.cmd("SET", "anything", "1")  # -OOM, if it is full
            assert memory(server)["used_memory"] < 400 * MIB
        scene.stop_beating("s0", "m0")
        for svc in ("s0", "m0"):
            receiver.wait("heartbeat_miss", svc, TOLD_SEC)
        scene.beat_again("s0", "m0")
        for svc in ("s0", "m0"):
            receiver.wait("heartbeat_ok", svc, TOLD_SEC)
        scene.listen_for(TIMEOUT_SEC / 2, *BUSES)
        assert {event["svc"] for event in scene.log("heartbeat_miss")} == {"s0", "m0"}
        for bus in BUSES:
            assert scene.log("bus_miss", bus=bus) == []
