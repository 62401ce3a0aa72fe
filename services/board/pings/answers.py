"""Name the answers to pings: statuses and texts as Healthchecks has them."""

from dataclasses import dataclass
from math import ceil
from typing import Final


@dataclass(frozen=True, slots=True)
class PingAnswer:
    """The answer to a ping: a status, a text, and in how many seconds to try again, if ever."""

    status: int
    body: bytes
    retry_sec: float | None = None
    content_type: bytes = b"text/plain; charset=utf-8"

    def make_headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"content-type", self.content_type), (b"content-length", str(len(self.body)).encode())]
        if self.retry_sec is not None:
            headers.append((b"retry-after", str(ceil(self.retry_sec)).encode()))
        return headers


OK: Final = PingAnswer(200, b"OK")
CREATED: Final = PingAnswer(201, b"Created")
BAD_URL: Final = PingAnswer(400, b"invalid url format")
BAD_UUID: Final = PingAnswer(400, b"invalid uuid format")
NOT_FOUND: Final = PingAnswer(404, b"not found")
BAD_METHOD: Final = PingAnswer(405, b"method not allowed")
AMBIGUOUS: Final = PingAnswer(409, b"ambiguous slug")
TOO_LARGE: Final = PingAnswer(413, b"body too large")
NO_BUS: Final = PingAnswer(503, b"no bus took the ping", 5.0)
TOO_MANY: Final = PingAnswer(503, b"too many pings wait", 1.0)
NOT_READY: Final = PingAnswer(503, b"the keys can't be read now", 1.0)


class RefusedPingError(Exception):
    """A ping is refused; `answer` is what the client gets."""

    def __init__(self, answer: PingAnswer) -> None:
        super().__init__(answer.body.decode())
        self.answer = answer
