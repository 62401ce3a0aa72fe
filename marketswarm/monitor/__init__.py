"""The parts that healer and sentinel share: listen to buses, evaluate silences, publish verdicts, save state.

The healer runs one `Monitor` over all services, the sentinel runs one over the healer. They share this code,
but no process, no connection and no key. All conclusions are drawn by `marketswarm.detector`; the modules
here do its I/O:

`monitor` has the loop, `feed` passes on the listeners' reports, `witness` reads `beat:<svc>`, `publisher`
publishes verdicts (`encoder` makes the events, `verdict_queue` holds those that a bus has yet to take),
`state` restores and saves the state (`store` reads and writes its hashes), `health` refreshes the `health:`
keys, `leadership` has the fences of writes, `metrics` is for Prometheus.
"""

from typing import TYPE_CHECKING

from marketswarm.lazy_names import import_when_used

if TYPE_CHECKING:
    from marketswarm.detector import NO_TIMEOUT
    from marketswarm.monitor.conventions import find_alert_target, make_healer_heartbeat
    from marketswarm.monitor.encoder import VerdictEncoder
    from marketswarm.monitor.leadership import Fence
    from marketswarm.monitor.monitor import Monitor

__all__ = ["NO_TIMEOUT", "Fence", "Monitor", "VerdictEncoder", "find_alert_target", "make_healer_heartbeat"]

__getattr__ = import_when_used(
    __name__,
    {
        "marketswarm.detector": ("NO_TIMEOUT",),
        "marketswarm.monitor.conventions": (
            "find_alert_target",
            "make_healer_heartbeat",
        ),
        "marketswarm.monitor.encoder": ("VerdictEncoder",),
        "marketswarm.monitor.leadership": ("Fence",),
        "marketswarm.monitor.monitor": ("Monitor",),
    },
)
