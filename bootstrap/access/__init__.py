"""The one-shot before the buses start: users, passwords and URLs of a fleet in containers."""
