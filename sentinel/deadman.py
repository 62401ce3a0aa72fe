"""The dead man's switch: requests a URL at an outside service while all is well.

When the requests end, that service notifies people. They end when the sentinel is gone, and while the healer
is down or not heard.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from marketswarm import log as logs
from marketswarm.channels import SendError
from marketswarm.channels.http import Http, find_host

LOOK_EVERY_SEC: Final = 0.5
AGAIN_SEC: Final = 10.0
COMPLAIN_EVERY_SEC: Final = 600.0

log = logs.get("deadman")


async def ping(url: str, interval_sec: float, is_well: Callable[[], bool]) -> None:
    """Request `url` every `interval_sec` seconds while `is_well()` is True, until cancelled.

    The first request is sent at once. A failed request is tried again after ten seconds, if that is sooner.
    """
    clock = asyncio.get_running_loop().time
    http, due = Http(), clock()
    complained_at, failed = -COMPLAIN_EVERY_SEC, 0
    try:
        while True:
            if is_well() and clock() >= due:
                due = clock() + interval_sec
                try:
                    await http.request("GET", url)
                except SendError as error:
                    failed, due = failed + 1, min(due, clock() + AGAIN_SEC)
                    if clock() - complained_at >= COMPLAIN_EVERY_SEC:
                        complained_at = clock()
                        log.warning("deadman.failed", where=find_host(url), reason=error.reason, count=failed)
                else:
                    if failed:
                        log.info("deadman.resumed", where=find_host(url), failed=failed)
                    complained_at, failed = -COMPLAIN_EVERY_SEC, 0
            await asyncio.sleep(min(LOOK_EVERY_SEC, interval_sec))
    finally:
        await http.aclose()
