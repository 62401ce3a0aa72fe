"""METRICS_PORT in the life of an agent: served from its first moment to its last, or not there at all.

The library behind it is imported only where the port is set: an agent without it carries none of that.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from marketswarm.agent.beating import Beating
from marketswarm.agent.member import Agent
from marketswarm.bus.stored_values import collect_unusable
from marketswarm.metrics.own import OwnMetrics, Vitals


@contextlib.contextmanager
def measured(me: Agent[Any]) -> Iterator[OwnMetrics | None]:
    """Serves what the agent exposes for as long as the block lasts; None when there is no port for it.

    Raises:
        Exit: code 2, when nobody can listen there.
    """
    port = me.settings.metrics_port
    if port is None:
        yield None
        return
    from marketswarm.metrics.serving import Exporter  # noqa: PLC0415 - see above

    own = OwnMetrics(me.name, me.boot)
    me.expose(own.collect)
    me.expose(collect_unusable)
    names = (me.name, *(me.settings.metrics_allowed_hosts or "").split(","))
    with Exporter(me.settings.metrics_host, port, me.sources, names):
        yield own


def measure(me: Agent[Any], own: OwnMetrics, beating: Beating) -> None:
    """From now on the agent's vitals are told, and its loop is measured."""
    own.vitals = lambda: Vitals(
        revision=me.revision,
        degraded=beating.degraded,
        beats_sent=beating.sent,
        beats_failed=beating.failed,
        last_beat_at=beating.sent_at,
    )
    me.task(own.lag.run(), name="loop lag")
