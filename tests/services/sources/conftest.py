"""A bus in memory, and the errors of ours in loads."""

import pytest

from marketswarm import log as logs
from marketswarm.testing import MemoryBus
from services.sources.cascade import source_reader
from support.fixtures import closed

bus = closed(lambda: MemoryBus("market-redis"))


@pytest.fixture(autouse=True)
def load_errors(monkeypatch):
    """The errors of ours in loads: series, source and error. A test that expects some clears the list.

    Such an error is no crash of the service, but it fails the test that did not expect it.
    """
    errors = []

    def keep(event, **fields):
        assert event == "series.error"
        errors.append((fields["series"], fields["source"], fields["exc_info"]))

    log = logs.get("sources")
    log.error = keep
    monkeypatch.setattr(source_reader, "log", log)
    yield errors
    for _, _, error in errors:
        raise error
