"""A database with the tables of signals, and a pool as their writer has it."""

import pytest

from marketswarm.access.passwords import DATABASE_SIGNALS
from services.signals.store.database import SignalDatabase
from support.fixtures import closed
from support.postgres import archive_url, breakable_postgres, connect, postgres

__all__ = ["archive_url", "breakable_postgres", "connect", "postgres"]


@pytest.fixture
def signals_url(postgres, archive_url):
    """The URL of the database of this test, for the role of signals."""
    return postgres.url_as(DATABASE_SIGNALS, archive_url)


database = closed(lambda signals_url: SignalDatabase(signals_url))
"""The connections of signals to the database of this test."""


@pytest.fixture
async def owner(connect, archive_url):
    """A connection as the role that owns the tables."""
    return await connect(archive_url)
