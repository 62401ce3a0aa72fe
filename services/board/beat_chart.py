"""Draw how far apart the beats of a service are. Pure."""

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from services.board.beat_log import BeatInterval, BeatTimes

WIDTH: Final = 600
HEIGHT: Final = 60
LATE: Final = 1.5
"""An interval that is longer than so many of those in the truth is drawn as late."""
_BEATS: Final = 60


def draw_beats(times: BeatTimes) -> Markup:
    """Return a picture with a bar for each interval, the newest on the right, and a line for the truth's.

    Bars of late beats are wider, and of another colour; the picture has words for those who don't see it.
    """
    most_sec = max(2 * times.every_sec, times.most_sec)
    shown: Sequence[BeatInterval] = times.intervals[-_BEATS:]
    paths = {"u": "", "w": ""}
    step = WIDTH // _BEATS
    for number, one in enumerate(shown):
        x = WIDTH - (len(shown) - number) * step + step // 2
        height = max(1, round(HEIGHT * one.sec / most_sec))
        paths["w" if one.sec > LATE * times.every_sec else "u"] += f"M{x} {HEIGHT}v-{height}"
    drawn = "".join(f'<path class="{name}" d="{path}"/>' for name, path in paths.items() if path)
    y = HEIGHT - round(HEIGHT * times.every_sec / most_sec)
    return Markup(  # noqa: S704 - made of numbers and of our own words
        f'<svg class="beats" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img"'
        f' aria-label="{describe_beats(times)}">{drawn}<path class="due" d="M0 {y}H{WIDTH}"/></svg>'
    )


def describe_beats(times: BeatTimes) -> str:
    """Return the intervals in words: `60 intervals of 9.9 s to 10.2 s, 10.0 s on average`."""
    count = len(times.intervals)
    return (
        f"{count} interval{'s' if count != 1 else ''} of {times.least_sec:.1f} s to {times.most_sec:.1f} s, "
        f"{times.mean_sec:.1f} s on average; the truth says {times.every_sec:g} s"
    )
