"""Seed one truth into all buses, or into none. `python -m bootstrap` and `marketswarm seed` share this.

Enters: an accepted truth, and the buses that it names.
Leaves: the truth and its history on each bus, then a message on `truth:changed`.
Never: two buses with different truths after a seeding that ended, or a message before all of them have it.
"""
