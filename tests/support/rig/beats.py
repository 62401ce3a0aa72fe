"""Beats of a service of which there is no process."""

import threading
import time

import orjson


class Feed:
    """Beats of a service, while it is up; each start has a boot of its own."""

    status = "ok"

    def __init__(self, server, svc="feed"):
        self.svc = svc
        self.server, self.boot, self.is_up, self.is_over = server, 1, True, threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)
        self.thread.start()

    def _beat(self):
        number = 0
        while not self.is_over.wait(0.2):
            self.look()
            if self.is_up:
                number += 1
                said = {"i": number, "ts": time.time(), "boot": f"b{self.boot}", "status": self.status}
                beat = orjson.dumps({"svc": self.svc, **said})
                self.server.cmd("SET", f"beat:{self.svc}", beat, "PX", 3000)
                self.server.cmd("PUBLISH", f"{self.svc}:heartbeat", beat)

    def look(self):
        """Look around before a beat."""

    def restart(self):
        self.boot += 1
        self.is_up = True

    def close(self):
        self.is_over.set()
        self.thread.join()
