"""A vigil: buses listened to, `liveness` fed, verdicts told, silences remembered.

The healer keeps one over all services and the sentinel one over the healer; they share this code, but no
process, no connection and no key. It does what `liveness` concludes, and concludes nothing itself.
"""

from marketswarm.liveness import NO_TIMEOUT
from marketswarm.vigil.agreed import alert_target, healer_heartbeat
from marketswarm.vigil.notices import Notices
from marketswarm.vigil.voice import Fence
from marketswarm.vigil.watching import Vigil

__all__ = ["NO_TIMEOUT", "Fence", "Notices", "Vigil", "alert_target", "healer_heartbeat"]
