"""A server of PostgreSQL for each worker, with connections to its databases."""

from support.postgres import archive_url, breakable_postgres, connect, postgres

__all__ = ["archive_url", "breakable_postgres", "connect", "postgres"]
