"""How a text feels, from -1 to 1, by the VADER lexicon: made for short English texts, 0 for all others.

The library is loaded with the first text: a worker that never had any stays small.
"""

from functools import cache
from typing import Any, Final

TEXT_LIMIT: Final = 300
"""Characters; its time grows with the square of the words, and a headline says it early."""


def sentiment(text: str) -> float:
    """The compound score of a text."""
    return float(_analyzer().polarity_scores(text[:TEXT_LIMIT])["compound"])


@cache
def _analyzer() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # noqa: PLC0415 - see above

    return SentimentIntensityAnalyzer()
