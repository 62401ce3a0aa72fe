"""Asks a language model for two sentences a story, where there is one; every way in which that fails is fine.

The endpoint is a stranger: its answers are bounded, checked and made harmless, and it is left alone while
it is ill. The feeds are strangers too: what they say reaches the model as data, and what comes back is
plain text.
"""

from services.vexy_ai.llm.summaries import Summaries

__all__ = ["Summaries"]
