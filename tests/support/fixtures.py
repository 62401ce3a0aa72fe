"""Fixtures in one line: what is opened for a test, and closed after it."""

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal

import pytest


def opened(
    make: Callable[..., AbstractContextManager[Any]], *, scope: Literal["function", "module"] = "function"
) -> Any:
    """Return a fixture: what `make` opens. The arguments of `make` are fixtures, too."""

    @functools.wraps(make)
    def fixture(**needed: Any) -> Iterator[Any]:
        with make(**needed) as found:
            yield found

    return pytest.fixture(scope=scope)(fixture)


def closed(make: Callable[..., Any]) -> Any:
    """Return a fixture: what `make` returns, whose `aclose` is awaited after the test."""

    @functools.wraps(make)
    async def fixture(**needed: Any) -> AsyncIterator[Any]:
        async with contextlib.aclosing(make(**needed)) as found:
            yield found

    return pytest.fixture(fixture)
