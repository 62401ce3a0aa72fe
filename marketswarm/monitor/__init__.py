"""The parts that healer and sentinel share: listen to buses, evaluate silences, publish verdicts, save state.

The healer runs one `Monitor` over all services, the sentinel one over the healer. They share this code, but
no process, no connection and no key. `marketswarm.detector` draws all conclusions; here is its I/O.

Enters: beats on channels, `beat:<svc>`, the roster and the states on the buses.
Leaves: verdicts in the alert log, its channel, the roster and `health:<svc>`, in one step on each bus.
Never: a miss without a look at `beat:<svc>`, or a write of a monitor that no longer leads.
"""

# `monitor` has the loop, `feed` passes on the listeners' reports, `witness` reads `beat:<svc>`, `publisher`
# publishes verdicts (`encoder` makes the events, `verdict_queue` holds those that a bus has yet to take),
# `state` restores and saves the state (`store` reads and writes its hashes), `health` refreshes the `health:`
# keys, `leadership` has the fences of writes, `metrics` is for Prometheus.

# what is imported for checkers of types is what this package gives: see `lazy_names`
# mypy: implicit-reexport
# ruff: noqa: F401

from typing import TYPE_CHECKING

from marketswarm.lazy_names import import_when_used

if TYPE_CHECKING:
    from marketswarm.monitor.conventions import find_alert_target, make_healer_heartbeat
    from marketswarm.monitor.encoder import VerdictEncoder
    from marketswarm.monitor.leadership import Fence
    from marketswarm.monitor.monitor import Monitor

__getattr__ = import_when_used(__name__)
