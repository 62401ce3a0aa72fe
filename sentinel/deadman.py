"""Tells someone outside, again and again, that all is well; when that stops, they know that we are gone.

It is silent while the healer is missed or can't be heard: then all is not well. Nothing waits for it.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from marketswarm import log as logs
from marketswarm.channels import SendError
from marketswarm.channels.http import Http, host_of

LOOK_EVERY_SEC: Final = 0.5
AGAIN_SEC: Final = 10.0
COMPLAIN_EVERY_SEC: Final = 600.0

log = logs.get("deadman")


async def ping(url: str, interval_sec: float, well: Callable[[], bool]) -> None:
    """GETs `url` every `interval_sec` while `well()`, until cancelled; the first time as soon as it is.

    One that failed is tried again after ten seconds, if that is sooner.
    """
    clock = asyncio.get_running_loop().time
    http, due = Http(), clock()
    complained_at, failed = -COMPLAIN_EVERY_SEC, 0
    try:
        while True:
            if well() and clock() >= due:
                due = clock() + interval_sec
                try:
                    await http.request("GET", url)
                except SendError as error:
                    failed, due = failed + 1, min(due, clock() + AGAIN_SEC)
                    if clock() - complained_at >= COMPLAIN_EVERY_SEC:
                        complained_at = clock()
                        log.warning("deadman.failed", where=host_of(url), reason=error.reason, count=failed)
                else:
                    if failed:
                        log.info("deadman.resumed", where=host_of(url), failed=failed)
                    complained_at, failed = -COMPLAIN_EVERY_SEC, 0
            await asyncio.sleep(min(LOOK_EVERY_SEC, interval_sec))
    finally:
        await http.aclose()
