"""Judge how the log of signals is: its newest tick, its newest checkpoint, its witness, its newest gap. Pure.

Nothing here is `down`: the board answers as it should. What is not known to be wrong is `off`: a log without
a key signs no checkpoint, and one without a witness has none to wait for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from marketswarm.bus.stored_values import parse_count, parse_number, parse_object
from marketswarm.text import escape_text
from services.board.operations.health import HealthPart, PartStatus
from services.tables.signal_witness import WitnessReport, find_unsigned_sec
from services.tables.signals import MAX_PLACE_BYTES, LogEnd, LogState

LATE_TICK_SEC: Final = 60.0
"""The age beyond which the newest tick is late, if it is ten cycles old, too."""
LATE_CYCLES: Final = 10
RECENT_GAP_SEC: Final = 600.0
"""For how long a gap that nobody asked for is a fault; a restart is one that somebody asked for."""
TICK, CHECKPOINT, WITNESS, GAP = "signals_tick", "signals_checkpoint", "signals_witness", "signals_gap"
SIGNAL_PARTS: Final = (TICK, CHECKPOINT, WITNESS, GAP)
_RESTARTED: Final = "restarted"
_MAX_SEC: Final = 86_400.0
_MAX_REASON: Final = 40


@dataclass(frozen=True, slots=True)
class SignalTimes:
    """Hold what the truth says of signals: how often it decides and signs, and whether it names a witness."""

    cycle_sec: float = 5.0
    checkpoint_sec: float = 60.0
    has_witness: bool = False

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> "SignalTimes":
        """Return what the `settings` of signals say; of what can't be read, the default."""
        cycle = parse_number(settings.get("cycle_sec"), 0.2, _MAX_SEC)
        checkpoint = parse_number(settings.get("checkpoint_sec"), 1, _MAX_SEC)
        has_witness = isinstance(settings.get("witness"), Mapping)
        return cls(cycle or cls().cycle_sec, checkpoint or cls().checkpoint_sec, has_witness)

    @property
    def late_tick_sec(self) -> float:
        return max(LATE_TICK_SEC, LATE_CYCLES * self.cycle_sec)


def judge_signals(
    state: LogState, end: LogEnd, times: SignalTimes, now: float, witness: WitnessReport | None = None
) -> dict[str, HealthPart]:
    """Return the parts of a log by their names; `now` is in epoch seconds.

    `witness` is what signals says of its own: it may be named by the environment of signals alone.
    """
    if witness is not None:
        times = replace(times, has_witness=times.has_witness or witness.named)
    return {
        TICK: _judge_tick(end, times, now),
        CHECKPOINT: _judge_checkpoint(state, times, now),
        WITNESS: _add_reason(_judge_witness(state, times, now), witness),
        GAP: _judge_gap(end, now),
    }


def judge_no_signals(why: str) -> dict[str, HealthPart]:
    """Return the parts of a log that there is not, or that can't be read."""
    return dict.fromkeys(SIGNAL_PARTS, HealthPart(PartStatus.OFF, why=why))


def _judge_tick(end: LogEnd, times: SignalTimes, now: float) -> HealthPart:
    if end.tick is None or end.at is None:
        return HealthPart(PartStatus.DEGRADED, why="no tick was decided yet")
    age_sec, name = _find_age(end.at, now), f"tick {end.tick}"
    if age_sec > times.late_tick_sec:
        return HealthPart(PartStatus.DEGRADED, age_sec, "no tick is decided", name)
    return HealthPart(PartStatus.OK, age_sec, name=name)


def _judge_checkpoint(state: LogState, times: SignalTimes, now: float) -> HealthPart:
    if state.signed_size is None or state.signed_at is None:
        status = PartStatus.DEGRADED if times.has_witness and state.size else PartStatus.OFF
        return HealthPart(status, why="no checkpoint was signed yet")
    part = HealthPart(PartStatus.OK, _find_age(state.signed_at, now))
    return _judge_rest(part, state.size - state.signed_size, "signed", times)


def _judge_witness(state: LogState, times: SignalTimes, now: float) -> HealthPart:
    if state.cosigned_size is None or state.cosigned_at is None:
        is_awaited = times.has_witness and state.signed_size is not None
        status = PartStatus.DEGRADED if is_awaited else PartStatus.OFF
        return HealthPart(status, why="no witness has cosigned yet")
    left = (state.signed_size or 0) - state.cosigned_size
    part = HealthPart(PartStatus.OK, _find_age(state.cosigned_at, now), name=state.witness)
    return _judge_rest(part, left, "cosigned", times)


def _add_reason(part: HealthPart, witness: WitnessReport | None) -> HealthPart:
    """Return the part of the witness with how the last attempt ended; degraded at once by a refusal."""
    if witness is None or witness.reason is None:
        return part
    if witness.refused:
        return replace(part, status=PartStatus.DEGRADED, why=f"the witness refuses: {witness.reason}")
    is_wrong = part.status is PartStatus.DEGRADED
    return replace(part, why=f"{part.why}: {witness.reason}") if is_wrong else part


def _judge_rest(part: HealthPart, left: int, word: str, times: SignalTimes) -> HealthPart:
    """Return a part, degraded if it is old and `left` entries came since.

    A log that does not grow has nothing to sign, however old its last checkpoint is.
    """
    if left <= 0 or (part.age_sec or 0.0) <= find_unsigned_sec(times.checkpoint_sec):
        return part
    return replace(part, status=PartStatus.DEGRADED, why=f"{left} entries are not {word}")


def _judge_gap(end: LogEnd, now: float) -> HealthPart:
    if end.gap is None or end.gap_at is None:
        return HealthPart(PartStatus.OK, name="none within an hour")
    found = parse_object(end.gap.encode(), MAX_PLACE_BYTES)
    first, last, reason = parse_count(found.get("first")), parse_count(found.get("last")), found.get("reason")
    age_sec = _find_age(end.gap_at, now)
    if first is None or last is None or not isinstance(reason, str):
        return HealthPart(PartStatus.DEGRADED, age_sec, "a gap can't be read")
    name, why = f"ticks {first} to {last}", escape_text(reason[:_MAX_REASON])
    if reason == _RESTARTED or age_sec >= RECENT_GAP_SEC:
        return HealthPart(PartStatus.OK, age_sec, name=f"{name}: {why}")
    return HealthPart(PartStatus.DEGRADED, age_sec, why, name)


def _find_age(at_ms: int, now: float) -> float:
    return round(max(0.0, now - at_ms / 1000), 3)
