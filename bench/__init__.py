"""Figures, as ratios within one run where they can be. `make bench`, or `python -m bench heard` for one."""
