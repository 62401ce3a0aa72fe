"""Seed the truth into every bus, and write the users of the buses: two programs that run once and end.

Enters: truth.json, the environment, the folder ACCESS_DIR.
Leaves: the truth on all buses or on none; files with users, passwords and URLs; an exit code.
Never: a password in a log, or one made anew that was there.
"""
