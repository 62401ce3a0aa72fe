"""Find the URL of a bus, a named Redis or Valkey server, and send it commands.

To subscribe to channels, use `listener.py` or `subscriber.py`. Every failed request raises `BusError`, with a
reason that the log, the alert and the metric share. Every request has a time limit, so a frozen server costs
a caller no more than that.
"""

import asyncio
import re
from collections.abc import Awaitable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import redis.exceptions as redis_errors
from redis.asyncio.client import Pipeline, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from marketswarm.bus.errors import (
    BusError,
    ClusterError,
    FunctionMissingError,
    ReplyTooLongError,
    find_bus_reason,
    first_line,
)
from marketswarm.bus.failover import close_idle_connections, make_connection_pool
from marketswarm.bus.parser import BoundedParser, ReplyTooLong, reply_limit
from marketswarm.bus.scripts import Script
from marketswarm.bus_url import URL_FORMS, explain_bus_url, find_address, is_bus_url
from marketswarm.truth import Truth, resolve_references
from marketswarm.truth.credentials import parse_reference

WITHIN_SEC: Final = 2.0
"""The time limit of a request whose caller sets none."""
RETRY_FUNCTION_SEC: Final = 300.0
"""How long a script is sent at once to a server that lacked its function: it may be seeded meanwhile."""
SEED_FIRST: Final = "run bootstrap, or `marketswarm seed`, which loads the functions of this release"
_GARBLED_REPLY_ERRORS: Final = (ValueError, TypeError, AttributeError, LookupError, MemoryError)
"""Errors that the client library raises for malformed replies, which it unpacks without checking."""
_CLUSTER_DETAIL: Final = (
    "part of a Redis Cluster; a bus is one server, with replicas and Redis Sentinel where one is not enough"
)
_CLUSTER_ERRORS: Final = (
    redis_errors.AskError,  # MovedError is derived from it
    redis_errors.ClusterCrossSlotError,
    redis_errors.ClusterDownError,
)
"""Errors that only a server of a Redis Cluster replies with."""
_NO_FUNCTION: Final = r"(?i)function not found|unknown command|'?fcall'? command"
"""Matches the error reply of a server that lacks the function, lacks functions at all, or forbids FCALL."""


def find_bus_url(name: str, environ: Mapping[str, str], truth: Truth | None = None) -> str:
    """Return the URL of the bus `name`.

    The first of these that is set: the variable `<NAME>_URL`, the file that `<NAME>_URL_FILE` names, the URL
    in `truth`, and `redis://<name>:6379`. A URL in the truth may refer to a variable of `environ`.

    Raises:
        BusError: (`error`) what was found is not a URL of a bus, the file can't be read, or a variable is not
            set. The message names the variable or the path in the truth, and never the value.
    """
    variable = get_url_variable(name)
    if url := environ.get(variable):
        return _require_usable_url(name, url, variable)
    if path := environ.get(variable + "_FILE"):
        try:
            text = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            detail = getattr(error, "strerror", None) or "is not UTF-8 text"
            raise BusError(name, "error", f"{variable}_FILE: {detail}") from None
        return _require_usable_url(name, text, f"{variable}_FILE")
    if truth is not None and (truth_url := truth.bus_url(name)):
        source = f"buses.{name}.url" if name in truth.buses else "heartbeat.redis_url"
        try:
            url = str(resolve_references(truth_url, environ))
        except LookupError as error:
            raise BusError(name, "error", f"{source}: {error.args[0]}") from None
        reference = parse_reference(truth_url)
        return _require_usable_url(
            name, url, source if reference is None else f"{reference}, which {source} names"
        )
    return f"redis://{name}:6379"


def _require_usable_url(name: str, url: str, source: str) -> str:
    """Raise BusError, whose message names `source`, unless `url` is the URL of a bus."""
    if not _is_usable_url(url):
        raise BusError(name, "error", f"{source}: is not {explain_bus_url(url)}")
    return url


@lru_cache(maxsize=256)
def _is_usable_url(url: str) -> bool:
    try:
        return is_bus_url(url) and make_connection_pool(url) is not None
    except (ValueError, TypeError):
        return False


def get_url_variable(name: str) -> str:
    """Return SYSTEM_REDIS_URL for system-redis."""
    return name.upper().replace("-", "_").replace(".", "_") + "_URL"


class _Pipeline(Pipeline):
    """A pipeline that gives its connection back without a task for it: our pool never waits in that."""

    async def reset(self) -> None:  # type: ignore[override]  # the library's has the type of a command
        if self.watching:
            await super().reset()  # type: ignore[no-untyped-call]  # the library's
            return
        self.command_stack, self.scripts, self.explicit_transaction = [], set(), False
        if self.connection is not None:
            connection, self.connection = self.connection, None
            await self.connection_pool.release(connection)


