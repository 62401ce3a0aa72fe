"""Seed one truth into all buses, or into none. `python -m bootstrap` and `marketswarm seed` share this."""

from marketswarm.seeding.plan import BusState, SeedPlan, make_plan
from marketswarm.seeding.readiness import wait_for_healer_access, wait_until_all_answer
from marketswarm.seeding.transaction import SeedError, SeedResult, seed, summarize

__all__ = [
    "BusState",
    "SeedError",
    "SeedPlan",
    "SeedResult",
    "make_plan",
    "seed",
    "summarize",
    "wait_for_healer_access",
    "wait_until_all_answer",
]
