"""Measure speed, delay, memory and processor time, as ratios within one run where possible.

`make bench` runs all benches, and `python -m bench heard` runs one.
"""
