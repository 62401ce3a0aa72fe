"""How long to wait before a receiver that failed is tried again. Pure."""

from typing import Final

FIRST_PAUSE_SEC: Final = 1.0
LONGEST_PAUSE_SEC: Final = 300.0


def pause_sec(failures: int, retry_after_sec: float | None, chance: float) -> float:
    """How long to wait after the `failures`th failure in a row; `chance` is from 0 to 1.

    It doubles up to five minutes and wavers, so that many senders do not come back as one; never less than
    what the receiver asked for.
    """
    doubled: float = min(FIRST_PAUSE_SEC * 2 ** min(failures - 1, 16), LONGEST_PAUSE_SEC)
    return max(doubled * (0.75 + chance / 2), retry_after_sec or 0.0)
