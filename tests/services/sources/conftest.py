"""An error of ours in a load is no crash of the service, but it fails the test that did not expect it."""

import pytest

from services.sources.cascade import loader as loader_module


@pytest.fixture(autouse=True)
def load_errors(monkeypatch):
    """The errors of ours in loads: series, source and error. A test that expects some clears the list."""
    errors = []
    monkeypatch.setattr(
        loader_module, "log_error", lambda series, source, error: errors.append((series.id, source, error))
    )
    yield errors
    for _, _, error in errors:
        raise error
