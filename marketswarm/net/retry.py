"""Decide how long to wait before the next attempt. Pure.

The loops that use this module run as long as the program and are woken by events. A library that wraps one
call and retries it, as stamina does, doesn't fit them, because they need only the length of the pause.
"""

from dataclasses import dataclass
from datetime import UTC

NO_JITTER = 0.5
"""The `chance` that makes a pause neither shorter nor longer."""
_DOUBLINGS_AT_MOST = 30
_EPOCH_FROM_SEC = 1e9
"""A number from here on is an epoch time: as a pause it would be longer than thirty years."""
_EPOCH_MS_FROM = 1e11
"""A number from here on is an epoch time in milliseconds."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double from `first_sec` up to `longest_sec`, both in seconds."""

    first_sec: float
    longest_sec: float

    def pause_sec(self, failures: int, chance: float = NO_JITTER) -> float:
        """Return the pause after the `failures`th failure in a row (from 1), in seconds.

        `chance`, a random number from 0 to 1, makes it up to a quarter shorter or longer, so that many
        clients that lost one server don't return at once.
        """
        doublings = min(max(failures, 1) - 1, _DOUBLINGS_AT_MOST)
        return float(min(self.first_sec * 2.0**doublings, self.longest_sec)) * (0.75 + 0.5 * chance)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for; None if the header is missing or unreadable.

    The header holds a number of seconds, an epoch time, or a date; a date without a zone is taken as UTC.
    `now` is in epoch seconds. The result is 0 or more; the caller sets the upper limit.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return resolve_pause_sec(float(text[:15]), now)
    try:
        from email.utils import parsedate_to_datetime  # noqa: PLC0415 - takes time, and dates are rare

        date = parsedate_to_datetime(text[:100])
        epoch_sec = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return max(0.0, epoch_sec - now)


def resolve_pause_sec(asked: float, now: float) -> float:
    """Return the pause that a receiver asks for by a number from 0 up: of seconds, or an epoch time.

    Some send the time at which to come back, in seconds or milliseconds; `now` is in epoch seconds.
    """
    if asked < _EPOCH_FROM_SEC:
        return asked
    return max(0.0, (asked / 1000 if asked >= _EPOCH_MS_FROM else asked) - now)
