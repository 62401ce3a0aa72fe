"""What is to be done is drawn from the seed alone, and leaves the fleet time to settle."""

import itertools
import random

import pytest

from soak.schedule import CALM_SEC, LANES, ROUND_SEC, cast, faults, outages


def drawn(seed: int, spare: set[str] | None = None):
    chance = random.Random(seed)
    services = cast(chance, 20)
    return services, faults(chance, 10, 2, spare or set()), outages(chance, 10, services)


def test_the_same_seed_gives_the_same_soak_and_another_seed_another():
    assert drawn(7) == drawn(7)
    assert drawn(7)[1] != drawn(8)[1]


def test_there_are_faults_of_every_lane_and_none_of_those_that_are_spared():
    assert {act.lane for act in drawn(7)[1]} == set(LANES)
    assert {act.lane for act in drawn(7, {"healer", "bus"})[1]} == set(LANES) - {"healer", "bus"}


@pytest.mark.parametrize("seed", range(5))
def test_the_end_of_each_round_is_calm(seed):
    for act in drawn(seed)[1]:
        into = (act.at - 3) % ROUND_SEC
        assert into + act.sec <= ROUND_SEC - CALM_SEC + 0.5


@pytest.mark.parametrize("seed", range(5))
def test_one_service_has_one_outage_at_a_time_and_there_are_short_and_long_ones(seed):
    services, _, acts = drawn(seed)
    assert {act.kind for act in acts} == {"short", "between", "long", "permanent", "flap", "restart"}
    for one in services:
        mine = [act for act in acts if act.target == one.svc]
        assert all(a.at + a.sec < b.at + 0.01 for a, b in itertools.pairwise(mine))
    timeouts = {one.svc: one.timeout_sec for one in services}
    assert all(act.sec < timeouts[act.target] for act in acts if act.kind == "short")


def test_some_services_are_bare_some_have_two_instances_and_both_buses_have_theirs():
    services = drawn(7)[0]
    assert {one.bare for one in services} == {True, False}
    assert {one.instances for one in services} == {1, 2}
    assert {one.bus for one in services} == {"system-redis", "market-redis"}
    assert {one.watched for one in services} == {True, False}
