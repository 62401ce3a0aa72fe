"""Loading a series: which source of its cascade serves it, and what goes onto the bus.

Enters: a series, the state of its sources, their answers.
Leaves: new and corrected records on the streams, in one step with the state of the series.
Never: two loads of one series at a time.
"""
