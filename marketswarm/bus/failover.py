"""Connect to a bus: to the server in its URL, over TLS, or to the master that Redis Sentinels name.

For every new connection all sentinels are asked at once, and the answer with the newest configuration epoch
wins. A server whose role is replica is rejected, because it was demoted, or is not promoted yet. When another
server becomes the master, all connections to the former one are closed, even those that work: publishers and
subscribers must not be on different servers.
"""

import asyncio
import contextlib
import ssl
import weakref
from collections.abc import Collection, Mapping
from typing import Any, Final

import hiredis
from redis.asyncio.connection import (
    Connection,
    ConnectionPool,
    RedisSSLContext,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.connection import HiredisRespSerializer
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - the library's name
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from marketswarm.bus_url import Sentinels, parse_sentinels

_HUNG_UP: Final = "hung up after the handshake; does it want another client certificate (ssl_certfile)?"
OTHERS_WITHIN_SEC: Final = 0.1
"""How long to wait for the other sentinels after the first answer: one of them may know a newer master."""
MAX_CONNECTIONS: Final = 100
"""The most connections of a client to a bus; `max_connections` in the URL replaces it. More requests wait."""

HostPort = tuple[str, int]
MasterAnswer = tuple[int, HostPort]
"""A sentinel's answer: the configuration epoch, greater for a newer master, and the master's address."""


class UnknownMasterError(RedisError):
    """A sentinel does not monitor a master of that name, or not yet."""


class LeanPool(ConnectionPool):
    """A pool that hands out and takes back connections as the library's does, and reports nothing of it.

    The library's lock, events and metrics are an eighth of the processor time of a request. No lock is
    needed: nothing waits between looking at the connections and taking one.

    While all `max_connections` are taken, a further request waits, in turn, for one that comes back. Nothing
    here limits that wait: the time limit of the request counts it. Who holds a connection must not wait for a
    second one of the same pool.
    """

    def __init__(self, *, max_connections: int = MAX_CONNECTIONS, **options: Any) -> None:
        super().__init__(max_connections=max_connections, **options)
        self._unused = asyncio.Semaphore(self.max_connections)

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:  # noqa: ARG002 - the library's
        await self._unused.acquire()
        try:
            connection: Any = self.get_available_connection()  # type: ignore[no-untyped-call]
        except BaseException:  # an option of the URL that no connection takes
            self._unused.release()
            raise
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: Any) -> None:
        """Take a connection back, and close it if it is to be opened anew, to another master."""
        self._in_use_connections.remove(connection)
        try:
            if connection.should_reconnect():
                await connection.disconnect()
            self._available_connections.append(connection)
        finally:
            self._unused.release()


def make_connection_pool(url: str, **options: Any) -> ConnectionPool:
    """Make the connection pool of one client of a bus, for the server in its URL or for the master.

    `options` are those of every connection, to sentinels too. Raises ValueError for a URL that has none of
    the forms that `bus_url.py` parses.
    """
    sentinels = parse_sentinels(url)
    if sentinels is None:
        connection_options: dict[str, Any] = options | parse_url(url)
        found_class = connection_options.pop("connection_class", Connection)
        return LeanPool(connection_class=_CONNECTION_CLASSES[found_class], **connection_options)
    connection_options = dict(parse_url(sentinels.make_server_url("found", 1)))
    is_tls = connection_options.pop("connection_class", None) is SSLConnection
    connection_class = _TlsMasterConnection if is_tls else _MasterConnection
    connection_options |= options | {"master_finder": MasterFinder(sentinels, options)}
    return LeanPool(connection_class=connection_class, **connection_options)


async def close_idle_connections(pool: ConnectionPool) -> None:
    """Close the idle connections of a pool, so that the next request connects to the current master."""
    for connection in list(pool._available_connections):  # noqa: SLF001 - its `disconnect` may also close a connection that is taken meanwhile
        await connection.disconnect(nowait=True)


