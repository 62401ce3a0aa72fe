"""An agent's own metrics: its name and boot, its beats, the truth in force, and the lag of its event loop.

METRICS_PORT serves them from before the agent joins until it has closed. If the port is not set, the server
is not imported.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any, Final

from marketswarm.agent.heartbeat import HeartbeatSender
from marketswarm.agent.member import Agent
from marketswarm.bus.stored_values import collect_unusable
from marketswarm.metrics import Family, Histogram, MetricTable

MEASURE_EVERY_SEC: Final = 0.25
_HELP: Final = {
    "agent_info{agent,boot}": "The process that answers: always 1.",
    "agent_start_time_seconds": "When this process began, in epoch seconds.",
    "event_loop_lag_seconds": "How late the event loop came to what was due, observed four times a second.",
    "event_loop_stall_seconds": (
        "How long the event loop has been overdue at this moment: grows while it hangs."
    ),
    "truth_revision": "Revision of the truth in force; none when the bus could not say which one it is.",
    "degraded": "1 while its beats say degraded.",
    "beats_sent_total": "Beats that the bus took.",
    "beats_failed_total": "Beats that the bus did not take.",
    "last_beat_sent_timestamp_seconds": "When the bus last took a beat, in epoch seconds.",
}
_METRICS: Final = MetricTable("marketswarm_", _HELP)


class LoopLag:
    """Measures how late the event loop runs a callback that is due, four times a second.

    While the loop hangs, the histogram gets no values; `stall_sec`, called from another thread, shows the
    hang.
    """

    def __init__(self) -> None:
        self.histogram = Histogram(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
        self._due: float | None = None

    async def run(self) -> None:
        try:
            while True:
                self._due = time.monotonic() + MEASURE_EVERY_SEC
                await asyncio.sleep(MEASURE_EVERY_SEC)
                self.histogram.observe(self.stall_sec() or 0.0)
        finally:
            self._due = None

    def stall_sec(self) -> float | None:
        """Return for how many seconds the loop is overdue; None while it is not measured."""
        due = self._due
        return None if due is None else max(0.0, time.monotonic() - due)


class AgentMetrics:
    """The source of an agent's own metrics. `sender` sends its beats, and is None until it has joined."""

    def __init__(self, me: Agent[Any]) -> None:
        self._me = me
        self._started_at = time.time()
        self.lag = LoopLag()
        self.sender: HeartbeatSender | None = None

    def collect(self) -> Iterator[Family]:
        yield from _METRICS.collect(
            agent_info={(self._me.name, self._me.boot): 1},
            agent_start_time_seconds=self._started_at,
            event_loop_lag_seconds=self.lag.histogram,
            event_loop_stall_seconds=self.lag.stall_sec(),
        )
        if self.sender is not None:
            yield from _METRICS.collect(
                truth_revision=self._me.revision,
                degraded=self.sender.is_degraded,
                beats_sent_total=self.sender.sent,
                beats_failed_total=self.sender.failed,
                last_beat_sent_timestamp_seconds=self.sender.sent_at,
            )


@contextlib.contextmanager
def serve_metrics(me: Agent[Any]) -> Iterator[AgentMetrics | None]:
    """Serve the agent's metrics on METRICS_PORT inside this block; yield None if that is not set.

    Raises Exit, code 2, if the port can't be opened.
    """
    port = me.settings.metrics_port
    if port is None:
        yield None
        return
    from marketswarm.metrics.exporter import Exporter  # noqa: PLC0415 - see above

    metrics = AgentMetrics(me)
    me.expose(metrics.collect)
    me.expose(collect_unusable)
    names = (me.name, *(me.settings.metrics_allowed_hosts or "").split(","))
    with Exporter(me.settings.metrics_host, port, me.sources, names):
        yield metrics
