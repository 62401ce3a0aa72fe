"""Choose the pages that the menu of a fleet has: those for which its truth has something to show. Pure."""

from typing import Final

from marketswarm.truth import Truth
from services.board.fleet.frame import Section
from services.board.fleet.topology import is_monitoring_key
from services.board.market.feed import list_market_buses
from services.board.settings import PublicSettings

_ALWAYS: Final[tuple[Section, ...]] = (("/", "Fleet"), ("/incidents", "Incidents"), ("/alerts", "Alerts"))
_TOPOLOGY: Final[Section] = ("/topology", "Topology")
_MORE: Final[tuple[Section, ...]] = (("/truth", "Truth"), ("/notifications", "Notifications"))
_ADD: Final[Section] = ("/truth/add", "Add")
_MARKET: Final[Section] = ("/market", "Market")
_PUBLIC: Final[Section] = ("/public", "Public")


def list_sections(truth: Truth, public: PublicSettings, *, may_seed: bool = False) -> tuple[Section, ...]:
    """Return the menu in its order.

    The topology needs a service that passes something on to others, the market one that publishes prices, and
    the public page one that it shows. `may_seed` says that the truth lets the board change it, which is to be
    so for "Add". The pages answer all the same, and say what is missing.
    """
    beats = {watch.channel for watch in truth.watched()}
    keys = (
        point.key
        for section in truth.services.values()
        for point in (*section.access_points.publish_to, *section.access_points.subscribe_to)
    )
    has_work = any(not is_monitoring_key(key) and key not in beats for key in keys)
    topology = (_TOPOLOGY,) if has_work else ()
    market = (_MARKET,) if list_market_buses(truth) else ()
    shown = (_PUBLIC,) if public.services or public.tags else ()
    add = (_ADD,) if may_seed else ()
    return (*_ALWAYS, *topology, *_MORE, *add, *market, *shown)
