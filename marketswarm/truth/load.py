"""Bytes in, an accepted truth or all its mistakes out.

Pure: whoever has the bytes gives them. Not here: files, buses, revisions (`marketswarm.seeding`).
"""

import hashlib
from dataclasses import dataclass

from marketswarm.truth.clashes import look_for_clashes
from marketswarm.truth.decode import decode, look_through
from marketswarm.truth.document import Truth
from marketswarm.truth.problems import Findings, Problem, TruthError
from marketswarm.truth.sections import build


@dataclass(frozen=True, slots=True)
class Loaded:
    """An accepted document, the doubts about it, and the SHA-256 of its bytes in hex."""

    truth: Truth
    warnings: tuple[Problem, ...]
    sha256: str


def load(raw: bytes) -> Loaded:
    """Reads and checks a document.

    Whether a document is accepted depends on its bytes alone, on nobody's environment: else one agent would
    follow a truth that the other refuses.

    Raises:
        TruthError: with every mistake at once. Nothing else, whatever the bytes.
    """
    document, twice = decode(raw)
    findings = Findings()
    look_through(document, twice, findings)
    truth = build(document, findings)
    look_for_clashes(truth, findings)
    errors = findings.errors(document)
    if errors:
        raise TruthError(errors)
    return Loaded(truth, findings.warnings(document), hashlib.sha256(raw).hexdigest())
