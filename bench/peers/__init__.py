"""Compare with other monitors that are installed here: `python -m bench.peers`."""
