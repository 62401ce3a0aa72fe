"""The loop of rss_agg: follow the truth and the other instances, read what is due, say which feeds fail."""

import contextlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from marketswarm.agent import Agent, Code, Exit, agent
from marketswarm.settings import Common
from services.rss_agg.settings import RssSettings

if TYPE_CHECKING:
    from services.rss_agg.reader import Desk

NOTHING_TO_DO_SEC: Final = 60.0
NEEDED: Final = ("brotli", "feedparser", "h2")  # of the extra; some only show with the first feed


async def main() -> int:
    """Be rss_agg until asked to stop."""
    async with agent("rss_agg") as me, contextlib.AsyncExitStack() as closing:
        own, share, desk = me.own(RssSettings), me.share("feeds"), None
        await share.known()
        while True:
            section = own()
            if desk is None and section.endpoints:
                desk = await closing.enter_async_context(_desk(me))
            if desk is not None:
                await desk.follow(section, share.mine)
                desk.begin()
                if desk.news():
                    say(me, desk)
            await me.rest(NOTHING_TO_DO_SEC if desk is None else desk.rest_sec())
    return me.exit_code


def say(me: Agent[Common], desk: "Desk") -> None:
    """Some feeds that fail are worth a word; all that fail are a trouble, and so is a bus that is away."""
    from services.rss_agg.store import all_fail, summed_up  # noqa: PLC0415 - loaded by now

    summary = summed_up(desk.feeds, desk.standings)
    me.degraded(desk.stalled or (summary if all_fail(desk.feeds, desk.standings) else None))
    me.note(summary)


def _desk(me: Agent[Common]) -> "Desk":
    """A desk, whose libraries are loaded here and now: without feeds nobody needs them.

    Raises:
        Exit: code 2, when they are not there.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        why = f"reading feeds needs {', '.join(missing)}: pip install 'marketswarm[services]'"
        raise Exit(Code.CONFIGURATION, why)
    from services.rss_agg.metrics import Tally  # noqa: PLC0415 - see above
    from services.rss_agg.reader import Desk  # noqa: PLC0415 - see above

    tally = Tally()
    me.expose(tally.collect)
    return Desk(me, tally)
