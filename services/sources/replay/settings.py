"""Define the settings of a recording that sources plays instead of asking outside. Pure."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from marketswarm.agent import ServiceConfig
from marketswarm.agent.service_config import require_file_below

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{1,39}")


def _require_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names) or not all(map(_NAME.fullmatch, names)):
        raise ValueError("must be different names of small letters, digits and _, such as replay_a")
    return names


class ReplaySettings(ServiceConfig):
    """`settings.replay` of sources: a recorded day that is played as if it were now, and marked as such."""

    file: Annotated[
        str, Field(min_length=1, max_length=1000), AfterValidator(require_file_below(".jsonl.gz", ".jsonl"))
    ]
    """The recording: a path below the working directory, ending in `.jsonl.gz`; in `.jsonl` if it has frames
    of massive's stream. Example: `"examples/recorded/day.jsonl.gz"`."""
    speed: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 60.0
    """How much faster than it was recorded: 1 is as recorded, 60 is a minute in a second. Example: `600`."""
    names: Annotated[tuple[str, ...], Field(min_length=1, max_length=10), AfterValidator(_require_names)] = (
        "replay",
    )
    """What `from` of a series calls the recording; several names are several sources. Example:
    `["replay_a", "replay_b"]`."""
    start: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    """When within the recording it begins, in ISO 8601; another one needs a new data folder. Default: its own
    beginning. Example: `"2026-11-20T14:30:00Z"`."""
