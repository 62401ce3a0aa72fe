"""The dead man's switch: requests a URL at an outside service while all is well.

When the requests end, that service notifies people. They end when the sentinel is gone, and while the healer
is down or not heard.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from marketswarm import log as logs
from marketswarm.channels import SendError
from marketswarm.channels.http import Http, find_host, require_success

POLL_SEC: Final = 0.5
RETRY_SEC: Final = 10.0
LOG_EVERY_SEC: Final = 600.0

log = logs.get("deadman")


async def ping_while_well(url: str, interval_sec: float, is_well: Callable[[], bool]) -> None:
    """Request `url` every `interval_sec` seconds while `is_well()` is True, until cancelled.

    The first request is sent at once. A failed request is tried again after ten seconds, if that is sooner.
    """
    clock = asyncio.get_running_loop().time
    http, due = Http(), clock()
    logged_at, failures = -LOG_EVERY_SEC, 0
    try:
        while True:
            if is_well() and clock() >= due:
                due = clock() + interval_sec
                try:
                    require_success(await http.exchange("GET", url))
                except SendError as error:
                    failures, due = failures + 1, min(due, clock() + RETRY_SEC)
                    if clock() - logged_at >= LOG_EVERY_SEC:
                        logged_at = clock()
                        log.warning(
                            "deadman.failed", where=find_host(url), reason=error.reason, count=failures
                        )
                else:
                    if failures:
                        log.info("deadman.resumed", where=find_host(url), failed=failures)
                    logged_at, failures = -LOG_EVERY_SEC, 0
            await asyncio.sleep(min(POLL_SEC, interval_sec))
    finally:
        await http.aclose()