class _Client(Redis):
    """A client that measures nothing and repeats no request; a connection that failed has closed itself."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        connection = await self.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            return await self._send_command_parse_response(  # type: ignore[no-untyped-call]
                connection, args[0], *args, **options
            )
        finally:
            await self.connection_pool.release(connection)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class Bus:
    """A client that sends commands to one named server. Replies are bytes.

    Args:
        url: its URL, in one of the forms that `bus_url.py` parses. Credentials in it are never shown.
        within_sec: the time limit of a request whose caller sets none.
    """

    def __init__(self, name: str, url: str, *, within_sec: float = WITHIN_SEC) -> None:
        self.name = name
        self.url = url
        self.within_sec = within_sec
        self.where = find_address(url)
        if not is_bus_url(url):
            raise BusError(name, "error", f"not {explain_bus_url(url)}")
        try:
            # no time-outs of the client's own: on Python 3.11 those can swallow a cancellation, and every
            # request is bounded by `ask` anyway
            self.pool = make_connection_pool(
                url,
                protocol=2,
                socket_timeout=None,
                socket_connect_timeout=None,
                retry=Retry(NoBackoff(), 0),
                health_check_interval=0,
                driver_info=None,
                parser_class=BoundedParser,
            )
        except ValueError as error:
            raise BusError(name, "error", f"not {URL_FORMS} ({type(error).__name__})") from None
        self.client: Redis = _Client(connection_pool=self.pool)
        self._has_functions = True
        self._missing_until: dict[str, float] = {}
        """Until when a function that the server lacked is not called, by its name and the loop's clock."""

    def pipeline(self, *, transaction: bool = False) -> Pipeline:
        """Return a pipeline for several commands in one round trip; await `bus.ask(pipe.execute())`."""
        return self.client.pipeline(transaction=transaction)

    async def ask(
        self, request: Awaitable[Any], within_sec: float | None = None, *, max_bytes: int | None = None
    ) -> Any:
        """Await a request of `client` or of a pipeline, and return its reply.

        Args:
            within_sec: the time limit of the request, in seconds; None: the limit of this bus.
            max_bytes: the most bytes of the reply; None: the limit of the context, otherwise that of the
                parser.

        Raises:
            BusError: the request failed, or took longer than its limit.
            ReplyTooLongError: the reply has more than `max_bytes` bytes.
            ClusterError: the server is part of a Redis Cluster.
        """
        token, cancellations = reply_limit.set(max_bytes or reply_limit.get()), _count_cancellations()
        try:
            async with asyncio.timeout(within_sec or self.within_sec):
                reply = await request
        except ReplyTooLong as error:
            _raise_swallowed_cancellation(cancellations)
            raise ReplyTooLongError(self.name, "error", first_line(error)) from error
        except (redis_errors.RedisError, OSError, *_GARBLED_REPLY_ERRORS) as error:
            _raise_swallowed_cancellation(cancellations)
            reason = find_bus_reason(error)
            if reason == "error" and isinstance(error, _CLUSTER_ERRORS):
                raise ClusterError(self.name, reason, _CLUSTER_DETAIL) from error
            if reason == "readonly":
                # the server was demoted; its name or its sentinels may lead to the new master by now
                await close_idle_connections(self.pool)
            raise BusError(self.name, reason, first_line(error)) from error
        else:
            _raise_swallowed_cancellation(cancellations)
            return reply
        finally:
            reply_limit.reset(token)

    async def script(
        self,
        script: Script,
        keys: Sequence[str | bytes],
        args: Sequence[str | bytes | float],
        within_sec: float | None = None,
    ) -> Any:
        """Call the function of a Lua script, or send the script where the server has no such function.

        A server that an older release seeded lacks all that this one changed. So that each call does not go
        there twice, a missing function is not called again for `RETRY_FUNCTION_SEC`. Raises BusError.
        """
        return await self.ask(self._run_script(script, list(keys), list(args)), within_sec)

    async def _run_script(
        self, script: Script, keys: list[str | bytes], args: list[str | bytes | float]
    ) -> Any:
        missing: redis_errors.ResponseError | None = None
        clock = asyncio.get_running_loop().time
        if script.function and self._has_functions and clock() >= self._missing_until.get(script.function, 0):
            try:
                return await self.client.fcall(script.function, len(keys), *keys, *args)
            except redis_errors.ResponseError as error:
                if not re.search(_NO_FUNCTION, str(error)):
                    raise
                missing = error
                self._has_functions = "unknown command" not in str(error)
        try:
            reply = await self.client.register_script(script.text)(keys=keys, args=args)
        except redis_errors.NoPermissionError as error:
            if missing is None and self._missing_until.pop(script.function, None) is not None:
                return await self._run_script(script, keys, args)  # a seeding took the right to send it
            if missing is None or isinstance(missing, redis_errors.NoPermissionError):
                raise missing or error from None
            raise FunctionMissingError(f"it has no function {script.function}: {SEED_FIRST}") from None
        if missing is not None:
            self._missing_until[script.function] = clock() + RETRY_FUNCTION_SEC
        return reply

    async def aclose(self) -> None:
        """Close every connection without waiting for the server."""
        await self.client.aclose()
        await self.pool.disconnect()


def _count_cancellations() -> int:
    """Return how many requests to cancel the current task are pending; 0 outside a task."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _raise_swallowed_cancellation(before: int) -> None:
    """Raise CancelledError if the task was cancelled since `_count_cancellations()` returned `before`.

    The client library disconnects when it is cancelled, and may then raise an error of its own instead.
    """
    if _count_cancellations() > before:
        raise asyncio.CancelledError
