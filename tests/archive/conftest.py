"""A server of PostgreSQL for each worker, and a new database for each test."""

from support.postgres import archive_url, postgres

__all__ = ["archive_url", "postgres"]
