"""Define the error of a request that is refused; the API turns it into an answer."""

from http import HTTPStatus
from math import ceil


class RefusedError(Exception):
    """A request is refused: the HTTP `status`, the reason, and in how many seconds to try again, if ever."""

    def __init__(self, status: int, reason: str, retry_sec: float | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.retry_sec = status, reason, retry_sec

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer that belong to the status."""
        headers = {"WWW-Authenticate": "Bearer"} if self.status == HTTPStatus.UNAUTHORIZED else {}
        if self.retry_sec is not None:
            headers["Retry-After"] = str(ceil(self.retry_sec))
        return headers
