"""Decide which tests are unit tests, and make a unit test fail that starts a process or opens a socket.

A unit test starts no process and opens no socket. Which test is one is read from its code: a test is live if
it, one of its fixtures or a function of the tests that they call names something of `support.rig` or
`support.scenes`, or what starts a process or a server. What the code of the product starts cannot be read
there. The guard sees it: a unit test that starts a process or opens a socket fails, and says how to mark it.
"""

import functools
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
LIVE_PACKAGES = ("support.rig", "support.scenes", "subprocess", "multiprocessing")
LIVE_NAMES = frozenset(
    {
        "create_subprocess_exec",
        "create_subprocess_shell",
        "start_server",
        "start_unix_server",
        "create_server",
    }
)
GUARDED = frozenset(
    {
        "subprocess.Popen",
        "os.posix_spawn",
        "os.fork",
        "os.forkpty",
        "os.system",
        "socket.bind",
        "socket.connect",
        "socket.sendto",
    }
)
"""Audit events that no unit test causes. asyncio's own socket pair causes none of them."""
IPV6_PROBE = ("::1", 0)
"""What urllib3 binds, when it is imported, to see whether there is IPv6."""


def is_live(item: pytest.Item) -> bool:
    """Return True if the test, by its code or that of its fixtures, starts a process or a server."""
    if not isinstance(item, pytest.Function):
        return False
    fixtures = (
        definition.func
        for definitions in item._fixtureinfo.name2fixturedefs.values()  # noqa: SLF001 - pytest's own
        for definition in definitions[-1:]
    )
    return any(_starts_something(function) for function in (_test_function(item), *fixtures))


def _test_function(item: pytest.Function) -> Any:
    """Return the function as it was written; Hypothesis keeps it in the one that it makes of it."""
    handle = getattr(item.obj, "hypothesis", None)
    return getattr(handle, "inner_test", item.obj)


@functools.cache
def _starts_something(entry: Any) -> bool:
    return any(_is_live_value(value) for value in _reachable(entry))


@functools.cache
def _reachable(entry: Any) -> frozenset[Any]:
    """Return what a function of the tests names, and what the tests' functions among that name in turn."""
    found: set[Any] = set()
    waiting = [entry]
    while waiting:
        for value in _named_by(waiting.pop()):
            if value not in found:
                found.add(value)
                waiting.append(value)
    return frozenset(found)


def _is_live_value(value: Any) -> bool:
    if isinstance(value, str):
        return value in LIVE_NAMES
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) or ""
    return module.startswith(LIVE_PACKAGES)


@functools.cache
def _named_by(value: Any) -> frozenset[Any]:
    """Return modules, classes, functions and names of `LIVE_NAMES` in the code of a function of the tests."""
    found: set[Any] = set(value.__bases__) if isinstance(value, type) else set()
    for function in _functions_of(value):
        for name in _names_in(function.__code__):
            if name in LIVE_NAMES:
                found.add(name)
            meant = function.__globals__.get(name)
            if isinstance(meant, ModuleType | type | FunctionType) or hasattr(meant, "__wrapped__"):
                found.add(meant)
    return frozenset(found)


def _functions_of(value: Any) -> Iterator[FunctionType]:
    """Yield the functions that make up a function or a class, if it is written in the tests."""
    value = _unwrapped(value)
    if isinstance(value, FunctionType):
        if _is_ours(value.__code__.co_filename):
            yield value
    elif isinstance(value, type) and _is_ours(getattr(sys.modules.get(value.__module__), "__file__", "")):
        for part in list(vars(value).values()):  # to look at a state machine adds to its class
            part = _unwrapped(part)  # noqa: PLW2901 - the same part without its decorators
            if isinstance(part, FunctionType):
                yield part


def _unwrapped(value: Any) -> Any:
    value = getattr(value, "fget", None) or getattr(value, "__func__", None) or value
    return inspect.unwrap(value) if callable(value) else value


def _is_ours(path: str | None) -> bool:
    return bool(path) and str(path).startswith(f"{TESTS}{os.sep}")


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


class Guard:
    """Makes whatever starts a process or opens a socket fail while a unit test runs."""

    def __init__(self) -> None:
        self._test = ""
        self.broken = ""
        """What the test did that a unit test does not do, or nothing."""

    def install(self) -> None:
        """Listen to what this process does; an audit hook stays until the process ends."""
        sys.addaudithook(self._audit)

    def watch(self, test: str) -> None:
        """Begin to guard a unit test."""
        self._test, self.broken = test, ""

    def release(self) -> None:
        """End to guard."""
        self._test, self.broken = "", ""

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._test and event in GUARDED:
            what = arguments[1] if event.startswith("socket.") else arguments[0]
            if what == IPV6_PROBE:
                return
            self.broken = f"{event} {what!r}"
            raise NotAUnitTestError(explained(self.broken))


class NotAUnitTestError(RuntimeError):
    """A test that is not marked `live` starts a process or opens a socket."""


def explained(broken: str) -> str:
    """Return the message for a unit test that started something: what it did, and how to mark it."""
    return (
        f"a unit test starts no process and opens no socket: {broken}. If it must, mark it: @pytest.mark.live"
    )
