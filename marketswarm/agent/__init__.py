"""The life of an agent: wait for the truth, beat while working, follow reseeds, stop as asked."""

from marketswarm.agent.ending import run
from marketswarm.exit import Code, Exit

__all__ = ["Code", "Exit", "run"]
