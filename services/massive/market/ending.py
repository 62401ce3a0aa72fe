"""How a connection ends and how a request fails: one word each, the same in logs, beats and tests. Pure."""


class Ended(Exception):  # noqa: N818 - every connection ends
    """A connection is at its end, or never began; `reason` is one word, such as cut, refused, auth_failed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RestError(Exception):
    """It could not be had. `word`: a status, as `http_403`, or what went wrong. `pause_sec`: their wish."""

    def __init__(self, word: str, pause_sec: float | None = None) -> None:
        super().__init__(word)
        self.word, self.pause_sec = word, pause_sec
