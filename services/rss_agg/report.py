"""What the state of all feeds comes to, in a beat's few words. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from services.rss_agg.section import Feed
from services.rss_agg.standing import Standing

SHOWN: Final = 4
SHOWN_OF_OTHERS: Final = 2


def state_of(standing: Standing | None) -> str:
    """One word for how a feed is."""
    if standing is None or not (standing.read_at or standing.gone_at):
        return "unread"
    if standing.gone_at:
        return "gone"
    return "failing" if standing.why else "well"


def shown(standing: Standing) -> tuple[str, ...]:
    """All of a standing that is ever said: another one is news."""
    return state_of(standing), standing.why, standing.moved


def states(feeds: Sequence[Feed], standings: Mapping[str, Standing]) -> Counter[str]:
    """How many feeds are in each state."""
    return Counter(state_of(standings.get(feed.url)) for feed in feeds)


def all_fail(feeds: Sequence[Feed], standings: Mapping[str, Standing]) -> bool:
    """Whether there are feeds, and none of them can be read."""
    found = states(feeds, standings)
    return bool(feeds) and found["failing"] + found["gone"] == len(feeds)


def summed_up(feeds: Sequence[Feed], standings: Mapping[str, Standing]) -> str | None:
    """`2 of 3 feeds fail: a (timeout), b (404); 1 moved: c`, or None when there is nothing to say."""
    known = [(feed, standings[feed.url]) for feed in feeds if feed.url in standings]
    failing = [f"{feed.name} ({one.why})" for feed, one in known if state_of(one) == "failing"]
    gone = [feed.name for feed, one in known if one.gone_at]
    moved = [feed.name for feed, one in known if one.moved and not one.gone_at]
    said = []
    if failing:
        said.append(f"{len(failing)} of {len(feeds)} feeds fail: {_some(failing, SHOWN)}")
    if gone:
        said.append(f"{len(gone)} gone for good: {_some(gone, SHOWN_OF_OTHERS)}")
    if moved:
        said.append(f"{len(moved)} moved: {_some(moved, SHOWN_OF_OTHERS)}")
    return "; ".join(said) or None


def _some(names: Sequence[str], shown: int) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
