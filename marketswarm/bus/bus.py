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

from redis import exceptions as redis_errors
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from marketswarm.bus.errors import (
    CLUSTER_DETAIL,
    CLUSTER_ERRORS,
    GARBLED,
    BusError,
    ClusterError,
    FunctionMissingError,
    ReplyTooLongError,
    first_line,
    reason_of,
)
from marketswarm.bus.failover import drop_idle, make_pool
from marketswarm.bus.parser import BoundedParser, ReplyTooLong, reply_limit
from marketswarm.bus.scripts import Script
from marketswarm.bus_url import FORMS, is_one, place
from marketswarm.truth import Truth, resolve
from marketswarm.truth.credentials import parse_reference

WITHIN_SEC: Final = 2.0
"""The time limit of a request whose caller sets none."""
SEED_FIRST: Final = "run bootstrap, or `marketswarm seed`, which loads the functions of this release"
_NO_FUNCTION: Final = r"(?i)function not found|unknown command|'?fcall'? command"
"""Matches the error reply of a server that lacks the function, lacks functions at all, or forbids FCALL."""


def find_url(name: str, environ: Mapping[str, str], truth: Truth | None = None) -> str:
    """Return the URL of the bus `name`.

    The first of these that is set: the variable `<NAME>_URL`, the file that `<NAME>_URL_FILE` names, the URL
    in `truth`, and `redis://<name>:6379`. A URL in the truth may refer to a variable of `environ`.

    Raises:
        BusError: (`error`) what was found is no URL of a bus, the file can't be read, or a variable is not
            set. The message names the variable or the path in the truth, and never the value.
    """
    variable = variable_of(name)
    if url := environ.get(variable):
        return _usable(name, url, variable)
    if path := environ.get(variable + "_FILE"):
        try:
            text = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "is not UTF-8 text"
            raise BusError(name, "error", f"{variable}_FILE: {why}") from None
        return _usable(name, text, f"{variable}_FILE")
    if truth is not None and (said := truth.bus_url(name)):
        source = f"buses.{name}.url" if name in truth.buses else "heartbeat.redis_url"
        try:
            url = str(resolve(said, environ))
        except LookupError as error:
            raise BusError(name, "error", f"{source}: {error.args[0]}") from None
        pointed = parse_reference(said)
        return _usable(name, url, source if pointed is None else f"{pointed}, which {source} names")
    return f"redis://{name}:6379"


def _usable(name: str, url: str, source: str) -> str:
    """Return `url` if a bus can have it. Raise BusError, which names its `source`, if not."""
    if not _is_usable(url):
        raise BusError(name, "error", f"{source}: is not {FORMS}")
    return url


@lru_cache(maxsize=256)
def _is_usable(url: str) -> bool:
    """Return True if `url` is the URL of a bus and the client library accepts its query."""
    try:
        make_pool(url)
    except (ValueError, TypeError):
        return False
    return is_one(url)


def variable_of(name: str) -> str:
    """Return the environment variable that holds a bus's URL: SYSTEM_REDIS_URL for system-redis."""
    return name.upper().replace("-", "_").replace(".", "_") + "_URL"


class Bus:
    """A client that sends commands to one named server. Replies are bytes.

    Args:
        name: the bus's name in the truth.
        url: its URL, in one of the forms that `bus_url.py` parses. Credentials in it are never shown.
        within_sec: the time limit of a request whose caller sets none.
    """

    def __init__(self, name: str, url: str, *, within_sec: float = WITHIN_SEC) -> None:
        self.name = name
        self.url = url
        self.within_sec = within_sec
        self.where = place(url)
        try:
            # no time-outs of the client's own: on Python 3.11 those can swallow a cancellation, and every
            # request is bounded by `ask` anyway
            self.pool = make_pool(
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
            raise BusError(name, "error", f"not {FORMS} ({type(error).__name__})") from None
        self.client: Redis = Redis(connection_pool=self.pool)
        self._has_functions = True

    def pipeline(self, *, transaction: bool = False) -> Pipeline:
        """Return a pipeline for several commands in one round trip; await `bus.ask(pipe.execute())`."""
        return self.client.pipeline(transaction=transaction)

    async def ask(
        self, request: Awaitable[Any], within_sec: float | None = None, *, longest: int | None = None
    ) -> Any:
        """Await a request of `client` or of a pipeline, and return its reply.

        Args:
            request: the request.
            within_sec: its time limit in seconds; None: the limit of this bus.
            longest: the most bytes of the reply; None: the limit of the context, else that of the parser.

        Raises:
            BusError: the request failed, or took longer than its limit.
            ReplyTooLongError: the reply has more than `longest` bytes.
            ClusterError: the server is part of a Redis Cluster.
        """
        limited, cancels = reply_limit.set(longest or reply_limit.get()), _cancels()
        try:
            async with asyncio.timeout(within_sec or self.within_sec):
                reply = await request
        except ReplyTooLong as error:
            _raise_swallowed(cancels)
            raise ReplyTooLongError(self.name, "error", first_line(error)) from error
        except (redis_errors.RedisError, OSError, *GARBLED) as error:
            _raise_swallowed(cancels)
            reason = reason_of(error)
            if reason == "error" and isinstance(error, CLUSTER_ERRORS):
                raise ClusterError(self.name, reason, CLUSTER_DETAIL) from error
            if reason == "readonly":
                # the server was demoted; its name or its sentinels may lead to the new master by now
                await drop_idle(self.pool)
            raise BusError(self.name, reason, first_line(error)) from error
        else:
            _raise_swallowed(cancels)
            return reply
        finally:
            reply_limit.reset(limited)

    async def script(
        self,
        script: Script,
        keys: Sequence[str | bytes],
        args: Sequence[str | bytes | float],
        within_sec: float | None = None,
    ) -> Any:
        """Run a Lua script and return its reply. Raises BusError.

        Where the server has the script's function, it is called by name; elsewhere the script is sent.
        """
        return await self.ask(self._run(script, list(keys), list(args)), within_sec)

    async def _run(self, script: Script, keys: list[str | bytes], args: list[str | bytes | float]) -> Any:
        """Call the script's function and return its reply; send the script itself if there is none."""
        missing: redis_errors.ResponseError | None = None
        if script.function and self._has_functions:
            try:
                return await self.client.fcall(script.function, len(keys), *keys, *args)
            except redis_errors.ResponseError as error:
                if not re.search(_NO_FUNCTION, str(error)):
                    raise
                missing = error
                self._has_functions = "unknown command" not in str(error)
        try:
            return await self.client.register_script(script.text)(keys=keys, args=args)
        except redis_errors.NoPermissionError as error:
            if missing is None or isinstance(missing, redis_errors.NoPermissionError):
                raise missing or error from None
            raise FunctionMissingError(f"it has no function {script.function}: {SEED_FIRST}") from None

    async def aclose(self) -> None:
        """Close every connection of the client without waiting for the server."""
        await self.client.aclose()
        await self.pool.disconnect()


def _cancels() -> int:
    """Return how many requests to cancel the current task are pending; 0 outside a task."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _raise_swallowed(before: int) -> None:
    """Raise CancelledError if the task was cancelled since `_cancels()` returned `before`.

    The client library disconnects when it is cancelled, and may then raise an error of its own instead.
    """
    if _cancels() > before:
        raise asyncio.CancelledError
