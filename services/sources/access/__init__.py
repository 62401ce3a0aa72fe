"""Asking a source outside: within its limits, while its breaker is closed, with its keys."""
