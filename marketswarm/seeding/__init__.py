"""Seed one truth into all buses, or into none. `python -m bootstrap` and `marketswarm seed` share this."""
