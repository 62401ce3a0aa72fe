"""Compute how well a colour of one's own is seen in each theme of the pages. Pure.

The contrast is that of WCAG 2: from 1 for two equal colours to 21 for black on white. The colours are used
for large text (the name in the head) and for lines (the head, the current page, the focus), so WCAG's 3 is
enough; links and other text keep the colours of the theme.
"""

from collections.abc import Mapping
from typing import Final

MIN_CONTRAST: Final = 3.0
"""The least contrast of large text and of lines with what is behind them (WCAG 2.2, 1.4.3 and 1.4.11)."""
BACKGROUNDS: Final[Mapping[str, tuple[str, ...]]] = {
    "light": ("#fbfbf9", "#ffffff"),
    "dark": ("#131417", "#1a1c20"),
    "navy": ("#0f2742", "#15304f"),
}
"""By theme, the colours of the page and of its cards: `--back` and `--card` of static/board.css."""


def find_contrast(colour: str, theme: str) -> float:
    """Return the contrast of a colour with what is behind it in a theme, where that is least."""
    return min(compute_contrast(colour, each) for each in BACKGROUNDS[theme])


def compute_contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2 defines it, from 1 to 21."""
    darker, lighter = sorted((_compute_luminance(one), _compute_luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _compute_luminance(colour: str) -> float:
    """Return the relative luminance of a colour, from 0 for black to 1 for white."""
    red, green, blue = (_linearise(int(colour[at : at + 2], 16) / 255) for at in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linearise(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)
