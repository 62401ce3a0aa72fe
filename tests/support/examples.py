"""The number of examples that Hypothesis tries, for a property that needs more or fewer than the others."""

from hypothesis import settings

USUAL = 100


def examples(count: int) -> int:
    """Return so many of 100 as the profile that is loaded tries: forty under `dev`, ten under `brief`."""
    return max(1, count * settings().max_examples // USUAL)
