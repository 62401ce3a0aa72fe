"""`python -m services.medic`; with `--dry-run` it touches nothing, whatever the truth says."""

import os
import sys
from typing import Final

from marketswarm.agent import Code, Exit, run
from services.medic.loop import main

DRY_RUN: Final = "--dry-run"


async def start() -> int:
    """Return the exit code. Raises Exit for another argument: mistyped, it would start a medic that acts."""
    for argument in sys.argv[1:]:
        if argument != DRY_RUN:
            raise Exit(Code.CONFIGURATION, f"unknown argument {argument[:100]!r}: only {DRY_RUN} is known")
        os.environ["MEDIC_DRY_RUN"] = "true"
    return await main()


run(start)
