"""What is to be done is drawn from the seed alone, and leaves the fleet time to settle."""

import itertools
import random

from soak.schedule import CALM_SEC, LANES, ROUND_SEC, cast, faults, outages


def drawn(seed: int, spare: set[str] | None = None):
    chance = random.Random(seed)
    services = cast(chance, 20)
    return services, faults(chance, 10, 2, spare or set()), outages(chance, 10, services)


def test_a_seed_draws_the_same_soak_with_every_kind_of_fault_and_calm_between():
    assert drawn(7) == drawn(7)
    assert drawn(7)[1] != drawn(8)[1]
    assert {act.lane for act in drawn(7, {"healer", "bus"})[1]} == set(LANES) - {"healer", "bus"}
    for seed in range(5):
        services, broken, acts = drawn(seed)
        assert {act.lane for act in broken} == set(LANES)
        assert all((act.at - 3) % ROUND_SEC + act.sec <= ROUND_SEC - CALM_SEC + 0.5 for act in broken)
        assert {act.kind for act in acts} == {"short", "between", "long", "permanent", "flap", "restart"}
        for one in services:
            mine = [act for act in acts if act.target == one.svc]
            assert all(a.at + a.sec < b.at + 0.01 for a, b in itertools.pairwise(mine))
        timeouts = {one.svc: one.timeout_sec for one in services}
        assert all(act.sec < timeouts[act.target] for act in acts if act.kind == "short")
        assert {one.bare for one in services} == {one.watched for one in services} == {True, False}
        assert {one.instances for one in services} == {1, 2}
        assert {one.bus for one in services} == {"system-redis", "market-redis"}
