"""A log that keeps what is logged, for parts that are given one."""


class RecordingLog:
    """Keeps each event with its fields in `lines`, whatever its level."""

    def __init__(self):
        self.lines = []

    def info(self, event, **fields):
        self.lines.append((event, fields))

    warning = error = info
