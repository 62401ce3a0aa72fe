"""Decide whether the message about an outage waits for the medic, and say what the medic tried. Pure.

The caller passes what the medic has stored, as `notifier/medic_reader.py` read it. A miss waits while the
medic works on the outage: by the remedy `wait`, by one that is carried out, or one that settles. Once that
ended without success, or nothing is known of it, the message is sent. Times are epoch seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from datetime import tzinfo
from typing import Annotated, Any, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from marketswarm.bus.stored_values import get_object
from marketswarm.operator.fields import STRICT, Epoch, JsonRecord
from marketswarm.operator.healing import UNDONE
from marketswarm.text import format_duration, format_time
from marketswarm.truth import MEDIC, Truth

OPENS_WITHIN_SEC: Final = 3.0
"""How long a miss waits for the medic to see it, too: both read the same alert log."""
FRESH_SEC: Final = 3.0
"""What was read of the medic longer ago than this counts for nothing."""
TRIED_SHOWN: Final = 3
"""How many attempts a message names, the latest ones."""
ACTING: Final = frozenset({"act", "earned"})
"""The modes in which the medic may act without asking; in `earned`, an outage about which it asks is sent."""
WAIT: Final = "wait"
OPEN: Final = "open"
WORKS: Final = frozenset({"waiting", "intended", "settling", "stabilizing"})
"""The states of a repair in which a message waits. In `stabilizing` the service is up: its ok comes."""
PASSING: Final = frozenset({"one_at_a_time", "owner_restarts", "start_grace"})
"""The refusals that end by themselves, usually within seconds."""
GOES_WELL: Final = frozenset({"pending", "verified", "recovered"})
VERDICTS: Final[Mapping[str, str]] = {
    "pending": "not verified yet",
    "verified": "verified",
    "recovered": "up, by what is not known",
    "failed": "failed",
    "relapsed": "the outage came back",
    "abandoned": "whether it was done is not known",
    "undone": "not carried out",
    "expired": "nobody approved it",
}
"""By the verdict on an attempt, the words for it."""
PAST: Final[Mapping[str, str]] = {"restart": "restarted"}
"""By remedy, its past participle, where there is one."""

Word = Annotated[str, Field(pattern=r"^[a-z_]{1,30}$")]


@dataclass(frozen=True, slots=True, config=STRICT)
class HealingAttempt:
    """One attempt at a remedy, begun at `at`. Raises ValueError when a field is out of bounds."""

    remedy: Word
    at: Epoch
    verdict: Word


@dataclass(frozen=True, slots=True, config=STRICT)
class StoredRepair(JsonRecord):
    """What the medic stores of an open outage of `svc`, as far as messages need it.

    `refusal` is why it does nothing at present. Raises ValueError when a field is out of bounds.
    """

    svc: Annotated[str, Field(min_length=1, max_length=200)]
    state: Word
    attempts: Annotated[tuple[HealingAttempt, ...], Field(max_length=50)] = ()
    refusal: Word | None = None

    def list_remedies(self) -> list[HealingAttempt]:
        """Return the attempts, without those that only waited, and those that were not carried out."""
        return [each for each in self.attempts if each.remedy != WAIT and each.verdict != UNDONE]

    def is_worked_on(self) -> bool:
        """Return False once a remedy did not help, or the medic waits for a person or for something else."""
        if not all(each.verdict in GOES_WELL for each in self.list_remedies()):
            return False
        return self.state in WORKS or (
            self.state == OPEN and (self.refusal is None or self.refusal in PASSING)
        )


@plain_dataclass(frozen=True, slots=True)
class HealedOutage:
    """An outage from `since` to `up_at`, which the medic worked on; its ok was handled at `handled_at`."""

    svc: str
    since: float
    up_at: float
    handled_at: float


@plain_dataclass(frozen=True, slots=True)
class MedicState:
    """What was read of the medic at `read_at`: whether one holds the lease, and repairs by service."""

    is_leading: bool = False
    read_at: float = float("-inf")
    repairs: Mapping[str, StoredRepair] = field(default_factory=dict)

    def is_working_on(self, svc: str, held_sec: float, now: float) -> bool:
        """Return True while the medic works on an outage whose message has been held for `held_sec`."""
        if not self.is_leading or not 0 <= now - self.read_at <= FRESH_SEC:
            return False
        repair = self.repairs.get(svc)
        return held_sec < OPENS_WITHIN_SEC if repair is None else repair.is_worked_on()

    def describe_tried(self, svc: str, zone: tzinfo | None = None) -> str:
        """Return `the medic tried: restart at 03:12:09 UTC (failed)`; empty if it tried nothing."""
        repair = self.repairs.get(svc)
        tried = [] if repair is None else repair.list_remedies()[-TRIED_SHOWN:]
        words = (
            f"{each.remedy} at {format_time(each.at, zone)} ({VERDICTS.get(each.verdict, 'not verified')})"
            for each in tried
        )
        return f"the medic tried: {', '.join(words)}" if tried else ""

    def describe_healed(self, outage: HealedOutage, zone: tzinfo | None = None) -> str:
        """Return `restarted at 03:12:09 UTC, up again after 4 s`; without a remedy, from the outage on."""
        repair, since, up_at = self.repairs.get(outage.svc), outage.since, outage.up_at
        tried = [each for each in (repair.list_remedies() if repair else ()) if since <= each.at <= up_at]
        if not tried:
            lasted = format_duration(max(0.0, up_at - since))
            return f"down at {format_time(since, zone)}, up again after {lasted}"
        remedy, at = tried[-1].remedy, tried[-1].at
        lasted = format_duration(up_at - at)
        return f"{PAST.get(remedy, remedy)} at {format_time(at, zone)}, up again after {lasted}"


def may_medic_act(truth: Truth, svc: str) -> bool:
    """Return True if the truth lets the medic apply a remedy to a service without asking a person."""
    settings = _read_settings(truth)
    if settings is None or svc not in truth.services:
        return False
    target = get_object(get_object(settings.get("targets")).get(svc))
    modes = (target.get("mode", settings.get("mode")), *get_object(target.get("remedies")).values())
    return any(_is_acting(mode) for mode in modes)


def may_medic_act_anywhere(truth: Truth) -> bool:
    """Return True if the truth lets the medic act on some service: otherwise no message waits for it."""
    settings = _read_settings(truth)
    if settings is None:
        return False
    return _is_acting(settings.get("mode")) or any(
        may_medic_act(truth, svc) for svc in get_object(settings.get("targets"))
    )


def _is_acting(mode: object) -> bool:
    return isinstance(mode, str) and mode in ACTING


def _read_settings(truth: Truth) -> dict[str, Any] | None:
    """Return the settings of the medic, which its own model checks; None without any, or while paused."""
    section = truth.services.get(MEDIC)
    return None if section is None or section.settings.get("paused") is True else section.settings
