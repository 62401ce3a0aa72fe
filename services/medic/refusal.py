"""Name the reasons why nothing is done to a target. Pure.

The same word stands in the log, the incident, the metric, the state and the tests.
"""

from enum import StrEnum
from typing import Final

from marketswarm.truth import HEALER, MEDIC

PROTECTED: Final = frozenset({HEALER, "sentinel", "notifier", MEDIC})
"""The services that the medic never touches, whatever the truth says."""


class Refusal(StrEnum):
    """A reason not to act. The first one that applies, in this order, is the one that is recorded."""

    PAUSED = "paused"  # the kill switch of the truth
    PROTECTED = "protected"  # healer, sentinel, notifier, the medic itself, and containers of no agent
    CUT_OFF = "cut_off"  # a bus does not answer the medic, or what runs this service does not
    BUS_LOST = "bus_lost"  # the healer has lost a bus
    HEALER_ABSENT = "healer_absent"  # no healer leads, or it does not beat
    HEALER_DEAF = "healer_deaf"  # the healer says that it does not hear all
    FLEET_DOWN = "fleet_down"  # too large a part of the fleet is down at once
    TOO_MANY_REMEDIES = "too_many_remedies"  # in a short time; until a person approves
    SHARE_USED = "share_used"  # half of the remedies that the fuse allows were for this service
    SILENCED = "silenced"
    MAINTENANCE = "maintenance"
    EMERGENCY = "emergency"  # a rule of that severity holds for it
    STOPPED = "stopped"  # by an operator, or it ended and its owner does not start it again
    TOO_OLD = "too_old"  # the outage was old when it was first seen
    DEPENDENCY_DOWN = "dependency_down"
    UNKNOWN = "unknown"  # whether the target is still down, or degraded
    TARGET_DOWN = "target_down"  # the remedy is for one that beats
    NOT_OURS = "not_ours"  # something that is not known here restarts it
    SEVERAL_PROCESSES = "several_processes"
    OWNER_RESTARTS = "owner_restarts"  # its owner is about to
    START_GRACE = "start_grace"  # its process is young
    UNDER_WAY = "under_way"  # what the remedy would begin was begun already
    BLAST_RADIUS = "blast_radius"  # it still works, and too many others need it
    ONE_AT_A_TIME = "one_at_a_time"  # another remedy was just begun
    COOLDOWN = "cooldown"
    DRY_RUN = "dry_run"  # the medic was started with --dry-run
    OBSERVED = "observed"  # its mode is `observe`
    DOES_NOT_HELP = "does_not_help"  # by the record: the ladder continues without it


PASSING: Final = frozenset({Refusal.ONE_AT_A_TIME, Refusal.COOLDOWN})
"""The reasons that go by themselves, and that no timeline has."""
