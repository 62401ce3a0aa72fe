"""The life of an agent: wait for the truth, beat while working, follow reseeds, stop as asked."""

from marketswarm.agent.agent import Agent
from marketswarm.agent.lease import Lease, LeaseHeld, LeaseLost
from marketswarm.agent.lifecycle import agent, run
from marketswarm.agent.service_config import ServiceConfig, first_point, point_like
from marketswarm.agent.shards import Share
from marketswarm.agent.truth_source import Found, load_truth, truth_places, usable_bus
from marketswarm.exit import Code, Exit

__all__ = [
    "Agent",
    "Code",
    "Exit",
    "Found",
    "Lease",
    "LeaseHeld",
    "LeaseLost",
    "ServiceConfig",
    "Share",
    "agent",
    "first_point",
    "load_truth",
    "point_like",
    "run",
    "truth_places",
    "usable_bus",
]
