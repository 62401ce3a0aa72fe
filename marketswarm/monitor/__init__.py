"""A vigil: buses listened to, `liveness` fed, verdicts told, silences remembered.

The healer keeps one over all services and the sentinel one over the healer; they share this code, but no
process, no connection and no key. It does what `liveness` concludes, and concludes nothing itself.
"""

from marketswarm.detector import NO_TIMEOUT
from marketswarm.monitor.agreed import alert_target, healer_heartbeat
from marketswarm.monitor.notices import Notices
from marketswarm.monitor.voice import Fence
from marketswarm.monitor.watching import Vigil

__all__ = ["NO_TIMEOUT", "Fence", "Notices", "Vigil", "alert_target", "healer_heartbeat"]
