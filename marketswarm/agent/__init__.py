"""The life of an agent: wait for the truth, beat while working, follow reseeds, stop as asked."""

from marketswarm.agent.ending import run
from marketswarm.agent.finding import Found, load_truth, truth_places, usable_bus
from marketswarm.agent.lease import Lease
from marketswarm.agent.leasing import LeaseHeld, LeaseLost
from marketswarm.agent.life import agent
from marketswarm.agent.member import Agent
from marketswarm.agent.own import Own
from marketswarm.agent.points import first_point, point_like
from marketswarm.agent.share import Share
from marketswarm.exit import Code, Exit

__all__ = [
    "Agent",
    "Code",
    "Exit",
    "Found",
    "Lease",
    "LeaseHeld",
    "LeaseLost",
    "Own",
    "Share",
    "agent",
    "first_point",
    "load_truth",
    "point_like",
    "run",
    "truth_places",
    "usable_bus",
]
