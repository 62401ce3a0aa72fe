"""Seed the truth into every bus, and write the users of the buses: two programs that run once and end."""
