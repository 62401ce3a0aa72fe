"""A master, its replicas, and real Redis Sentinels that look after them."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import redis

from support.pages import ROOT, blocks
from support.rig.process import HOST, Process, Server, free_port, server_binary
from support.rig.tcp_proxy import TcpProxy
from support.waiting import until

NAME = "mymaster"
# as the page says; for `failover-timeout`, too, a replica that follows its master over a wire is left alone
SERVER_CONF, SENTINEL_CONF = blocks(ROOT / "docs" / "buses.md", "conf")


class RedisSentinel(Process):
    """A Redis Sentinel with a port and a folder of its own; runs from the constructor on.

    `conf` is added to what it needs, and may overrule it.
    """

    def __init__(self, folder: Path, master: int, quorum: int = 1, conf: Iterable[str] = ()) -> None:
        super().__init__()
        self.port = free_port()
        folder.mkdir(parents=True)
        shown = SENTINEL_CONF.replace("5000", "1000").replace("10.0.0.1 6379 2", f"{HOST} {master} {quorum}")
        lines = (f"bind {HOST}", f"port {self.port}", f"dir {folder}", "logfile sentinel.log", shown, *conf)
        path = folder / "sentinel.conf"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self.spawn([str(server_binary()), str(path), "--sentinel"])

    def ask(self, *words: str) -> Any:
        """Send a SENTINEL command; return the reply, or None if there is none."""
        with (
            contextlib.suppress(redis.RedisError),
            redis.Redis(port=self.port, decode_responses=True, socket_timeout=1) as client,
        ):
            return client.execute_command("SENTINEL", *words)
        return None


class Guarded:
    """`with Guarded(tmp_path) as guarded:` - a master with replicas, and sentinels that know each other.

    `url` is what agents get. With `wires` the replicas follow their master over those, which can be cut.
    """

    def __init__(self, folder: Path, *, replicas: int = 2, sentinels: int = 3, wires: bool = False) -> None:
        self.folder, self.wired = folder, wires
        self.counts = replicas, sentinels
        pairs = (line.split(" ", 1) for line in SERVER_CONF.splitlines())
        self.config = {name.replace("-", "_"): value for name, value in pairs}
        self.config["repl_diskless_sync_delay"] = "0"  # else each first copy waits 5 s for more replicas
        self.servers: list[Server] = []
        self.wires: list[TcpProxy] = []
        self.sentinels: list[RedisSentinel] = []
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> Self:
        replicas, sentinels = self.counts
        with contextlib.ExitStack() as ends:
            first = ends.enter_context(Server(self.folder / "server-0", **self.config))
            self.servers.append(first)
            for n in range(1, replicas + 1):
                port = first.port
                if self.wired:
                    self.wires.append(ends.enter_context(TcpProxy(first.port)))
                    port = self.wires[-1].port
                config = {**self.config, "replicaof": f"{HOST} {port}"}
                self.servers.append(ends.enter_context(Server(self.folder / f"server-{n}", **config)))
            for n in range(sentinels):
                folder = self.folder / f"sentinel-{n}"
                sentinel = RedisSentinel(folder, first.port, sentinels // 2 + 1)
                self.sentinels.append(ends.enter_context(sentinel))
            for sentinel in self.sentinels:
                until(lambda one=sentinel: self._knows_all(one), what="sentinels to know each other")
            until(self._replicates, what="the replicas to be as far as the master")
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ends.close()

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'{HOST}:{each.port}' for each in self.sentinels)}/{NAME}"

    def master(self) -> Server | None:
        """The one that all sentinels call so; None while they don't agree."""
        said = {(each.ask("GET-MASTER-ADDR-BY-NAME", NAME) or (HOST, 0))[1] for each in self.sentinels}
        return next((each for each in self.servers if said == {str(each.port)}), None)

    def successor(self, within: float = 90.0) -> Server:
        """The master after the first one, waiting until all agree.

        A Redis Sentinel that stood still for 2 s does nothing for 30 s.
        """
        new: Server = until(
            lambda: (now := self.master()) is not self.servers[0] and now, within, f"a master after {self}"
        )
        return new

    def _knows_all(self, sentinel: RedisSentinel) -> bool:
        replicas, sentinels = self.counts
        said = sentinel.ask("MASTER", NAME) or {}
        known = int(said.get("num-slaves", -1)), int(said.get("num-other-sentinels", -1))
        return known == (replicas, sentinels - 1) and all(
            each["flags"] == "slave" for each in sentinel.ask("REPLICAS", NAME) or ()
        )

    def _replicates(self) -> bool:
        said = self.servers[0].cmd("INFO", "replication")
        states = [said.get(f"slave{n}", {}).get("state") for n in range(self.counts[0])]
        return states == ["online"] * self.counts[0]
