"""Seeding: one truth into all buses, or into none. `python -m bootstrap` and `marketswarm seed` share it."""

from marketswarm.seeding.answering import wait_until_all_answer
from marketswarm.seeding.looking import Unseeded
from marketswarm.seeding.plan import Plan, Standing, plan
from marketswarm.seeding.summary import summary
from marketswarm.seeding.watchable import wait_until_watchable
from marketswarm.seeding.writing import Seeding, seed

__all__ = [
    "Plan",
    "Seeding",
    "Standing",
    "Unseeded",
    "plan",
    "seed",
    "summary",
    "wait_until_all_answer",
    "wait_until_watchable",
]
