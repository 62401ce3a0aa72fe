"""The life of an agent: wait for the truth, beat while working, follow reseeds, stop when asked.

Names are imported when they are first used: `marketswarm beat` needs only the places of the truth, and a
program that only declares its `ServiceConfig` needs no event loop.

Enters: the environment, the truth on the buses, signals, and `progress()` from the work.
Leaves: beats and `beat:<svc>`, a goodbye, an exit code.
Never: a beat while the work stands still, or work under a lease that has ended.
"""

# what is imported for checkers of types is what this package gives: see `lazy_names`
# mypy: implicit-reexport
# ruff: noqa: F401

from typing import TYPE_CHECKING

from marketswarm.lazy_names import import_when_used

if TYPE_CHECKING:
    from marketswarm.agent.lease import Lease, LeaseHeld, LeaseLost
    from marketswarm.agent.lifecycle import agent, run
    from marketswarm.agent.member import Agent
    from marketswarm.agent.service_config import InputStream, ServiceConfig
    from marketswarm.agent.shards import Share
    from marketswarm.agent.truth_source import FoundTruth, create_bus, find_truth_buses, load_truth
    from marketswarm.exit import Code, Exit
    from marketswarm.truth import first_point, point_like

__getattr__ = import_when_used(__name__)
