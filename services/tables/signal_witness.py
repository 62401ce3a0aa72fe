"""Define what signals says of its witness, and for how long a log may lack signatures. Pure.

The alerts of signals and the board's health go by both.

A witness may be named by the environment of signals alone, so the truth does not say whether there is one.
"""

from typing import Annotated, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

UNSIGNED_SEC: Final = 300.0
"""For how long what is committed may be unsigned or not cosigned, if it is LATE_CHECKPOINTS, too."""
LATE_CHECKPOINTS: Final = 3
MAX_WITNESS_BYTES: Final = 1024
_WORD: Final = r"^[a-z_]{1,40}$"

WitnessWord = Annotated[str, Field(pattern=_WORD)]


class WitnessReport(BaseModel):
    """What the process that leads knows of the witness.

    Attributes:
        named: whether the truth or the environment names one.
        reason: how the last attempt to have a checkpoint cosigned ended; None before the first one.
        refused: whether the witness refused, which waiting does not mend.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    named: bool
    reason: WitnessWord | None = None
    refused: bool = False

    def encode(self) -> bytes:
        return orjson.dumps(self.model_dump())


def parse_witness_report(raw: bytes | None) -> WitnessReport | None:
    """Return a stored report; None if there is none, or what is stored is not one."""
    if raw is None or len(raw) > MAX_WITNESS_BYTES:
        return None
    try:
        return WitnessReport.model_validate_json(raw)
    except ValidationError:
        return None


def find_unsigned_sec(checkpoint_sec: float) -> float:
    """Return for how many seconds entries may have no signature, if checkpoints are signed so often."""
    return max(UNSIGNED_SEC, LATE_CHECKPOINTS * checkpoint_sec)
