"""Two servers, a seeded truth, agents: the usual scene of a live test."""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import orjson

from support.rig.alert_tail import AlertTail
from support.rig.process import Proc, Server


class Fleet:
    """Two servers, a seeded truth, agents: `with Fleet(tmp_path, truth, ["healer", "rss_agg"]) as fleet:`.

    At the end everything is ended by pid, and a child that is left is a failed test.
    """

    def __init__(
        self,
        folder: Path,
        truth: Mapping[str, Any],
        agents: list[str] | None = None,
        env: Mapping[str, str] | None = None,
        *,
        tail: bool = True,
        server_clock: Mapping[str, str] | None = None,
        server_config: Mapping[str, str] | None = None,
    ) -> None:
        self.server_clock, self.server_config = server_clock, dict(server_config or {})
        self.folder, self.truth, self.extra, self.tailed = folder, truth, dict(env or {}), tail
        self.wanted = list(agents or [])
        self.agents: dict[str, Proc] = {}
        self.resources = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ends:
            how = {"clock": self.server_clock, **self.server_config}
            self.system = ends.enter_context(Server(self.folder / "system-redis", **how))
            self.market = ends.enter_context(Server(self.folder / "market-redis", **how))
            self.env = {
                "SYSTEM_REDIS_URL": self.system.url,
                "MARKET_REDIS_URL": self.market.url,
                **self.extra,
            }
            self.resources = ends
            self.seed(self.truth)
            if self.tailed:
                self.alerts = ends.enter_context(AlertTail(self.system.url))
            for name in self.wanted:
                self.start(name)
            self.resources = ends.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self.resources.close()
        started = [self.system, self.market, *self.agents.values()]
        left = [each.pid for each in started if Path(f"/proc/{each.pid}").exists()]
        assert not left, f"still there: {left}"

    def seed(self, truth: Mapping[str, Any], expect: int = 0) -> Proc:
        """`python -m bootstrap` with that truth; fails when it ends with another code than `expect`.

        Where a request took a busy machine too long, both buses are as before, and it is seeded again.
        """
        path = self.folder / "truth.json"
        path.write_bytes(orjson.dumps(truth))
        ends_at = time.monotonic() + 60
        while True:
            with Proc("bootstrap", {**self.env, "TRUTH_PATH": str(path)}, self.folder) as bootstrap:
                code = bootstrap.wait(30)
            if (
                code == expect
                or code != 3
                or ": timeout" not in bootstrap.text()
                or time.monotonic() > ends_at
            ):
                break
        assert code == expect, f"exit code {code}: {bootstrap}"
        return bootstrap

    def start(self, name: str, **env: str) -> Proc:
        """Starts an agent (again): `rss_agg` is `services.rss_agg`, `healer` is `healer`."""
        again = self.agents.get(name)
        if again is not None and not env:
            again.start()
            return again
        module = name if name in ("healer", "sentinel", "notifier") else f"services.{name}"
        self.agents[name] = self.resources.enter_context(Proc(module, {**self.env, **env}, self.folder))
        return self.agents[name]

    def __getitem__(self, name: str) -> Proc:
        return self.agents[name]
