"""Weigh the votes of several voters into one score and a side. Pure but for its command.

Enters: opinions, weights and rules, in whole numbers.
Leaves: a score with all that it is made of, and a side with hysteresis, or that too few voted.
Never: a float in a sum; a vote that is missing counted as flat.
"""
