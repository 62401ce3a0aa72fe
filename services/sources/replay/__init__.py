"""A recording that plays as a source.

Enters: a recording, compressed JSON lines, and the time of the play.
Leaves: the records that were known by then.
Never: a record before it was known, or an end of the play because one line is no record.
"""
