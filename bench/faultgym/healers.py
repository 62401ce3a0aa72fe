"""The healers that the gym compares: the medic, and those that others use."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from bench.faultgym.manager import ProcessManager
from bench.faultgym.monit import Monit
from bench.faultgym.supervisord import Supervisord


class Healer(StrEnum):
    """What heals the gym's services."""

    MEDIC = "medic"
    RESTART_ONLY = "restart-only"
    MONIT = "monit"
    SUPERVISOR = "supervisor"


MANAGERS: Final[Mapping[Healer, type[ProcessManager]]] = {
    Healer.MONIT: Monit,
    Healer.SUPERVISOR: Supervisord,
}
SEES: Final[Mapping[str, str]] = {
    Healer.RESTART_ONLY: "restart-only sees what the healer misses, and restarts it at each look.",
    **{healer: manager.sees for healer, manager in MANAGERS.items()},
}


def find_missing(healer: Healer) -> str:
    """Return which programs of a healer are not installed, and what installs them; empty if all are."""
    manager = MANAGERS.get(healer)
    missing = [] if manager is None else manager.find_missing()
    return f"{', '.join(missing)} not installed: {manager.install}" if manager and missing else ""
