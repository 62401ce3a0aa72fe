"""Wait until the gate of sources is open, or until there are bars: a reader that restarts waits for nobody.

It runs before bars and archive start, with their own URL: the file that MARKET_REDIS_URL_FILE names.
"""

# ruff: noqa: INP001 - a file that kustomize reads, and in no package

import json
import os
import sys
import time
from pathlib import Path

from redis import Redis, RedisError

from marketswarm.keys import CHECKED_BARS, PRELOAD_STATUS

OPEN = "open"
EVERY_SEC = 2.0


def find_state(url: str) -> str:
    """Return the state of the gate, `open` if there are bars already, or why it is not known."""
    try:
        with Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
            if client.exists(CHECKED_BARS):
                return OPEN
            status = json.loads(client.get(PRELOAD_STATUS) or b"{}")
    except (RedisError, ValueError) as error:
        return type(error).__name__
    state = status.get("state") if isinstance(status, dict) else None
    return state if isinstance(state, str) else "unknown"


def main() -> None:
    """Print each change of the state, and return when it is `open`."""
    url = Path(os.environ["MARKET_REDIS_URL_FILE"]).read_text(encoding="ascii").strip()
    state = ""
    while state != OPEN:
        if state:
            time.sleep(EVERY_SEC)
        found = find_state(url)
        if found != state:
            print(f"the gate of sources: {found[:100]}", file=sys.stderr, flush=True)  # noqa: T201 - its log
        state = found


if __name__ == "__main__":
    main()