class MasterFinder:
    """Finds the current master by asking its sentinels. `options` are those of connections to them."""

    def __init__(self, sentinels: Sentinels, options: Mapping[str, Any]) -> None:
        self._name = sentinels.master
        self._sentinels = [make_connection_pool(url, **options) for url in sentinels.make_sentinel_urls()]
        # the answer used last, until `find_master` is called again
        self._last_answer: MasterAnswer | None = None
        self._connections: weakref.WeakSet[_MasterConnection] = weakref.WeakSet()

    async def find_master(self) -> MasterAnswer:
        """Ask all sentinels and return the master with the newest configuration epoch.

        The answer that led to the last connection counts too, unless all sentinels answered. Raise the
        RedisError or OSError of the first sentinel that failed, if none answered.
        """
        requests = {asyncio.create_task(self._ask_sentinel(each)) for each in self._sentinels}
        pending = requests
        answers: list[MasterAnswer] = []
        try:
            while pending and not answers:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                answers, failures = _split_results(requests - pending)
            if pending:
                _, pending = await asyncio.wait(pending, timeout=OTHERS_WITHIN_SEC)
                answers, failures = _split_results(requests - pending)
        finally:
            for request in requests:
                request.cancel()
        if not answers:
            raise failures[0]
        last_answer, self._last_answer = self._last_answer, None
        if last_answer is not None and len(answers) < len(requests):
            answers.append(last_answer)  # the sentinels that know this master may not have answered in time
        return max(answers)

    async def _ask_sentinel(self, pool: Any) -> MasterAnswer | Exception:
        """Return the master that a sentinel knows, or the error, on a connection that is closed after it."""
        sentinel = pool.make_connection()
        commands = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name), ("SENTINEL", "MASTER", self._name)]
        try:
            await sentinel.connect()
            await sentinel.send_packed_command(sentinel.pack_commands(commands), check_health=False)
            address = await sentinel.read_response()
            if address is None:
                return UnknownMasterError(f"{sentinel.host}:{sentinel.port} knows no master {self._name}")
            return await _read_config_epoch(sentinel), (address[0].decode(), int(address[1]))
        except (RedisError, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            return error
        finally:
            await sentinel.disconnect(nowait=True)

    def register_connection(self, connection: "_MasterConnection", answer: MasterAnswer) -> None:
        """Register a connection to the master that `answer` names, and close those to any other server."""
        self._last_answer = answer
        self._connections.add(connection)
        for other in list(self._connections):
            if (other.host, other.port) != answer[1]:
                other.hang_up()


def _split_results(
    done: Collection[asyncio.Task[MasterAnswer | Exception]],
) -> tuple[list[MasterAnswer], list[Exception]]:
    results = [task.result() for task in done]
    failures = [each for each in results if isinstance(each, Exception)]
    return [each for each in results if isinstance(each, tuple)], failures


async def _read_config_epoch(sentinel: Any) -> int:
    try:
        reply = await sentinel.read_response()
    except ResponseError:  # a sentinel's user may be allowed the first question alone
        return 0
    return int(dict(zip(reply[::2], reply[1::2], strict=True)).get(b"config-epoch", 0))


class _Packer:
    """Packs commands with hiredis, as the library's client without asyncio does: in a third of the time."""

    _serializer: Final = HiredisRespSerializer()

    def pack_command(self, *args: Any) -> list[bytes]:
        if type(args[0]) is str and " " not in args[0]:
            # the serializer looks at each value first, which takes twice the time
            with contextlib.suppress(TypeError):
                return [hiredis.pack_command(args)]
        packed: list[bytes] = self._serializer.pack(*args)
        return packed


class PlainConnection(_Packer, Connection):
    """A connection over TCP."""


class UnixConnection(_Packer, UnixDomainSocketConnection):
    """A connection over a Unix socket."""


def _make_context(given: RedisSSLContext) -> ssl.SSLContext:
    """Make a context as the library does, but without the authorities of the system beside those given."""
    context = ssl.create_default_context(cafile=given.ca_certs, capath=given.ca_path, cadata=given.ca_data)
    context.check_hostname = given.check_hostname
    context.verify_mode = ssl.VerifyMode(given.cert_reqs)
    for flag in given.include_verify_flags or ():
        context.verify_flags |= flag
    for flag in given.exclude_verify_flags or ():
        context.verify_flags &= ~flag
    if given.certfile or given.keyfile:
        context.load_cert_chain(given.certfile or "", given.keyfile, given.password)
    if given.min_version is not None:
        context.minimum_version = given.min_version
    if given.ciphers is not None:
        context.set_ciphers(given.ciphers)
    return context


class TlsConnection(_Packer, SSLConnection):
    """A connection over TLS that raises SSLError for a certificate that is missing, unreadable or refused.

    With TLS 1.3 the server rejects a client's certificate only after the handshake. What the client has sent
    by then makes the server reset the connection, which looks like a server that went away. So this
    connection waits for one answer before it counts as made: a server that hangs up there has rejected the
    certificate.
    """

    def _connection_arguments(self) -> Any:
        """Return the library's, with a context that trusts no authorities but those in the URL, if any."""
        given = self.ssl_context
        if given.context is None and (given.ca_certs or given.ca_data or given.ca_path):
            given.context = _make_context(given)
        return super()._connection_arguments()

    async def _connect(self) -> None:
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
            await self.send_command("PING", check_health=False)
            with contextlib.suppress(ResponseError, AuthenticationError, BusyLoadingError):
                await self.read_response()  # an error reply shows as well that the server is there
        except ConnectionError as error:
            if type(error) is not ConnectionError:  # an error reply: wrong password, or loading its data
                raise
            raise ConnectionError(f"{self.host}:{self.port} {_HUNG_UP}") from ssl.SSLError(str(error))


_CONNECTION_CLASSES: Final = {
    Connection: PlainConnection,
    UnixDomainSocketConnection: UnixConnection,
    SSLConnection: TlsConnection,
}
"""Our class for each class of connection that `parse_url` names."""


class _MasterConnection(PlainConnection):
    """A connection to the server that is the master when the connection is made."""

    def __init__(self, *, master_finder: MasterFinder, **options: Any) -> None:
        self._master_finder = master_finder
        self._answer: MasterAnswer
        super().__init__(**options)

    async def _connect(self) -> None:
        self._answer = await self._master_finder.find_master()
        self.host, self.port = self._answer[1]
        await super()._connect()  # type: ignore[no-untyped-call]  # the library's

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Raise ReadOnlyError if the server is not a master.

        The role is read from the reply to HELLO, which every user may send, and not from ROLE.
        """
        await super().on_connect_check_health(check_health)
        await self.send_command("HELLO", check_health=False)
        reply = await self.read_response()
        role = dict(zip(reply[::2], reply[1::2], strict=True)).get(b"role")
        if role != b"master":
            raise ReadOnlyError(f"{self.host}:{self.port}, which sentinels call the master, is a replica")
        self._master_finder.register_connection(self, self._answer)

    def hang_up(self) -> None:
        """Close the connection at once: a task that awaits a reply on it gets an error."""
        if self._writer is not None:
            self._writer.transport.abort()


class _TlsMasterConnection(_MasterConnection, TlsConnection):
    """A connection over TLS to the server that is the master when the connection is made."""
