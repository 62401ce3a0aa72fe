"""Run the command that the environment of the medic names, with the service as its last argument.

It is for what runs a service elsewhere: systemd, a container engine, a cluster. The truth chooses by the name
of the remedy for which services it may be run, and never what is run.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from marketswarm.channels.exec import ENV_NAMES, run_command
from marketswarm.text import escape_text, format_duration
from services.medic.facts import RestartOwner, TargetFacts
from services.medic.refusal import Refusal
from services.medic.remedies.remedy import OrderResult, RemedyContext, RemedyOrder
from services.medic.remedies.restart import Restart

MAX_SAID: Final = 120
"""How much of the last line that a command writes is on record, in characters."""


@dataclass(frozen=True, kw_only=True)
class RunCommand(Restart):
    """Have something else replace the process of a target; verified as a restart, by beats of a newer one.

    The identity is that of the process where `marketswarm up` runs it, and the `boot` of the last beat
    elsewhere.
    """

    def is_useful(self, target: TargetFacts) -> bool:
        return target.boot is not None  # beats verify it, and could not

    def find_identity(self, target: TargetFacts) -> str:
        return super().find_identity(target) or target.boot or ""

    def list_refusals(self, target: TargetFacts, start_grace_sec: float) -> Iterator[Refusal]:
        if target.boot is None:
            yield Refusal.UNKNOWN
        if target.has_several:
            yield Refusal.SEVERAL_PROCESSES
        if (process := target.process) is not None:
            if process.is_waiting and target.owner is not RestartOwner.MEDIC:
                yield Refusal.OWNER_RESTARTS
            elif not process.is_waiting and process.age_sec < start_grace_sec:
                yield Refusal.START_GRACE

    def is_done(self, identity: str, target: TargetFacts) -> bool:
        return target.boot is not None and self.find_identity(target) != identity

    def is_undone(self, _identity: str, _target: TargetFacts) -> bool:
        return False  # it may have run, and not have done anything yet

    async def apply(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        """Run the command. One that fails or takes too long may have done a part of it."""
        if not context.command:
            return OrderResult.REFUSED, "MEDIC_COMMAND is not set"
        env = {name: os.environ[name] for name in ENV_NAMES if name in os.environ}
        began = time.monotonic()
        try:
            code, said = await run_command((*context.command, order.svc), b"", env, context.command_sec)
        except TimeoutError:
            return OrderResult.UNKNOWN, f"the command had not ended after {context.command_sec:g} s: killed"
        except OSError as error:
            return OrderResult.REFUSED, f"the command can't be run: {error.strerror}"
        took = format_duration(time.monotonic() - began)
        words = f"the command ended with {code} after {took}: {escape_text(said)[:MAX_SAID]}"
        return OrderResult.UNKNOWN if code else OrderResult.DONE, words.removesuffix(": ")
