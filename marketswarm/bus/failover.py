"""Connect to a bus: to the server in its URL, over TLS, or to the master that Redis Sentinels name.

For every new connection all sentinels are asked at once, and the answer with the newest configuration epoch
wins. A server whose role is replica is rejected: it was demoted, or is not promoted yet. When another server
becomes the master, all connections to the former one are closed, even those that work: publishers and
subscribers must not be on different servers.
"""

import asyncio
import contextlib
import ssl
import weakref
from collections.abc import Collection, Mapping
from typing import Any, Final

from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, parse_url
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - the library's name
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from marketswarm.bus_url import Sentinels, sentinels

_HUNG_UP: Final = "hung up after the handshake; does it want another client certificate (ssl_certfile)?"
OTHERS_WITHIN_SEC: Final = 0.1
"""How long to wait for the other sentinels after the first answer: one of them may know a newer master."""

HostPort = tuple[str, int]
MasterAnswer = tuple[int, HostPort]
"""A sentinel's answer: the configuration epoch, greater for a newer master, and the master's address."""


class UnknownMasterError(RedisError):
    """A sentinel does not monitor a master of that name, or not yet."""


def make_pool(url: str, **options: Any) -> ConnectionPool:
    """Make the connection pool of one client of a bus, for the server in its URL or for the master.

    Args:
        url: in one of the forms that `bus_url.py` parses.
        **options: options of every connection, to sentinels too.

    Raises:
        ValueError: the URL has another form.
    """
    behind = sentinels(url)
    if behind is None:
        said: dict[str, Any] = options | parse_url(url)
        if said.get("connection_class") is SSLConnection:
            said["connection_class"] = TlsConnection
        return ConnectionPool(**said)
    said = dict(parse_url(behind.server_url("found", 1)))
    kind = _SecureToMaster if said.pop("connection_class", None) is SSLConnection else _ToMaster
    said |= options | {"master": Master(behind, options)}
    return ConnectionPool(connection_class=kind, **said)


async def drop_idle(pool: ConnectionPool) -> None:
    """Close the idle connections of a pool, so that the next request connects to the current master."""
    for connection in list(pool._available_connections):  # noqa: SLF001 - its `disconnect` may also close a connection that is taken meanwhile
        await connection.disconnect(nowait=True)


