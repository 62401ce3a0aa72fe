"""The process that takes documents apart: `python -m services.rss_agg.parse_worker`, started by `parser.py`.

A document can make any parser take minutes or gigabytes; here it takes them from a process that holds nothing
and may be ended at any time. Frames on stdin and stdout; ends with its stdin.
"""

import contextlib
import struct
import sys
from typing import Any, BinaryIO, Final

import orjson

from services.rss_agg.parse import NotAFeed, entries_of

ASKED: Final = struct.Struct("!II")  # length of the head, length of the body
TOLD: Final = struct.Struct("!I")
MEMORY: Final = 1 << 30
ORPHANED_SEC: Final = 30
"""Seconds of computing for one document, after which nobody can be waiting any more."""


def main() -> None:
    """Take apart what comes, until nothing comes any more."""
    asked, told = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever a library prints is no answer
    _bound_memory()
    while (found := _next(asked)) is not None:
        _bound_time()
        answer = _answer(*found)
        told.write(TOLD.pack(len(answer)) + answer)
        told.flush()


def _next(asked: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    sizes = asked.read(ASKED.size)
    if len(sizes) < ASKED.size:
        return None
    head, body = ASKED.unpack(sizes)
    return orjson.loads(asked.read(head)), asked.read(body)


def _answer(head: dict[str, Any], body: bytes) -> bytes:
    try:
        entries = entries_of(body, head["kind"], head["base"])
    except NotAFeed as error:
        return orjson.dumps({"why": str(error)})
    except MemoryError:
        return orjson.dumps({"why": "too_much"})
    except RecursionError:
        return orjson.dumps({"why": "too_deep"})
    return orjson.dumps({"entries": [entry.as_dict() for entry in entries]})


def _bound_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system has this
        import resource  # noqa: PLC0415 - see above

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _bound_time() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - see above

        used = resource.getrusage(resource.RUSAGE_SELF)
        _soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + ORPHANED_SEC, hard))


if __name__ == "__main__":
    main()
