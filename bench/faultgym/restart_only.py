"""A healer that restarts whatever is missed, as docker-autoheal does; for comparison.

Its documented rule: look every AUTOHEAL_INTERVAL (5 s), and restart each container whose health check says
`unhealthy`; a container that was restarted is `starting` until its health check failed anew. Here a service
is unhealthy while the healer has it as down, and the look is every second.
"""

import time
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

from bench.background import Background
from bench.faultgym.case import HealerAction
from marketswarm.fleet_control import NoFleetError, ProcessState, read_processes, request_restart

EVERY_SEC: Final = 1.0


class RestartOnly(Background):
    """Restart services while a `with` block runs.

    A service is not looked at for `starting_sec` after its restart: with less than a start takes, it would be
    restarted for ever.
    `actions` is what was done, `failures` counts looks that failed.
    """

    def __init__(self, control: str, read_down: Callable[[], set[str]], starting_sec: float) -> None:
        super().__init__()
        self.actions: list[HealerAction] = []
        self.failures = 0
        self._control, self._read_down, self._starting_sec = control, read_down, starting_sec

    def _run(self) -> None:
        restarted_at: dict[str, float] = {}
        while not self._is_over.wait(EVERY_SEC):
            try:
                down = self._read_down()
                processes = {each.name: each for each in read_processes(self._control)}
            except (NoFleetError, RedisError):
                self.failures += 1
                continue
            for svc in sorted(down & processes.keys()):
                process, now = processes[svc], time.time()
                is_running = process.state is ProcessState.RUNNING
                if not is_running or now - restarted_at.get(svc, 0.0) < self._starting_sec:
                    continue
                restarted_at[svc] = now
                try:
                    request_restart(self._control, svc, process.identity)
                except NoFleetError:
                    continue
                self.actions.append(HealerAction(now, svc, "restart"))
