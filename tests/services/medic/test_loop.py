"""What the medic makes, and loads, at its start."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from services.medic.loop import make_second_tier
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


def test_no_agent_of_the_shipped_fleet_loads_an_http_client_before_it_needs_one():
    heavy = {"aiohttp", "httpx", "polars", "rich"}
    source = f"import sys, {', '.join(PROGRAMS)}; print(*({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
