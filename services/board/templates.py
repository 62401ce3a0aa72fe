"""Put the templates of the board together with the functions that they call, which are in its packages."""

from typing import Final

from marketswarm.web.responses import Templates
from services.board.brand.brand import NO_BRAND
from services.board.fleet.probe_pictures import FILTERS as PROBE_FILTERS
from services.board.fleet.words import FILTERS
from services.board.market.cascade import is_fallback
from services.board.market.pictures import FILTERS as MARKET_FILTERS
from services.board.market.price_cells import make_cells
from services.board.signals.words import FILTERS as SIGNAL_FILTERS

TEMPLATES: Final = Templates(
    "services.board",
    {
        **FILTERS,
        **PROBE_FILTERS,
        **MARKET_FILTERS,
        **SIGNAL_FILTERS,
        "is_fallback": is_fallback,
        "cells": make_cells,
    },
    {"find_brand": lambda: NO_BRAND},  # `Board` replaces it by the brand of its truth
)
