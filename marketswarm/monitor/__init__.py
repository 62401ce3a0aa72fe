"""A vigil: buses listened to, `liveness` fed, verdicts told, silences remembered.

The healer keeps one over all services and the sentinel one over the healer; they share this code, but no
process, no connection and no key. It does what `liveness` concludes, and concludes nothing itself.
"""

from marketswarm.detector import NO_TIMEOUT
from marketswarm.monitor.conventions import alert_target, healer_heartbeat
from marketswarm.monitor.encoder import VerdictEncoder
from marketswarm.monitor.leadership import Fence
from marketswarm.monitor.monitor import Monitor

__all__ = ["NO_TIMEOUT", "Fence", "Monitor", "VerdictEncoder", "alert_target", "healer_heartbeat"]
