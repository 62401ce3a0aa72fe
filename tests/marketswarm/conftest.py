"""Time that is moved, for what waits between attempts."""

from support.simulation.moved_time import moved_time

__all__ = ["moved_time"]
