"""Hold what changes the fleet for clients: the pages, the API and the pings share one of each.

So a token's writes and an address's wrong tokens count once, whichever way they come, and one of them at a
time edits the truth.
"""

from dataclasses import dataclass

from marketswarm.truth import SYSTEM
from services.board.audit import AuditLog
from services.board.board import Board
from services.board.steering import Steering
from services.board.tokens import TokenVerifier
from services.board.truth_editor import TruthEditor


@dataclass(frozen=True, slots=True)
class Controls:
    """Verify tokens, note what clients do, steer the fleet, and edit its truth."""

    verifier: TokenVerifier
    audit: AuditLog
    steering: Steering
    editor: TruthEditor


def create_controls(board: Board) -> Controls:
    """Return the controls of a board's fleet."""
    audit = AuditLog(lambda: board.me.bus(SYSTEM))
    return Controls(
        TokenVerifier(lambda: board.me.bus(SYSTEM)),
        audit,
        Steering(lambda: board.buses, audit, lambda: board.truth),
        TruthEditor(
            lambda: board.buses,
            audit,
            lambda: board.truth,
            lambda: board.settings_now().settings.seed,
            board.me.settings.truth_redis_key,
        ),
    )
