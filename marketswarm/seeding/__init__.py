"""Seed one truth into all buses, or into none. `python -m bootstrap` and `marketswarm seed` share this."""

from marketswarm.seeding.plan import BusState, make_plan
from marketswarm.seeding.readiness import wait_for_healer_access, wait_until_all_answer
from marketswarm.seeding.transaction import SeedError, SeedResult, describe_seeding, seed_truth

__all__ = [
    "BusState",
    "SeedError",
    "SeedResult",
    "describe_seeding",
    "make_plan",
    "seed_truth",
    "wait_for_healer_access",
    "wait_until_all_answer",
]
