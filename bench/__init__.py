"""Measure speed, delay, memory and processor time, each as a ratio to a limit of the same run.

`make bench` runs all benches and writes docs/performance.md; `make bench ARGS=heard` runs one.
"""
