"""A server of PostgreSQL for each worker, and a new database for each test, with connections to it."""

import os

import pytest

from services.archive.database import Database
from support.fixtures import closed
from support.postgres import EXTENSION, archive_url, breakable_postgres, connect, postgres

__all__ = ["archive_url", "breakable_postgres", "connect", "postgres"]

# CI can't install TimescaleDB, and takes a skipped test for a failure; elsewhere they are skipped, and say so
IN_CI = os.environ.get("MARKETSWARM_CI") == "1"
collect_ignore = ["test_hypertables.py"] if IN_CI and EXTENSION != "timescaledb" else []

database = closed(lambda archive_url: Database(archive_url))
"""The archive's own connections to the database of this test."""


@pytest.fixture
async def connection(connect, archive_url):
    """A connection to the database of this test, apart from the archive's own."""
    return await connect(archive_url)
