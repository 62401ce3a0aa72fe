"""A server of PostgreSQL for each worker, and a new database for each test."""

import os

import pytest

from support.postgres import EXTENSION, archive_url, breakable_postgres, postgres

__all__ = ["archive_url", "breakable_postgres", "postgres"]
pytest.register_assert_rewrite("support.archive_play")

# CI can't install TimescaleDB, and takes a skipped test for a failure; elsewhere they are skipped, and say so
IN_CI = os.environ.get("MARKETSWARM_CI") == "1"
collect_ignore = ["test_hypertables.py"] if IN_CI and EXTENSION != "timescaledb" else []
