"""Replace the limits of a source by those that the settings say. Pure."""

from collections.abc import Mapping

from services.sources.catalog.source import Limits, MarketSource
from services.sources.settings import LimitSettings


def replace_limits(source: MarketSource, limits: Mapping[str, LimitSettings]) -> MarketSource:
    own = limits.get(source.name)
    return source if own is None else source.model_copy(update={"limits": Limits(**own.model_dump())})
