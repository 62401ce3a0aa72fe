"""What the medic makes, and loads, at its start."""

import contextlib
import os
import subprocess
import sys
from types import SimpleNamespace

import orjson
import pytest
from pydantic import ValidationError

from marketswarm.agent import agent
from marketswarm.testing import MemoryBuses
from services.medic.loop import follow_other, make_owners, make_second_tier
from services.medic.settings import MedicEnvironment
from support.memory_truth import put_truth
from support.waiting import auntil

PROGRAMS = (
    "healer.watch",
    "notifier.app",
    "sentinel.watch",
    "services.massive.loop",
    "services.medic.loop",
    "services.mesh.loop",
    "services.rss_agg.loop",
    "services.vexy_ai.loop",
)


@pytest.mark.parametrize(
    ("given", "is_asked"),
    [
        ({}, False),
        ({"medic_diagnosis_command": "diagnose"}, True),
        ({"medic_diagnosis_url": "https://localhost/v1"}, True),
        ({"medic_diagnosis_command": "diagnose", "medic_dry_run": True}, False),
    ],
)
def test_there_is_a_second_tier_only_if_the_environment_names_one_and_none_in_a_dry_run(given, is_asked):
    me = SimpleNamespace(settings=MedicEnvironment(**given))
    assert (make_second_tier(me, lambda _svc: (), []) is not None) is is_asked


@pytest.mark.parametrize(
    ("given", "owners"),
    [
        ({}, []),
        ({"medic_fleet_socket": "/f"}, ["EmbeddedFleet"]),
        ({"medic_engine_socket": "/e", "medic_engine_project": "shop"}, ["ContainerEngine"]),
        ({"medic_systemd": "system"}, ["SystemdUnits"]),
        (
            {"medic_fleet_socket": "/f", "medic_engine_socket": "/e", "medic_systemd": "user"},
            ["EmbeddedFleet", "ContainerEngine", "SystemdUnits"],
        ),
    ],
)
def test_what_runs_processes_is_known_by_the_environment_alone(given, owners):
    me = SimpleNamespace(settings=MedicEnvironment(**given), log=None)
    assert [type(each).__name__ for each in make_owners(me)] == owners


@pytest.mark.parametrize(("is_dry_run", "lease"), [(True, "healing"), (False, "dry")])
async def test_of_two_medics_the_dry_run_is_mute_and_the_other_one_says_that_it_goes_on(
    moved_time, monkeypatch, is_dry_run, lease
):
    for name in ("SYSTEM_REDIS_URL", "MARKET_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    buses = MemoryBuses()
    async with contextlib.aclosing(buses("system-redis")) as system:
        await put_truth(system, orjson.dumps({"services": {"medic": {"heartbeat": {"interval_sec": 0.1}}}}))
        settings = MedicEnvironment(medic_dry_run=is_dry_run, log_format="json", truth_wait_sec=5)

        async def count_beats() -> int:
            stored = await system.ask(system.client.get("beat:medic"))
            return orjson.loads(stored or b'{"i":0}')["i"]

        async with agent("medic", settings, begins_mute=lambda _: is_dry_run, open_bus=buses) as me:
            medic = SimpleNamespace(has_dry_run=False)
            await me.rest(1)
            assert (await count_beats() == 0) is is_dry_run, "it does not know yet whether it is alone"
            me.task(follow_other(me, medic), name="other medic")
            await me.rest(3)
            alone = await count_beats()
            assert (alone > 5, me.is_mute, medic.has_dry_run) == (True, False, False)
            await system.ask(system.client.hset(f"own-lease:medic:{lease}", mapping={"claim": "x"}))
            await auntil(lambda: me.is_mute if is_dry_run else medic.has_dry_run)
            before = await count_beats()
            await system.ask(system.client.delete(f"own-lease:medic:{lease}"))
            await me.rest(3)
            assert (me.is_mute, medic.has_dry_run) == (is_dry_run, False)
            assert (await count_beats() > before) is not is_dry_run
        last = orjson.loads(await system.ask(system.client.get("beat:medic")))
        assert (last.get("status") == "stopping") is not is_dry_run, "nor a goodbye for the other one"


@pytest.mark.parametrize("argument", ["--dryrun", "--dry-run=yes", "observe"])
def test_a_mistyped_argument_starts_no_medic(argument):
    command = [sys.executable, "-m", "services.medic", argument]
    found = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (found.returncode, repr(argument) in found.stderr + found.stdout) == (2, True)


@pytest.mark.parametrize("project", ["Shop", "-shop", "a b", "a,label=b", ""])
def test_a_project_is_a_name_that_compose_takes(project):
    with pytest.raises(ValidationError):
        MedicEnvironment(medic_engine_project=project)


@pytest.mark.parametrize(
    ("named", "address"),
    [
        (None, None),
        ("system", "unix:path=/run/dbus/system_bus_socket"),
        ("user", f"unix:path=/run/user/{os.getuid()}/bus"),
        ("unix:path=/tmp/bus", "unix:path=/tmp/bus"),
        ("unix:abstract=bus", "unix:abstract=bus"),
    ],
)
def test_a_bus_of_systemd_is_named_by_a_word_or_an_address(named, address):
    assert MedicEnvironment(medic_systemd=named).medic_systemd == address


NO_BUS = ("", "on", "tcp:host=h", "unixexec:path=/bin/sh", "unix:path=/a;tcp:host=h")
NO_UNIT = ("feed.service", "%s", "%s%s.service", "*%s.service", "a/%s.service")


@pytest.mark.parametrize(
    "given",
    [{"medic_systemd": each} for each in NO_BUS] + [{"medic_systemd_unit": each} for each in NO_UNIT],
    ids=str,
)
def test_what_is_no_bus_of_this_machine_and_no_pattern_of_units_is_refused(given):
    with pytest.raises(ValidationError):
        MedicEnvironment(**given)


def test_units_need_the_extra(monkeypatch):
    monkeypatch.setattr("services.medic.settings.find_spec", lambda _name: None)
    with pytest.raises(ValidationError, match=r"marketswarm\[systemd\]"):
        MedicEnvironment(medic_systemd="system")
    assert MedicEnvironment().medic_systemd is None


def test_no_agent_of_the_shipped_fleet_loads_an_http_client_before_it_needs_one():
    heavy = {"aiohttp", "dbus_fast", "httpx", "polars", "rich"}
    source = f"import sys, {', '.join(PROGRAMS)}; print(*({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
