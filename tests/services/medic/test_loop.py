"""What the medic makes, and loads, at its start."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from services.medic.loop import make_owners, make_second_tier
from services.medic.settings import MedicEnvironment

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
    ],
)
def test_there_is_a_second_tier_only_if_the_environment_names_one(given, is_asked):
    me = SimpleNamespace(settings=MedicEnvironment(**given))
    assert (make_second_tier(me, lambda _svc: ()) is not None) is is_asked


@pytest.mark.parametrize(
    ("given", "owners"),
    [
        ({}, []),
        ({"medic_fleet_socket": "/f"}, ["EmbeddedFleet"]),
        ({"medic_engine_socket": "/e", "medic_engine_project": "shop"}, ["ContainerEngine"]),
        ({"medic_fleet_socket": "/f", "medic_engine_socket": "/e"}, ["EmbeddedFleet", "ContainerEngine"]),
    ],
)
def test_what_runs_processes_is_known_by_the_environment_alone(given, owners):
    me = SimpleNamespace(settings=MedicEnvironment(**given), log=None)
    assert [type(each).__name__ for each in make_owners(me)] == owners


@pytest.mark.parametrize("project", ["Shop", "-shop", "a b", "a,label=b", ""])
def test_a_project_is_a_name_that_compose_takes(project):
    with pytest.raises(ValidationError):
        MedicEnvironment(medic_engine_project=project)


def test_no_agent_of_the_shipped_fleet_loads_an_http_client_before_it_needs_one():
    heavy = {"aiohttp", "httpx", "polars", "rich"}
    source = f"import sys, {', '.join(PROGRAMS)}; print(*({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
