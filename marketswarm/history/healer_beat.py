"""Read the healer's last beat, which proves when it listened."""

from typing import NamedTuple

from marketswarm.beat import Beat, compute_beat_age_sec, parse_beat, parse_sender
from marketswarm.bus import Bus
from marketswarm.bus.stored_values import read_strings
from marketswarm.keys import last_beat_key
from marketswarm.truth import HEALER


class HealerBeat(NamedTuple):
    """A beat of the healer, when it was sent, and when its process began; both in epoch seconds."""

    beat: Beat
    at: float
    started: float | None


async def read_healer_beat(bus: Bus, timeout_sec: float, now: float) -> HealerBeat | None:
    """Return the healer's last beat; None if there is none, or its age can't be known. Raises BusError.

    Its age follows from what its key has left to live, without a comparison of clocks.
    """
    key = last_beat_key(HEALER)
    (raw,) = await read_strings(bus, [key])
    left_ms: int = await bus.ask(bus.client.pttl(key))
    beat = None if raw is None else parse_beat(raw, HEALER)
    if raw is None or not isinstance(beat, Beat):
        return None
    if (age_sec := compute_beat_age_sec(timeout_sec, left_ms, beat)) is None:
        return None
    return HealerBeat(beat, now - age_sec, parse_sender(raw).started)
