"""A scheduler for pytest-xdist: files that share what lasts for a session go to one worker."""

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


class ByFixture(LoadScopeScheduling):
    """Gives the tests of a file, and of all files that share a fixture with it, to one worker, in order.

    Args:
        shared: by the name of what is shared, the names of the files, without `test_` and `.py`.
    """

    def __init__(self, config: pytest.Config, log: Producer, shared: Mapping[str, Collection[str]]) -> None:
        super().__init__(config, log)
        self._shared = shared

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        name = PurePosixPath(path).stem.removeprefix("test_")
        return next((shared for shared, names in self._shared.items() if name in names), path)