class Master:
    """Finds the current master by asking its sentinels.

    Args:
        behind: the sentinels, and their name for the master.
        options: options of connections to the sentinels.
    """

    def __init__(self, behind: Sentinels, options: Mapping[str, Any]) -> None:
        self._name = behind.master
        self._sentinels = [make_pool(url, **options) for url in behind.urls()]
        self._known: MasterAnswer | None = None  # the answer used last, until `find` is called again
        self._connections: weakref.WeakSet[_ToMaster] = weakref.WeakSet()

    async def find(self) -> MasterAnswer:
        """Ask all sentinels and return the master with the newest configuration epoch.

        The answer that led to the last connection counts too, unless all sentinels answered. Raise the
        RedisError or OSError of the first sentinel that failed, if none answered.
        """
        asks = {asyncio.create_task(self._ask(each)) for each in self._sentinels}
        waiting = asks
        answers: list[MasterAnswer] = []
        try:
            while waiting and not answers:
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                answers, failures = _sorted(asks - waiting)
            if waiting:
                _, waiting = await asyncio.wait(waiting, timeout=OTHERS_WITHIN_SEC)
                answers, failures = _sorted(asks - waiting)
        finally:
            for ask in asks:
                ask.cancel()
        if not answers:
            raise failures[0]
        known, self._known = self._known, None
        if known is not None and len(answers) < len(asks):
            answers.append(known)  # the sentinels that know this master may not have answered in time
        return max(answers)

    async def _ask(self, pool: Any) -> MasterAnswer | Exception:
        """Ask one sentinel for the master; return its answer, or the error that the request failed with.

        `pool` is the connection pool of that sentinel.
        """
        sentinel = pool.make_connection()
        questions = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name), ("SENTINEL", "MASTER", self._name)]
        try:
            await sentinel.connect()
            await sentinel.send_packed_command(sentinel.pack_commands(questions), check_health=False)
            place = await sentinel.read_response()
            if place is None:
                return UnknownMasterError(f"{sentinel.host}:{sentinel.port} knows no master {self._name}")
            return await _epoch(sentinel), (place[0].decode(), int(place[1]))
        except (RedisError, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            return error
        finally:
            await sentinel.disconnect(nowait=True)

    def joined(self, connection: "_ToMaster", answer: MasterAnswer) -> None:
        """Register a connection to the master that `answer` names, and close those to any other server."""
        self._known = answer
        self._connections.add(connection)
        for other in list(self._connections):
            if (other.host, other.port) != answer[1]:
                other.hang_up()


def _sorted(
    done: Collection[asyncio.Task[MasterAnswer | Exception]],
) -> tuple[list[MasterAnswer], list[Exception]]:
    """Return the answers of the finished requests to sentinels, and the errors of those that failed."""
    said = [ask.result() for ask in done]
    return [each for each in said if isinstance(each, tuple)], [
        each for each in said if isinstance(each, Exception)
    ]


async def _epoch(sentinel: Any) -> int:
    """Read the reply to SENTINEL MASTER and return its configuration epoch; 0 for none or an error reply."""
    try:
        said = await sentinel.read_response()
    except ResponseError:  # a sentinel's user may be allowed the first question alone
        return 0
    return int(dict(zip(said[::2], said[1::2], strict=True)).get(b"config-epoch", 0))


class TlsConnection(SSLConnection):
    """A connection over TLS that raises SSLError for a certificate that is missing, unreadable or refused.

    With TLS 1.3 the server rejects a client's certificate only after the handshake. What the client has sent
    by then makes the server reset the connection, which looks like a server that went away. So this
    connection waits for one answer before it counts as made: a server that hangs up there has rejected the
    certificate.
    """

    async def _connect(self) -> None:
        """Connect over TLS. Raise SSLError if a file with a certificate or a key can't be read."""
        try:
            await super()._connect()  # type: ignore[no-untyped-call]  # the library's
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            files = "ssl_ca_certs, ssl_certfile or ssl_keyfile can't be read"
            raise ssl.SSLError(f"{files} ({error.strerror})") from error

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Finish the handshake as the library does, then wait for one reply of the server.

        Raise ConnectionError, caused by an SSLError, if the server closes the connection instead.
        """
        try:
            await super().on_connect_check_health(check_health)
            await self._answered()
        except ConnectionError as error:
            if type(error) is not ConnectionError:  # an error reply: wrong password, or loading its data
                raise
            raise ConnectionError(f"{self.host}:{self.port} {_HUNG_UP}") from ssl.SSLError(str(error))

    async def _answered(self) -> None:
        """Send PING and wait for its reply, which may be an error reply."""
        await self.send_command("PING", check_health=False)
        with contextlib.suppress(ResponseError, AuthenticationError, BusyLoadingError):
            await self.read_response()


class _ToMaster(Connection):
    """A connection to the server that is the master when the connection is made."""

    def __init__(self, *, master: Master, **options: Any) -> None:
        self._master = master
        self._answer: MasterAnswer
        super().__init__(**options)

    async def _connect(self) -> None:
        """Ask the sentinels for the master, and connect to it."""
        self._answer = await self._master.find()
        self.host, self.port = self._answer[1]
        await super()._connect()  # type: ignore[no-untyped-call]  # the library's

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Finish the handshake, then raise ReadOnlyError if the server is no master.

        The role is read from the reply to HELLO, which every user may send, and not from ROLE.
        """
        await super().on_connect_check_health(check_health)
        await self.send_command("HELLO", check_health=False)
        said = await self.read_response()
        role = dict(zip(said[::2], said[1::2], strict=True)).get(b"role")
        if role != b"master":
            raise ReadOnlyError(f"{self.host}:{self.port}, which sentinels call the master, is a replica")
        self._master.joined(self, self._answer)

    def hang_up(self) -> None:
        """Close the connection at once: a task that awaits a reply on it gets an error."""
        if self._writer is not None:
            self._writer.transport.abort()


class _SecureToMaster(_ToMaster, TlsConnection):
    """A connection over TLS to the server that is the master when the connection is made."""
