"""Time that is moved, for what services do again and again."""

from support.simulation.moved_time import moved_time

__all__ = ["moved_time"]
