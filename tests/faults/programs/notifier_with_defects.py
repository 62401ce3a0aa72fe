"""The notifier with two defects: no event of `bad` can be handled, and the first batch ever can't be grouped.

A program for tests, so that the product needs no hooks. The file FIRST_BATCH shows that the second was met.
"""

import os
from pathlib import Path
from typing import Any

from marketswarm.agent import run
from notifier.__main__ import main
from notifier.router import Decision, Router
from notifier.router.grouping import DueMessage, Grouper

handle_event, group = Router.handle_event, Grouper.group


class DefectError(Exception):
    """What no part foresees."""


def handle_all_but_one(self: Router, event: Any, *args: Any, **named: Any) -> Decision:
    if event.svc == "bad":
        raise DefectError
    return handle_event(self, event, *args, **named)


def group_all_but_the_first(self: Grouper, *args: Any) -> list[DueMessage]:
    met = Path(os.environ["FIRST_BATCH"])
    if args[0] and not met.exists():
        met.touch()
        raise DefectError
    return group(self, *args)


if __name__ == "__main__":
    Router.handle_event = handle_all_but_one  # type: ignore[method-assign]
    Grouper.group = group_all_but_the_first  # type: ignore[method-assign]
    run(main)
