"""Choose the pages that the menu of a fleet has: those for which its truth has something to show. Pure."""

from marketswarm.truth import Truth
from services.board.fleet.frame import Section
from services.board.fleet.topology import is_monitoring_key
from services.board.market.feed import list_market_buses
from services.board.settings import PublicSettings


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
    sections = (
        (("/", "Fleet"), True),
        (("/incidents", "Incidents"), True),
        (("/alerts", "Alerts"), True),
        (("/topology", "Topology"), has_work),
        (("/truth", "Truth"), True),
        (("/notifications", "Notifications"), True),
        (("/truth/add", "Add"), may_seed),
        (("/market", "Market"), list_market_buses(truth)),
        (("/public", "Public"), public.services or public.tags),
    )
    return tuple(section for section, is_shown in sections if is_shown)
