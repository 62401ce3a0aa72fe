"""Parse documents in a worker process of their own, one after the other.

A document can make any parser take minutes or gigabytes, or take it over. `ParseProcess` is the side of the
agent, `answer_request` the side of the worker, which is run as `python -m services.rss_agg.parse_process`.
"""

from datetime import datetime
from typing import Final

import orjson

from marketswarm.agent.worker_process import (
    WorkerError,
    WorkerFailure,
    WorkerLimits,
    WorkerProcess,
    serve_requests,
)
from services.rss_agg.parse import MAX_ENTRIES, FeedEntry, NotAFeedError, parse_entries

LIMITS: Final = WorkerLimits(
    request_sec=10.0,
    start_sec=20.0,
    answer_bytes=MAX_ENTRIES * 40_000,
    cpu_sec=30,
    memory_bytes=1 << 30,
)
_KILLS: Final = "not_a_feed (kills its reader)"
_REASONS: Final = {
    WorkerFailure.LATE: "takes_too_long",
    WorkerFailure.DEAD: _KILLS,
    WorkerFailure.BAD_ANSWER: _KILLS,
    WorkerFailure.MEMORY: "too_much",
    WorkerFailure.RECURSION: "too_deep",
}


class ParseProcess(WorkerProcess):
    """Parse documents in one worker process at a time, started with the first document."""

    def __init__(self) -> None:
        super().__init__("services.rss_agg.parse_process", LIMITS)

    async def parse(self, body: bytes, content_type: str, base_url: str) -> list[FeedEntry]:
        """Return the entries of a document, as `parse_entries` does.

        Documents are parsed one after the other, within LIMITS. A worker that fails is killed. Raises
        NotAFeedError if the document is not a feed, or takes too much time or memory.
        """
        head = orjson.dumps({"content_type": content_type, "base_url": base_url})
        try:
            found = await self.ask(head + b"\n" + body, _parse_answer)
        except WorkerError as error:
            raise NotAFeedError(_REASONS[error.failure]) from None
        if isinstance(found, str):
            raise NotAFeedError(found)
        return found


def _parse_answer(answer: bytes) -> list[FeedEntry] | str:
    """Return the entries in the worker's answer, or why there are none. Raises ValueError if it has neither.

    A document may have taken the worker over, so its answer is checked.
    """
    found = orjson.loads(answer)
    if isinstance(found, str):
        return found[:100]
    if not isinstance(found, list) or len(found) > MAX_ENTRIES:
        raise ValueError
    return [_parse_entry(each) for each in found]


def _parse_entry(found: object) -> FeedEntry:
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise ValueError
    try:
        entry = FeedEntry(**found)
    except TypeError:  # other fields
        raise ValueError from None
    if entry.published:
        datetime.fromisoformat(entry.published)  # raises ValueError
    return entry


# -- the worker


def answer_request(request: bytes) -> bytes:
    """Return the entries of a document as JSON, or why it is not a feed. Runs in the worker."""
    head, _, body = request.partition(b"\n")
    how = orjson.loads(head)
    try:
        return orjson.dumps(parse_entries(body, how["content_type"], how["base_url"]))
    except NotAFeedError as error:
        return orjson.dumps(str(error))


if __name__ == "__main__":
    serve_requests(answer_request, LIMITS)
