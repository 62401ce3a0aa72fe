"""A healer that restarts whatever is missed, as docker-autoheal does; for comparison.

Its documented rule: look every AUTOHEAL_INTERVAL (5 s), and restart each container whose health check says
`unhealthy`; a container that was restarted is `starting` until its health check failed anew. Here a service
is unhealthy while the healer has it as down, and the look is every second.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from redis.exceptions import RedisError

from bench.faultgym.case import HealerAction
from marketswarm.fleet_control import NoFleetError, ProcessState, read_processes, request_restart

EVERY_SEC: Final = 1.0
STARTING_SEC: Final = 5.0
"""How long a service is not looked at after its restart."""


class RestartOnly:
    """Restart services while a `with` block runs.

    `actions` is what was done, `failures` counts looks that failed.
    """

    def __init__(self, control: str, read_down: Callable[[], set[str]]) -> None:
        self.actions: list[HealerAction] = []
        self.failures = 0
        self._control, self._read_down = control, read_down
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join(15)

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
                if not is_running or now - restarted_at.get(svc, 0.0) < STARTING_SEC:
                    continue
                restarted_at[svc] = now
                try:
                    request_restart(self._control, svc, process.identity)
                except NoFleetError:
                    continue
                self.actions.append(HealerAction(now, svc, "restart"))
