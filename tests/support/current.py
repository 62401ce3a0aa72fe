"""Stands for an object of the test that runs: routes are made once, with each test's own things behind them.

To make the routes of one API takes FastAPI longer than most tests take.
"""

from typing import Any


class Current:
    """Has the attributes of `value`, which each test sets anew."""

    value: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.value, name)
