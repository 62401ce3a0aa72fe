"""Durations as people read them. Pure."""


def in_words(sec: float) -> str:
    """Seconds as `31.2 s`, `4 min 10 s`, `2 h 5 min` or `3 d 4 h`."""
    if sec < 120:
        return f"{sec:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(sec), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
