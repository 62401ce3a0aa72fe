"""Inject faults into real fleets, one at a time, and judge what a healer does: `python -m bench.faultgym`."""
