"""The process that parses documents, started by `parse_process.py`.

    python -m services.rss_agg.parse_worker

A document can make any parser take minutes or gigabytes. Here it takes them from a process that holds no
secret and may be killed at any time. Requests come on stdin, answers go to stdout, each with its length in
front; the process ends when its stdin does.
"""

import contextlib
import struct
import sys
from typing import Any, BinaryIO, Final

import orjson

from services.rss_agg.parse import NotAFeedError, parse_entries

REQUEST_SIZES: Final = struct.Struct("!II")  # bytes of the head (JSON) and of the body
ANSWER_SIZE: Final = struct.Struct("!I")
MEMORY_BYTES: Final = 1 << 30
MAX_CPU_SEC: Final = 30
"""Processor time for one document: after that the process that waited for it must be gone."""


def main() -> None:
    """Answer requests until stdin ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever a library prints is no answer
    _limit_memory()
    while (request := _read_request(requests)) is not None:
        _limit_cpu_time()
        answer = _answer(*request)
        answers.write(ANSWER_SIZE.pack(len(answer)) + answer)
        answers.flush()


def _read_request(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    sizes = stream.read(REQUEST_SIZES.size)
    if len(sizes) < REQUEST_SIZES.size:
        return None
    head, body = REQUEST_SIZES.unpack(sizes)
    return orjson.loads(stream.read(head)), stream.read(body)


def _answer(head: dict[str, Any], body: bytes) -> bytes:
    try:
        entries = parse_entries(body, head["content_type"], head["base_url"])
    except NotAFeedError as error:
        return orjson.dumps({"why": str(error)})
    except MemoryError:
        return orjson.dumps({"why": "too_much"})
    except RecursionError:
        return orjson.dumps({"why": "too_deep"})
    return orjson.dumps({"entries": [entry.to_dict() for entry in entries]})


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system has these limits
        import resource  # noqa: PLC0415 - see above

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _limit_cpu_time() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - see above

        used = resource.getrusage(resource.RUSAGE_SELF)
        _soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + MAX_CPU_SEC, hard))


if __name__ == "__main__":
    main()
