"""The main loop of rss_agg: follow the truth and the other instances, start due readings, report."""

import contextlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from marketswarm.agent import Agent, Code, Exit, agent
from marketswarm.settings import CommonSettings
from services.rss_agg.settings import RssSettings

if TYPE_CHECKING:
    from services.rss_agg.reader import FeedDispatcher

IDLE_SEC: Final = 60.0
LIBRARIES: Final = ("brotli", "feedparser", "h2")  # httpx imports some of them only when used


async def main() -> int:
    """Run rss_agg until it is asked to stop; return its exit code."""
    async with agent("rss_agg") as me, contextlib.AsyncExitStack() as exits:
        settings, share, dispatcher = me.config(RssSettings), me.share("feeds"), None
        await share.known()
        while True:
            if dispatcher is None and settings().endpoints:
                dispatcher = await exits.enter_async_context(contextlib.aclosing(_make_dispatcher(me)))
            if dispatcher is not None:
                await dispatcher.follow(settings(), share.mine)
                dispatcher.start_due()
                if dispatcher.has_news():
                    report(me, dispatcher)
            await me.rest(IDLE_SEC if dispatcher is None else dispatcher.rest_sec())
    return me.exit_code


def report(me: Agent[CommonSettings], dispatcher: "FeedDispatcher") -> None:
    from services.rss_agg.store import all_fail, summarize  # noqa: PLC0415 - imported by now

    summary = summarize(dispatcher.feeds, dispatcher.states)
    failing = summary if all_fail(dispatcher.feeds, dispatcher.states) else None
    stalled = dispatcher.outage.problem and f"{dispatcher.outage.problem}: feeds are not read"
    me.set_degraded(stalled or failing)
    me.set_detail(summary)


def _make_dispatcher(me: Agent[CommonSettings]) -> "FeedDispatcher":
    """Import what an instance without feeds does not need. Raises Exit, code 2, if it is missing."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        why = f"reading feeds needs {', '.join(missing)}: pip install 'marketswarm[services]'"
        raise Exit(Code.CONFIGURATION, why)
    from services.rss_agg.metrics import RssMetrics  # noqa: PLC0415 - see above
    from services.rss_agg.reader import FeedDispatcher  # noqa: PLC0415 - see above

    metrics = RssMetrics()
    me.expose(metrics.collect)
    return FeedDispatcher(me, metrics)
